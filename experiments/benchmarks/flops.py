"""Arithmetic of a JAX function, and how much of it the device can do: one large matrix product.

    per_call = flops.of(function, *arguments)
    flops.add(rows, per_call / images)    # GFLOP/s, and their share of the product's

Multiplications and additions of convolutions and products are counted, in loops as often as they
run; all else is little. Padding that a gradient's convolution reads is counted as if it were data.
"""

import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any


def of(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of one call, found without running it."""
    import jax

    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        out = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = kernel[parameters["dimension_numbers"].rhs_spec[0]]
            total += 2 * out * math.prod(kernel) // features
        elif name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * out * math.prod(left[axis] for axis in contracted)
        times = parameters.get("length", 1) if name == "scan" else 1
        for value in parameters.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    total += times * _count(inner)
    return total


@functools.cache
def product_rate(dtype: str) -> float:
    """FLOP/s of a square matrix product, median of 7."""
    import jax
    import jax.numpy as jnp

    size = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    seconds = []
    for _ in range(8):
        begun = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / statistics.median(seconds[1:])


def add(rows: list[dict], an_image: float) -> None:
    """Adds GFLOP/s to rows that have `images_per_second`, and their share of a product's."""
    for row in rows:
        low = "bfloat16" in row["subject"]
        rate = an_image * row["images_per_second"]
        row["GFLOP/s"] = round(rate / 1e9)
        row["of a product's"] = f"{rate / product_rate('bfloat16' if low else 'float32'):.0%}"
