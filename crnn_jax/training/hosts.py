"""Many processes, one run: who writes, what they wait for, and what they must agree on.

    hosts.join(coordinator='10.0.0.1:1234', processes=2, process=0)   # before any other use of JAX
    if hosts.first():
        write(...)
    hosts.wait('written')

With one process, which needs no joining, `first` is true and the others do nothing. Every process
has to come past the same calls in the same order.
"""

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from crnn_jax.core.errors import UserError

TIMEOUT = 300  # seconds until all processes must have joined


def join(coordinator: str = "", processes: int = 0, process: int = -1) -> None:
    """Makes this process one of many.

    Args:
      coordinator: 'address:port' of the first process; '' where the environment tells (Slurm, Open
        MPI, Cloud TPU, GKE: what `jax.distributed.initialize` knows), with the numbers below.
      processes: how many there are.
      process: which one this is, from 0.

    Raises:
      UserError: the environment does not tell, or not all processes came.
    """
    given = (bool(coordinator), processes > 0, process >= 0)
    if any(given) and not all(given):
        raise UserError("--coordinator, --processes and --process: give all three, or none")
    if all(given) and process >= processes:
        raise UserError(f"--process={process}: must lie between 0 and {processes - 1}")
    arguments: dict[str, Any] = {}
    if all(given):
        arguments = {
            "coordinator_address": coordinator,
            "num_processes": processes,
            "process_id": process,
        }
    try:
        jax.distributed.initialize(**arguments, initialization_timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        told = str(error).splitlines()[0]
        raise UserError(f"cannot join the other processes: {told}") from None


def first() -> bool:
    """Whether this process is the one that writes and tells."""
    return jax.process_index() == 0


def wait(what: str) -> None:
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
    """Stops the run where processes see different things.

    Raises:
      UserError: on every process, naming the first that differs.
    """
    values = gather(value)
    for process, other in enumerate(values):
        if other != values[0]:
            raise UserError(f"process {process} sees other {what} than process 0")


def stop_asked(asked_here: bool, step: int) -> bool:
    """Whether to stop after this step: with several processes all of them, at the same step.

    A SIGTERM to any one of them is enough; JAX's preemption service picks the step.
    """
    if jax.process_count() == 1:
        return asked_here
    return multihost_utils.reached_preemption_sync_point(step)
