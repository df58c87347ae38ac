"""JAX functions as StableHLO programs that older runtimes load too.

program = export_program(reader(model, 'greedy', 10), model, variables_inside=True)
open('word.stablehlo', 'wb').write(program.serialize())
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crnn_jax.exporting.export_functions import width_constraint
from crnn_jax.reading.loaded_model import LoadedModel

PLATFORMS = ("cpu", "cuda", "tpu")
# What TensorFlow 2.18 reads; JAX would write for readers of the last four weeks.
STABLEHLO = "1.4.0"
CALLING_CONVENTION = 9


def export_program(
    function: Callable[..., Any],
    model: LoadedModel,
    *,
    variables_inside: bool,
    batch: int = 0,
    width: int = 0,
) -> jax.export.Exported:
    """Lowers a function (variables, images uint8 [b, h, w, c], widths int32 [b]) for all platforms.

    Args:
        function: of `export_functions`.
        model: gives variables and shapes.
        variables_inside: the program holds them as constants and takes two arguments.
        batch, width: fixed sizes; 0: free.

    Returns:
        A program without the names of source files.
    """
    b, w = jax.export.symbolic_shape("b, w", constraints=[width_constraint(model.config)])
    b, w = batch or b, width or w
    rule = model.preprocessing
    images = jax.ShapeDtypeStruct((b, rule.height, w, rule.channels), jnp.uint8)
    widths = jax.ShapeDtypeStruct((b,), jnp.int32)
    if variables_inside:
        # NumPy arrays: those of a device could not be written into a program for another.
        inside = jax.tree.map(np.asarray, model.variables)
        lowered, given = jax.jit(lambda *arrays: function(inside, *arrays)), [images, widths]
    else:
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), model.variables)
        lowered, given = jax.jit(function), [shapes, images, widths]
    with _calling_convention():
        program = jax.export.export(lowered, platforms=PLATFORMS)(*given)
    return dataclasses.replace(
        program, mlir_module_serialized=_portable(program.mlir_module_serialized)
    )


def _portable(serialized: bytes) -> bytes:
    """The same program for older readers.

    Places in source files go: TensorFlow 2.18 cannot read them, and they tell where its maker keeps
    this package.
    """
    from jaxlib.mlir import ir, passmanager
    from jaxlib.mlir.dialects import stablehlo

    with ir.Context() as context:
        stablehlo.register_dialect(context)
        module = stablehlo.deserialize_portable_artifact(context, serialized)
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
        return stablehlo.serialize_portable_artifact(module, STABLEHLO)


@contextlib.contextmanager
def _calling_convention() -> Iterator[None]:
    name = "jax_export_calling_convention_version"
    before = jax.config.values[name]
    jax.config.update(name, CALLING_CONVENTION)
    try:
        yield
    finally:
        jax.config.update(name, before)
