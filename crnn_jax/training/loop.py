"""The training loop: evaluate, save, next batch, step, log; any kill goes on where it was.

    state = train_and_evaluate(config, workdir)

Step i is dispatched before the numbers of step i - 1 are fetched, so the device never waits for the
host. All that a checkpoint does not hold is a pure function of (config, step).
"""

import contextlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.data.loader import Batch
from crnn_jax.data.plan import Plan
from crnn_jax.models.crnn import CRNN
from crnn_jax.scoring.evaluation import Prediction, evaluate_batches
from crnn_jax.scoring.result import EvaluationResult
from crnn_jax.training import hosts, report
from crnn_jax.training.best import BestSoFar
from crnn_jax.training.checkpoints import Checkpoints
from crnn_jax.training.experiment import Experiment, make_experiment
from crnn_jax.training.init_from import initial_variables
from crnn_jax.training.optimizer import frozen_modules, make_optimizer, make_schedule
from crnn_jax.training.parallel import Parallel
from crnn_jax.training.pictures import FirstBatch, sheet
from crnn_jax.training.profile import Profile
from crnn_jax.training.programs import Programs
from crnn_jax.training.signals import StopRequest
from crnn_jax.training.starting import origin_of
from crnn_jax.training.state import TrainState, create_state
from crnn_jax.training.step import make_eval_step, make_train_step
from crnn_jax.training.stream import stream_of
from crnn_jax.training.summaries import Progress, Summaries
from crnn_jax.training.tally import NotFinite, NothingRead, Tally
from crnn_jax.training.workdir import Workdir, write_json


def train_and_evaluate(
    config: Any, workdir: str, *, with_new_config: bool = False
) -> TrainState | None:
    """Trains as the config says, going on from the workdir's newest sound checkpoint.

    Args:
      config: a locked ConfigDict, see configs/.
      workdir: folder of the run; made where it is missing.
      with_new_config: goes on although the config differs from the one the run was begun with.

    Returns:
      The last state; None where the run was finished already.

    Raises:
      UserError: config, data or workdir cannot be used.
      NotFinite: too many steps in a row without a finite gradient; the state before is saved.
    """
    place = Workdir(workdir)
    try:
        return _Run(config, place, with_new_config).train()
    finally:
        place.release()


class _Run:
    """One process's life of a run."""

    def __init__(self, config: Any, workdir: Workdir, with_new_config: bool):
        self.config, self.workdir = config, workdir
        self.parallel = Parallel(config.parallel)
        self.parallel.check_batch_size("batch_size", config.batch_size)
        self.parallel.check_batch_size("evaluation.batch_size", config.evaluation.batch_size)
        self.experiment: Experiment = make_experiment(config, origin_of(config, workdir))
        if jax.process_count() > 1:
            self._require_same_data()
        workdir.open(config.to_dict(), with_new_config=with_new_config)
        self.total = self.experiment.total_steps
        # One of several processes speaks for all; what goes wrong in another ends it with a line.
        self.progress = Progress(self.total, None if hosts.first() else io.StringIO())
        self.latest = Checkpoints(workdir.latest, config.checkpoint.keep, self.progress.say)
        self.best = BestSoFar(workdir)
        self.tally = Tally()
        self.waiting: tuple[Batch, dict[str, Any]] | None = None  # of a step not counted yet
        self.eval_programs: Programs | None = None
        self.closing = contextlib.ExitStack()  # of what still compiles when the run ends
        self.ending = False  # the last step is taken: what cannot be saved now is lost

        frozen = frozen_modules(config.freeze)
        self.schedule = make_schedule(config.optimizer, self.total)
        optimizer = make_optimizer(config.optimizer, self.schedule, frozen)
        convolution = self.parallel.convolution(config.model.convolution)
        model = CRNN(self.experiment.model, self.parallel.axis_name, frozen, convolution)
        variables, said = initial_variables(self.experiment, config.seed)
        hosts.require_equal("first weights (init_from)", report.weights_sha256(variables))
        for line in (*report.first_lines(self.experiment, self.parallel, variables), *said):
            self.progress.say(line)
        state = create_state(variables, optimizer, ema=config.optimizer.ema > 0)
        self.state: TrainState = self.parallel.replicate(state)
        charset = self.experiment.charset
        self.train_step = self.parallel.train_step(
            make_train_step(
                model, optimizer, blank_id=charset.blank_id, ema_decay=config.optimizer.ema
            )
        )
        self.eval_step = self.parallel.eval_step(
            make_eval_step(model, blank_id=charset.blank_id, unknown_id=self.experiment.unknown_id)
        )

    def _require_same_data(self) -> None:
        """Stops all processes where one would train on, or be measured by, something else."""
        experiment = self.experiment
        hosts.require_equal("config", str(self.config))
        hosts.require_equal("characters", " ".join(experiment.charset.symbols))
        hosts.require_equal("training data", experiment.plan.fingerprint())
        for source in experiment.validation:
            print_ = experiment.evaluation_plan(source).fingerprint()
            hosts.require_equal(f"validation data ({source.name})", print_)

    def train(self) -> TrainState | None:
        if finished := self.workdir.finished(self.total):
            self.progress.say(f"{self.workdir.path}: {finished}")
            return None
        self._resume()
        if hosts.first():
            self.workdir.begin(self.config.to_dict(), self.experiment.charset)
        begun = int(self.state.step)
        board = self.workdir.tensorboard if self.config.log.tensorboard else None
        files = (self.workdir.metrics, board) if hosts.first() else (None, None)
        self.summaries = Summaries(*files, from_step=begun)
        try:
            with StopRequest() as stop, self.closing:
                step = self._steps(begun, stop)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise UserError(
                f"out of memory with config.batch_size={self.config.batch_size}: take a smaller "
                "one, the same command then goes on with --resume=with_new_config"
            ) from None
        except (UserError, NotFinite) as error:
            self._keep(alone=not isinstance(error, NotFinite | NothingRead))
            raise
        finally:
            self.summaries.close()
        if step < self.total and not self.best.exhausted(self.config.evaluation.patience):
            self.progress.say(f"stopped at step {step} of {self.total}, run again to go on")
        else:
            self._finish(step)
        return self.state

    def _resume(self) -> None:
        found = self.latest.restore(self.state)
        if found is None:
            return
        self.state, meta = found
        self.tally = Tally.from_meta(meta["tally"])
        self.best.from_meta(meta["best"])
        self.progress.say(f"going on from step {int(self.state.step)}")

    def _steps(self, begun: int, stop: StopRequest) -> int:
        """Runs to the end, a signal or the end of patience; returns the last step taken."""
        config, experiment = self.config, self.experiment
        step = begun
        clock = report.Clock()
        profile = Profile(config.log.profile, self.workdir.tensorboard)
        augment = config.data.augment
        stream = stream_of(
            experiment,
            experiment.plan,
            experiment.train,
            start=begun,
            stop=self.total,
            augment=augment,
        )
        programs = self._train_programs(begun)
        while step < self.total:
            profile.before(step)
            clock.wait()
            batch = next(stream)
            clock.work()
            placed = self.parallel.shard(batch)
            if not programs.ready(placed):
                self.progress.say(f"compiling for {batch['image'].shape[2]} px")
                with clock.compiling():
                    programs.wait(placed)
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                self.state, metrics = programs(self.state, placed)
            step += 1
            self._count()
            self.waiting = (batch, metrics)
            # Once: a signal may come at any line below.
            asked = hosts.stop_asked(stop.asked, step)
            self.ending = last = step == self.total or asked
            evaluates = step % experiment.evaluate_every == 0 or step == self.total
            saves = step % config.checkpoint.every_steps == 0 or evaluates or last
            if step % config.log.every_steps == 0 or saves:
                self._count()  # what is written must not depend on where a run stopped
            if step % config.log.every_steps == 0:
                self._log(step, clock)
            if evaluates and experiment.validation:
                self._evaluate(step)
                clock.pause()
            if saves:
                self._save(step, clock)
            if asked or self.best.exhausted(config.evaluation.patience):
                break
        profile.stop()
        return step

    def _train_programs(self, begun: int) -> Programs:
        """The training step, compiled for the widths that come next."""
        plan = self.experiment.plan
        widths = plan.upcoming_widths(begun, self.total)
        if len(widths) > 1:
            self.progress.say(f"compiling for {len(widths)} widths, several at a time")
        batches = self._blank_batches(plan, widths)
        return self._compiled(self.train_step, self.state, batches)

    def _eval_programs(self, variables: dict[str, Any]) -> Programs:
        """The evaluation step, compiled for the widths of the validation data."""
        plans = [self.experiment.evaluation_plan(s) for s in self.experiment.validation]
        batches = [
            self._blank_batches(plan, plan.upcoming_widths(0, plan.steps_per_epoch))
            for plan in plans
        ]
        return self._compiled(self.eval_step, variables, itertools.chain(*batches))

    def _compiled(self, step: Any, state: Any, batches: Iterable[dict[str, Any]]) -> Programs:
        # pmap over several processes is lowered from arrays only.
        ahead = self.parallel.mode == "jit" or jax.process_count() == 1
        programs = Programs(step, state, batches, ahead=ahead)
        self.closing.callback(programs.close)
        return programs

    def _blank_batches(self, plan: Plan, widths: list[int]) -> Iterator[dict[str, Any]]:
        """A batch of each width as the devices get it, for its shapes."""
        rule, rows = self.experiment.preprocessing, plan.batch_size // jax.process_count()
        for width in widths:
            yield self.parallel.shard(
                {
                    "image": np.zeros((rows, rule.height, width, rule.channels), np.uint8),
                    "width": np.zeros(rows, np.int32),
                    "label": np.zeros((rows, plan.label_axis(width)), np.int32),
                    "label_length": np.zeros(rows, np.int32),
                    "mask": np.zeros(rows, bool),
                }
            )

    def _count(self) -> None:
        """Waits for the numbers of the last step, if they were not counted yet."""
        if self.waiting is None:
            return
        (batch, metrics), self.waiting = self.waiting, None
        name_of, most = self.experiment.train.identity, self.config.optimizer.max_not_finite
        self.tally.add(batch, jax.device_get(metrics), most, name_of)

    def _share(self) -> None:
        for line in self.tally.share(hosts.gather):
            self.progress.say(line)

    def _keep(self, *, alone: bool) -> None:
        """Saves what is trained where a fault ends the run, which may be this process's `alone`."""
        if int(self.state.step) and not (alone and jax.process_count() > 1):
            self._count()
            self.ending = True
            self._save(int(self.state.step), None)

    def _log(self, step: int, clock: "report.Clock") -> None:
        self._share()
        row = {"learning_rate": float(self.schedule(step - 1)), **self.tally.take()}
        row = {f"train/{name}": value for name, value in row.items()}
        speed = clock.take(self.config.batch_size)
        self.summaries.write(step, row | speed)
        left = (self.total - step) * clock.seconds_a_step
        self.progress.show(step, report.progress_text(row, speed), left)

    def _evaluate(self, step: int) -> None:
        variables = self.state.variables
        programs = self.eval_programs = self.eval_programs or self._eval_programs(variables)

        def predict(batch: Batch) -> Prediction:
            found = self.parallel.own_rows(programs(variables, self.parallel.shard(batch)))
            return Prediction(found["ids"], found["id_lengths"], found["log_prob"], found["loss"])

        result = EvaluationResult()
        for source in self.experiment.validation:
            plan = self.experiment.evaluation_plan(source)
            stream = stream_of(self.experiment, plan, source, stop=plan.steps_per_epoch)
            first = FirstBatch(predict)
            own = evaluate_batches(first, stream, source, self.experiment.charset)
            for part in hosts.gather(own.to_message()):  # all must agree on the best
                result += EvaluationResult.from_message(part)
            if self.summaries.shows and self.config.log.pictures:
                samples = first.samples(source, self.experiment.charset, self.config.log.pictures)
                self.summaries.picture(step, f"validation/{source.name}", sheet(samples))
            result.note_reasons(source.name, plan.reasons.counts)
        metrics = result.metrics()
        self.summaries.write(step, {f"validation/{k}": v for k, v in metrics.items()})
        if self.config.log.histograms:
            self.summaries.histograms(step, variables)
        for line in report.validation_lines(step, result):
            self.progress.say(line)
        if self.best.offer(step, metrics):
            state, metadata = self.parallel.savable(self.state), self.experiment.metadata(step)
            self._write(step, lambda: self.best.save(step, state, metadata))

    def _save(self, step: int, clock: "report.Clock | None") -> None:
        if clock is not None:
            self.tally.seconds += clock.since_last()
        self._share()
        meta = {
            "tally": self.tally.to_meta(),
            "best": self.best.to_meta(),
            "model": self.experiment.metadata(step),
        }
        with clock.saving() if clock is not None else contextlib.nullcontext():
            state = self.parallel.savable(self.state)
            self._write(step, lambda: self.latest.save(step, state, meta))
            if not self.experiment.validation:
                self._write(step, lambda: self.best.save_model(state, meta["model"]))

    def _write(self, step: int, save: Callable[[], None]) -> None:
        """Saves; a full disk is told, and does not end a run that could still be saved later."""
        try:
            save()
        except (OSError, UserError) as error:
            if self.ending or jax.process_count() > 1:
                raise UserError(f"step {step} could not be saved: {error}") from None
            self.progress.say(
                f"step {step} could not be saved: {error}; training goes on, earlier ones stay"
            )

    def _finish(self, step: int) -> None:
        if not hosts.first():
            return
        summary = report.summary(self.experiment, self.state, step, self.tally, self.best)
        write_json(self.workdir.summary, summary)
        for line in report.last_lines(summary, self.workdir):
            self.progress.say(line)
