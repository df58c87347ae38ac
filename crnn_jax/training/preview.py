"""What a training run is going to do, told without doing it."""

from collections.abc import Iterator
from typing import Any

from crnn_jax.training import report
from crnn_jax.training.checkpoints import Checkpoints
from crnn_jax.training.experiment import make_experiment
from crnn_jax.training.init_from import initial_variables
from crnn_jax.training.optimizer import frozen_modules
from crnn_jax.training.parallel import Parallel
from crnn_jax.training.starting import origin_of
from crnn_jax.training.workdir import Workdir


def preview(config: Any, workdir: str) -> Iterator[str]:
    """The lines that a run begins with, then its epochs, evaluations and files.

    Args:
        config: a locked ConfigDict, see configs/.
        workdir: folder of the run; nothing is made or changed in it.

    Raises:
        UserError: what would stop the run.
    """
    place = Workdir(workdir)
    parallel = Parallel(config.parallel)
    parallel.check_batch_size("batch_size", config.batch_size)
    parallel.check_batch_size("evaluation.batch_size", config.evaluation.batch_size)
    experiment = make_experiment(config, origin_of(config, place))
    frozen = frozen_modules(config.freeze)
    variables, said = initial_variables(experiment, config.seed)
    yield from report.first_lines(experiment, parallel, variables)
    yield from said
    if frozen:
        yield f"not trained: {', '.join(frozen)}"
    per_epoch, total = experiment.plan.steps_per_epoch, experiment.total_steps
    yield f"{total / per_epoch:.1f} epochs; pictures changed on the way: {config.data.augment}"
    if experiment.validation:
        every = experiment.evaluate_every
        patience = config.evaluation.patience
        ends = f", the run ends after {patience} without a better one" if patience else ""
        yield f"an evaluation every {every} steps, {total // every or 1} in all{ends}"
    else:
        yield "no validation: the last weights are the ones that are kept"
    steps = Checkpoints(place.latest, config.checkpoint.keep).steps()
    state = f"goes on from step {steps[-1]}" if steps else "a new run"
    yield f"workdir {place.path}: {place.finished(total) or state}"
