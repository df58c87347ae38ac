"""Runs the pure steps on all devices of all processes, and what processes tell each other.

    parallel = Parallel('jit')
    state = parallel.replicate(state)
    step = parallel.train_step(make_train_step(model, optimizer, blank_id=36))
    state, metrics = step(state, parallel.shard(batch))

`jit` says how the *global* arrays lie on the mesh, and XLA adds the communication: sums over a
batch are global. `pmap` runs the same function on each device's part, and the function sums along
the mapped axis. Both give the same numbers. Every process calls the functions below in the same
order.
"""

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from operator import attrgetter
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from crnn_jax.core.errors import UserError
from crnn_jax.models import native_library
from crnn_jax.training.step import TrainStep

AXIS = "data"
# What goes to the devices; text, ids and failures stay on the host.
DEVICE_KEYS = ("image", "width", "label", "label_length", "mask")


class Parallel:
    """One way of running on several devices.

    Attributes:
      axis_name: for the model: None under 'jit', the mapped axis under 'pmap'.
    """

    def __init__(self, mode: str, devices: list | None = None):
        if mode not in ("jit", "pmap"):
            raise UserError(f"config.parallel: {mode!r} is not jit or pmap")
        self.mode = mode
        # By process, so that each one's rows are one slice of the batch: jax.devices() does not
        # promise that, and jax.make_mesh orders by the topology.
        self.devices = sorted(devices or jax.devices(), key=lambda d: d.process_index)
        self.axis_name = AXIS if mode == "pmap" else None
        self._mesh = Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        self._replicated = NamedSharding(self._mesh, PartitionSpec())
        self._by_sample = NamedSharding(self._mesh, PartitionSpec(AXIS))

    def check_batch_sizes(self, config: Any) -> None:
        """UserError if the batches cannot be split evenly between the devices."""
        for key in ("batch_size", "evaluation.batch_size"):
            size = attrgetter(key)(config)
            if size % len(self.devices):
                raise UserError(
                    f"config.{key}: {size} does not divide by {len(self.devices)} devices"
                )

    def convolution(self, choice: str) -> str:
        """Resolves `config.model.convolution` for these devices: 'onednn' or 'xla'."""
        if choice not in ("auto", "xla", "onednn"):
            raise UserError(f"config.model.convolution: {choice!r} is not auto, xla or onednn")
        reason = native_library.unavailable() if choice != "xla" else ""
        if not reason and self.devices[0].platform != "cpu":
            reason = "it is for CPUs"
        if not reason and self.mode == "jit" and len(self.devices) > 1:
            reason = "with several devices it needs config.parallel=pmap"
        if choice == "onednn" and reason:
            raise UserError(f"config.model.convolution=onednn: {reason}")
        return "xla" if choice == "xla" or reason else "onednn"

    def replicate(self, tree: Any) -> Any:
        """The same arrays on every device."""
        return jax.device_put(tree, self._replicated)

    def savable(self, tree: Any) -> Any:
        """The arrays as ones of all processes: under 'pmap' each process holds its own copy."""
        if self.mode == "pmap" and jax.process_count() > 1:
            return self.replicate(jax.device_get(tree))
        return tree

    def shard(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """This process's slice of a batch, [b / processes, ...], as global arrays."""
        arrays = {k: np.asarray(batch[k]) for k in DEVICE_KEYS}
        if self.mode == "pmap":
            local = sum(d.process_index == jax.process_index() for d in self.devices)
            return {k: a.reshape(local, -1, *a.shape[1:]) for k, a in arrays.items()}
        return {
            k: jax.make_array_from_process_local_data(self._by_sample, a) for k, a in arrays.items()
        }

    def train_step(self, step: TrainStep) -> TrainStep:
        """Compiles a step, under 'jit' in two parts; its update gives away the state's buffers."""
        if self.mode == "pmap":  # several processes' results would not go with the first state
            whole = self._compiled(step, self._replicated, out_axes=None)
            return TrainStep(whole, lambda _, after: after)
        # XLA sums gradients and moments across the mesh.
        differentiate = self._compiled(step.differentiate, self._replicated, out_axes=None)
        update = jax.jit(step.update, out_shardings=self._replicated, donate_argnums=0)
        return TrainStep(differentiate, update)

    def eval_step(self, step: Callable) -> Callable:
        """Compiles `(variables, batch) -> per-sample results` of all rows; see `own_rows`."""
        return self._compiled(step, self._by_sample, out_axes=0)

    def _compiled(self, step: Callable, out: Any, *, out_axes: int | None) -> Callable:
        """The first argument is the same on all devices, the second is split by samples."""
        if self.mode == "pmap":
            in_axes = (None, 0)
            return jax.pmap(step, AXIS, in_axes=in_axes, out_axes=out_axes, devices=self.devices)
        sharded = (self._replicated, self._by_sample)
        return jax.jit(step, in_shardings=sharded, out_shardings=out)

    def own_rows(self, results: dict[str, Any]) -> dict[str, Any]:
        """Of what an evaluation step gives, the rows of this process's slice."""
        if self.mode == "pmap":
            return {k: v.reshape(-1, *v.shape[2:]) for k, v in results.items()}
        return multihost_utils.global_array_to_host_local_array(
            results, self._mesh, PartitionSpec(AXIS)
        )


class CompiledStep:
    """A step compiled for every shape of batch, in parallel and before it is needed.

    XLA takes seconds per shape, mostly on one core.
    """

    def __init__(self, parallel: Parallel, step: Any, state: Any, batches: Iterable[Mapping]):
        self._step, self._state = step, jax.tree.map(abstract, state)
        # pmap over several processes is lowered from arrays only.
        self._ahead = parallel.mode == "jit" or jax.process_count() == 1
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._programs: dict[tuple, Future] = {}
        self._run: set[tuple] = set()
        for batch in batches:
            self.program(batch)

    def __len__(self) -> int:
        return len(self._programs)

    def wait(self) -> Iterator[Future]:
        """The programs of all shapes that were named, each as soon as it is compiled."""
        return as_completed(self._programs.values())

    def is_new(self, batch: Mapping[str, Any]) -> bool:
        """Whether no step of this shape was taken yet: it may wait for its program."""
        return _shape(batch) not in self._run

    def program(self, batch: Mapping[str, Any]) -> Future:
        """The step for a batch's shape, maybe still compiling."""
        shape = _shape(batch)
        if shape not in self._programs:
            structs = jax.tree.map(abstract, dict(batch))
            self._programs[shape] = self._pool.submit(self._compile, structs)
        return self._programs[shape]

    def _compile(self, batch: Any) -> Callable[..., Any]:
        return self._step.lower(self._state, batch).compile() if self._ahead else self._step

    def __call__(self, state: Any, batch: Mapping[str, Any]) -> Any:
        """Takes the step, once its program is compiled."""
        self._run.add(_shape(batch))
        return self.program(batch).result()(state, batch)

    def close(self) -> None:
        """Cancels what has not begun to compile."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _shape(batch: Mapping[str, Any]) -> tuple:
    return batch["image"].shape, batch["label"].shape


def abstract(array: Any) -> jax.ShapeDtypeStruct:
    """Shape, dtype and sharding of an array."""
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=getattr(array, "sharding", None))


def join(coordinator: str = "", processes: int = 0, process: int = -1) -> None:
    """Makes this process one of many, before any other use of JAX.

    Without arguments `jax.distributed` asks Slurm, Open MPI, Cloud TPU or GKE.
    """
    given = (bool(coordinator), processes > 0, process >= 0)
    if any(given) and not (all(given) and process < processes):
        raise UserError(
            "--coordinator, --processes and --process (from 0 to processes - 1): give all three, "
            "or none"
        )
    address = (coordinator, processes, process) if all(given) else ()
    try:
        jax.distributed.initialize(*address)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot join the other processes: {reason}") from None


def is_first() -> bool:
    """Whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when every process has come to here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def gather(value: Any) -> list[Any]:
    """The JSON value of every process, in their order."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.array([text.size]))).ravel()
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: text.size] = text
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [json.loads(bytes(row[:n])) for row, n in zip(rows, lengths, strict=True)]


def require_equal(what: str, value: str) -> None:
    """Ends every process with a UserError if one of them has another value than the first."""
    values = gather(value)
    for process, other in enumerate(values):
        if other != values[0]:
            raise UserError(f"process {process} sees other {what} than process 0")


class StopRequest:
    """A context in which SIGTERM and Ctrl-C ask a run to save and stop; a second Ctrl-C kills it.

    With several processes SIGTERM belongs to JAX's preemption service; Ctrl-C is sent on as one.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        own = (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else (signal.SIGINT,)
        self._before = {number: signal.signal(number, self._handle) for number in own}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        if self._asked and number == signal.SIGINT:
            os._exit(130)  # without clean-up; checkpoints are atomic
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        self._asked = True

    @property
    def alone(self) -> bool:
        """Whether to stop, where no other process has to agree."""
        return self._asked and jax.process_count() == 1

    def asked(self, step: int) -> bool:
        """Whether to stop after this step, which all processes agree on."""
        if jax.process_count() == 1:
            return self._asked
        return multihost_utils.reached_preemption_sync_point(step)
