"""The training loop: next batch, step, log, evaluate, save; a killed run resumes exactly.

    state = train_and_evaluate(config, workdir)

Step i is dispatched before the metrics of step i - 1 are fetched, so the device never waits for the
host. What a checkpoint does not hold is a pure function of (config, step).
"""

import contextlib
import copy
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import locked_folder
from crnn_jax.core.model_file import save_model
from crnn_jax.data.loader import Batch, collate, get_augment
from crnn_jax.data.plan import Plan, PlanRow
from crnn_jax.data.source import progress_bar
from crnn_jax.decoding.greedy import Spelling
from crnn_jax.models.crnn import CRNN
from crnn_jax.reading.checkpoint import steps
from crnn_jax.scoring.evaluation import EvaluationResult, Prediction, evaluate_batches
from crnn_jax.training import logging
from crnn_jax.training.checkpoints import Checkpoints, Workdir, require_new_names, write_json
from crnn_jax.training.experiment import Experiment, make_experiment
from crnn_jax.training.init_from import load_pretrained
from crnn_jax.training.metrics import BestEvaluation, NotFinite, NothingRead, RunMetrics
from crnn_jax.training.optimizer import frozen_modules, make_optimizer, make_schedule
from crnn_jax.training.parallel import (
    CompiledStep,
    Parallel,
    StopRequest,
    gather,
    is_first,
    require_equal,
)
from crnn_jax.training.state import TrainState, Variables, create_state
from crnn_jax.training.step import make_eval_step, make_train_step


def train_and_evaluate(
    config: Any, workdir: str, *, with_new_config: bool = False
) -> TrainState | None:
    """Trains as the config says, from the workdir's newest sound checkpoint on.

    Args:
      config: a locked ConfigDict, see configs/.
      workdir: folder of the run.
      with_new_config: resumes even if the config differs from the one the run was begun with.

    Returns:
      The last state; None if the run was already finished.

    Raises:
      UserError: config, data or workdir cannot be used.
      NotFinite: too many steps in a row without a finite gradient; the state before is saved.
    """
    place = Workdir(workdir)
    parallel, experiment = _prepare(config, place)
    _require_same_everywhere(experiment)
    # One of several processes writes files, and locks for all.
    lock = locked_folder(place.path, "--workdir") if is_first() else contextlib.nullcontext()
    with lock:
        place.require_same(config.to_dict(), with_new_config=with_new_config)
        return _Run(parallel, experiment, place).train()


def preview(config: Any, workdir: str, *, with_new_config: bool = False) -> Iterator[str]:
    """The first lines of a run, then its epochs, evaluations and workdir; writes nothing."""
    place = Workdir(workdir)
    parallel, experiment = _prepare(config, place)
    place.require_same(config.to_dict(), with_new_config=with_new_config)
    get_augment(config.data.augment)
    make_optimizer(config.optimizer, make_schedule(config.optimizer, experiment.total_steps))
    variables, lines = experiment.initial_variables()
    yield from (*logging.first_lines(experiment, parallel, variables), *lines)
    if frozen := frozen_modules(config.freeze):
        yield f"not trained: {', '.join(frozen)}"
    yield from place.other_samples(experiment.plan.num_samples)
    saved = steps(place.latest)
    per_epoch, total = experiment.plan.steps_per_epoch, experiment.total_steps
    yield f"{total / per_epoch:.1f} epochs; augmentation: {config.data.augment}"
    if experiment.validation:
        every, patience = experiment.evaluate_every, experiment.patience
        ends = f", the run ends after {patience} without a better one" if patience else ""
        count = -(-total // every) + bool(experiment.pretrained and not saved)
        yield f"an evaluation every {every} steps, {count} in all{ends}"
    else:
        yield "no validation: the last weights are the ones that are kept"
    begins = f"goes on from step {saved[-1]}" if saved else "a new run"
    yield f"workdir {place.path}: {place.finished(total) or begins}"


def _prepare(config: Any, workdir: Workdir) -> tuple[Parallel, Experiment]:
    require_new_names(config.to_dict())
    parallel = Parallel(config.parallel)
    parallel.check_batch_sizes(config)
    return parallel, make_experiment(config, load_pretrained(config, workdir))


def _require_same_everywhere(experiment: Experiment) -> None:
    """Ends all processes if one would train on or be evaluated by other data."""
    if jax.process_count() > 1:
        require_equal("config", str(experiment.config))
        require_equal("characters", " ".join(experiment.charset.symbols))
        require_equal("training data", experiment.plan.fingerprint())
        for plan in experiment.evaluation_plans:
            require_equal(f"validation data ({plan.source.name})", plan.fingerprint())


class _Run:
    """A run, as one process sees it."""

    def __init__(self, parallel: Parallel, experiment: Experiment, workdir: Workdir):
        self.parallel, self.experiment, self.workdir = parallel, experiment, workdir
        self.config, self.total = experiment.config, experiment.total_steps
        self.latest = Checkpoints(workdir.latest, self.config.checkpoint.keep, logging.say)
        self.best_checkpoint = Checkpoints(workdir.best, keep=1)
        self.metrics, self.best = RunMetrics(), BestEvaluation()
        self.pending: tuple[Batch, dict[str, Any]] | None = None  # of a step not yet counted
        self.eval_program: CompiledStep | None = None
        self.closing, self.stop = contextlib.ExitStack(), StopRequest()
        self.ending = False  # there is no later save
        self.step = 0

        config = self.config
        frozen, ema = frozen_modules(config.freeze), config.optimizer.ema_decay
        self.schedule = make_schedule(config.optimizer, self.total)
        optimizer = make_optimizer(config.optimizer, self.schedule, frozen)
        convolution = parallel.convolution(config.model.convolution)
        model = CRNN(experiment.model, parallel.axis_name, frozen, convolution)
        variables, lines = experiment.initial_variables()
        require_equal("first weights (init_from)", logging.weights_sha256(variables))
        logging.say(*logging.first_lines(experiment, parallel, variables), *lines)
        self.state = parallel.replicate(create_state(variables, optimizer, ema=ema > 0))
        blank, unknown = experiment.charset.blank_id, experiment.unknown_id
        self.train_step = parallel.train_step(
            make_train_step(model, optimizer, blank_id=blank, ema_decay=ema)
        )
        self.eval_step = parallel.eval_step(
            make_eval_step(
                model,
                blank_id=blank,
                unknown_id=unknown,
                spelling=Spelling.of(experiment.charset),
            )
        )

    def train(self) -> TrainState | None:
        logging.say(*self.workdir.other_samples(self.experiment.plan.num_samples))
        if finished := self.workdir.finished(self.total):
            logging.say(f"{self.workdir.path}: {finished}")
            return None
        if found := self.latest.restore(self.state):
            self.state, meta = found
            self.step = int(self.state.step)
            self.metrics = RunMetrics.from_meta(meta["tally"])
            self.best = BestEvaluation(**meta["best"])
            if self.workdir.ended_at == self.step:
                self.best.since = 0  # the run is extended, its patience begins anew
            logging.say(f"going on from step {self.step}")
        if is_first():
            write_json(self.workdir.config, self.config.to_dict())
            self.experiment.charset.write(self.workdir.table)
        board = self.workdir.tensorboard if self.config.log.tensorboard else None
        begun_at = self.step or -1  # of a run killed before it saved, nothing is kept
        self.writer = logging.MetricsWriter(self.workdir.metrics, board, from_step=begun_at)
        self.clock = logging.Clock()
        self.begun = time.perf_counter() - self.metrics.seconds
        try:
            with self.stop, self.closing:
                self._steps()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            sizes = self.config.batch_size, self.config.evaluation.batch_size
            raise UserError(
                "out of memory with config.batch_size={}, evaluation.batch_size={}: take smaller "
                "ones, the same command then resumes with --resume=with_new_config".format(*sizes)
            ) from None
        except (UserError, NotFinite) as error:
            # All processes save together: not if this one may be the only one to come here.
            everywhere = isinstance(error, NotFinite | NothingRead) or jax.process_count() == 1
            if self.step and everywhere:
                self._count()
                self.ending = True
                self._save()
            raise
        finally:
            self.writer.close()
        if self.step < self.total and not self.best.exhausted(self.experiment.patience):
            logging.say(f"stopped at step {self.step} of {self.total}, run again to go on")
        elif is_first():
            self._finish()
        return self.state

    def _steps(self) -> None:
        """Runs to the end, a signal or the end of patience."""
        config, experiment, plan = self.config, self.experiment, self.experiment.plan
        batches = experiment.batches(
            plan, experiment.train, self.step, self.total, config.data.augment
        )
        # The first batch is waited for here: more are read while the step compiles.
        batches = itertools.chain(list(itertools.islice(batches, 1)), batches)
        widths = plan.upcoming_widths(self.step, self.total)
        self.clock.restart()
        train_program = self._compile(self.train_step.differentiate, self.state, [(plan, widths)])
        trace_from, trace_to = config.log.profile or (-1, -1)
        trace = self.closing.enter_context(contextlib.ExitStack())
        if self.stop.alone:
            return
        if self.step == 0 and experiment.pretrained and experiment.validation:
            with self.clock.spend("evaluating"):
                self._evaluate()  # training may only improve on the model that it starts from
        while self.step < self.total and not self.best.exhausted(experiment.patience):
            if self.step == trace_from:
                trace.enter_context(jax.profiler.trace(str(self.workdir.tensorboard)))
            if self.step == trace_to:
                trace.close()
            with self.clock.spend("waiting"):
                batch = next(batches)
            placed = self.parallel.shard(batch)
            with jax.profiler.StepTraceAnnotation("train", step_num=self.step):
                self.state, metrics = self._take_step(train_program, placed)
            self.step += 1
            self._count()
            self.pending = (batch, metrics)
            asked = self.stop.asked(self.step)
            self.ending = last = self.step == self.total or asked
            logs = self.step % config.log.every_steps == 0
            evaluates = self.step % experiment.evaluate_every == 0 or self.step == self.total
            saves = self.step % config.checkpoint.every_steps == 0 or evaluates or last
            if logs or saves:
                self._count()  # a stopped run must write the same numbers
            if logs:
                self._log()
            if evaluates and experiment.validation:
                with self.clock.spend("evaluating"):
                    self._evaluate()
            if saves:
                self._save()
            if asked:
                break

    def _take_step(self, program: CompiledStep, batch: dict[str, Any]) -> tuple[TrainState, Any]:
        """One training step; the first of a shape is no measure of the others' time."""
        if not program.is_new(batch):
            self.clock.steps += 1
            return self.train_step.update(self.state, program(self.state, batch))
        self._count()  # waits for the step before
        with self.clock.spend("compiling"):
            after = self.train_step.update(self.state, program(self.state, batch))
            return jax.block_until_ready(after)

    def _compile(self, step: Any, state: Any, shapes: list[tuple[Plan, list[int]]]) -> CompiledStep:
        """Compiles a step for these widths of these plans."""

        def masked_batches() -> Iterator[dict[str, Any]]:
            for plan, widths in shapes:
                rows = plan.batch_size // jax.process_count()
                for width in widths:
                    none, axis = np.full(rows, -1), plan.label_axis(width)
                    row = PlanRow(none, none >= 0, width, axis, epoch=0)
                    batch = collate(row, plan.source, self.experiment.preprocessing)
                    yield self.parallel.shard(batch)

        every = sorted({width for _, widths in shapes for width in widths})
        logging.say(f"compiling for {', '.join(map(str, every))} px")
        with self.clock.spend("compiling"):
            program = CompiledStep(self.parallel, step, state, masked_batches())
            self.closing.callback(program.close)
            with progress_bar("compiled", len(program)) as bar:
                for _ in program.wait():
                    bar.update()
                    if self.stop.alone:
                        break
        return program

    def _count(self) -> None:
        """Fetches and counts the metrics of the last step."""
        if self.pending is not None:
            (batch, metrics), self.pending = self.pending, None
            most = self.config.optimizer.max_nonfinite_steps
            self.metrics.add(batch, jax.device_get(metrics), most, self.experiment.train.identity)

    def _log(self) -> None:
        logging.say(*self.metrics.share(gather))
        row = {"learning_rate": float(self.schedule(self.step - 1)), **self.metrics.take()}
        row = {f"train/{name}": value for name, value in row.items()}
        row |= self.clock.take(self.config.batch_size)
        self.writer.write(self.step, row)
        size = self.config.batch_size
        logging.say(logging.progress_line(self.step, self.total, row, size), stays=False)

    def _evaluate(self) -> None:
        experiment, variables = self.experiment, self.state.variables
        plans = experiment.evaluation_plans
        if self.eval_program is None:
            shapes = [(plan, plan.upcoming_widths(0, plan.steps_per_epoch)) for plan in plans]
            self.eval_program = self._compile(self.eval_step, variables, shapes)
        program, result = self.eval_program, EvaluationResult()

        def predict(batch: Batch) -> Prediction:
            found = self.parallel.own_rows(program(variables, self.parallel.shard(batch)))
            return Prediction(**found)

        for plan, seen in zip(plans, experiment.seen_labels, strict=True):
            source = plan.source
            batches = experiment.batches(plan, source, 0, plan.steps_per_epoch)
            first = list(itertools.islice(batches, 1))
            every = itertools.chain(first, batches)
            own = evaluate_batches(predict, every, source, experiment.charset)
            if not source.windowed:
                own.note_seen(source.name, seen)
            for part in gather(own.to_message()):  # all agree on the best
                result += EvaluationResult.from_message(part)
            self._show(f"validation/{source.name}", first, own)
            result.note_reasons(source.name, plan.reasons.counts)
        metrics = result.metrics()
        self.writer.write(self.step, {f"validation/{k}": v for k, v in metrics.items()})
        if self.config.log.histograms:
            self.writer.histograms(self.step, variables)
        logging.say(*logging.validation_lines(self.step, result))
        before = copy.copy(self.best)
        if self.best.offer(self.step, metrics):
            variables = self.parallel.savable(variables)
            meta = {"model": experiment.metadata(self.step), "metrics": metrics}

            def save() -> None:
                self.best_checkpoint.save(self.step, variables, meta)
                self._save_model(variables)

            if not self._write(save):
                self.best = before  # what is kept is not better than a later evaluation

    def _show(self, name: str, batches: list[Batch], result: EvaluationResult) -> None:
        """Writes images of a validation set and their readings to TensorBoard."""
        count = self.config.log.pictures
        if self.writer.board and count:
            rows = {row.id: row for row in result.rows}
            samples = []
            for batch in batches:
                for i in np.flatnonzero(batch["mask"])[:count]:
                    row, width = rows[int(batch["id"][i])], batch["width"][i]
                    samples.append((batch["image"][i][:, :width], row.label, row.text or ""))
            image = logging.sheet(samples)
            self.writer.board.add_image(name, image, self.step, dataformats="HWC")

    def _save(self) -> None:
        self.metrics.seconds = time.perf_counter() - self.begun
        logging.say(*self.metrics.share(gather))
        meta = {
            "tally": self.metrics.to_meta(),
            "best": vars(self.best),
            "samples": self.experiment.plan.num_samples,
            "model": self.experiment.metadata(self.step),
        }
        with self.clock.spend("saving"):
            state = self.parallel.savable(self.state)
            self._write(lambda: self.latest.save(self.step, state, meta))
            if not self.experiment.validation:
                self._write(lambda: self._save_model(state.variables))

    def _save_model(self, variables: Variables) -> None:
        """The workdir's model file."""
        if is_first():
            metadata = self.experiment.metadata(self.step)
            save_model(self.workdir.model, jax.tree.map(np.asarray, variables), metadata)

    def _write(self, save: Callable[[], None]) -> bool:
        """Whether it could save; a full disk does not end a run that may be saved later."""
        try:
            save()
            return True
        except (OSError, UserError) as error:
            message = f"step {self.step} could not be saved: {error}"
            if self.ending or jax.process_count() > 1:
                raise UserError(message) from None
            logging.say(f"{message}; training goes on, earlier ones stay")
            return False

    def _finish(self) -> None:
        """Writes summary.json and says how the run ended."""
        summary = logging.summary(self.experiment, self.state, self.metrics, self.best)
        write_json(self.workdir.summary, summary)
        if self.best.metrics:
            accuracy = self.best.metrics["accuracy"]
            logging.say(f"best at step {self.best.step}: accuracy {accuracy:.4f}")
        hours = tqdm.format_interval(summary["hours"] * 3600)
        logging.say(f"finished: {self.step} steps, {hours}, {self.workdir.model}")
