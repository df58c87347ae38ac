"""The batches of a run or an evaluation, by the loader that the config names."""

from collections.abc import Iterator

import jax

from crnn_jax.core.errors import UserError
from crnn_jax.data import loader, tf_loader
from crnn_jax.data.loader import Batch
from crnn_jax.data.plan import Plan
from crnn_jax.data.source import Source
from crnn_jax.training.experiment import Experiment

LOADERS = {"threads": loader.batches, "tf": tf_loader.batches}


def stream_of(
    experiment: Experiment,
    plan: Plan,
    source: Source,
    *,
    start: int = 0,
    stop: int,
    augment: str | None = None,
) -> Iterator[Batch]:
    """This process's part of the steps start .. stop - 1; arguments as `loader.batches`.

    Raises:
      UserError: there is no such loader; while reading: the annotation was changed.
    """
    data = experiment.config.data
    if data.loader not in LOADERS:
        raise UserError(f"config.data.loader={data.loader!r}: must be threads or tf")
    return LOADERS[data.loader](
        plan,
        source,
        experiment.preprocessing,
        start=start,
        stop=stop,
        workers=data.workers,
        host=(jax.process_index(), jax.process_count()),
        augment=augment,
        seed=experiment.config.seed,
    )
