"""A step compiled for every shape of batch, side by side and ahead of its turn.

XLA takes seconds a shape, most of them on one core. Compiling on first use would let a run of a
dozen widths stand still a dozen times.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

Shape = tuple[tuple[int, ...], ...]


class Programs:
    """One compiled `(state, batch) -> ...` a shape of batch."""

    def __init__(
        self, step: Any, state: Any, batches: Iterable[Mapping[str, Any]], *, ahead: bool = True
    ):
        """Begins to compile.

        Args:
          step: a function of `jax.jit` or `jax.pmap`.
          state: the state that it takes.
          batches: one of each shape, in the order in which they are wanted.
          ahead: False leaves compiling to the step's first use.
        """
        self._step, self._state, self._ahead = step, jax.tree.map(_abstract, state), ahead
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._compiled: dict[Shape, Future] = {}
        for batch in batches:
            self._program(batch)

    def _program(self, batch: Mapping[str, Any]) -> Future:
        shape = tuple(tuple(batch[name].shape) for name in ("image", "label"))
        if shape not in self._compiled:
            structs = jax.tree.map(_abstract, dict(batch))
            self._compiled[shape] = self._pool.submit(self._compile, structs)
        return self._compiled[shape]

    def _compile(self, batch: Any) -> Callable[..., Any]:
        return self._step.lower(self._state, batch).compile() if self._ahead else self._step

    def ready(self, batch: Mapping[str, Any]) -> bool:
        """Whether the step would run at once; begins to compile for a shape that is new."""
        return self._program(batch).done()

    def wait(self, batch: Mapping[str, Any]) -> None:
        """Returns when the step is ready for this batch."""
        self._program(batch).result()

    def __call__(self, state: Any, batch: Mapping[str, Any]) -> Any:
        """Takes the step, once its program is compiled."""
        return self._program(batch).result()(state, batch)

    def close(self) -> None:
        """Compiles nothing that was not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _abstract(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=getattr(array, "sharding", None))
