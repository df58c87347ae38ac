"""Convolutions, batch norm and LSTMs for the CPU that are faster than XLA's: those of `native.cc`.

    if native_library.available():
        y = native.convolution(by_xla, x, kernel, bias, width, padding=1, relu=True, pool=None)

Programs lowered for another platform never contain the native calls: there the same function by XLA
stands in, which is the first argument.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crnn_jax.models import native_library

LSTM_UNITS = 16  # that the width of an LSTM must divide by: floats of a vector at most


def _like(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _call(name: str, results: Any) -> Callable[..., Any]:
    return jax.ffi.ffi_call(f"crnn_jax_{name}", results, vmap_method="sequential")


@dataclasses.dataclass(frozen=True)
class Pool:
    """A 2 x 2 max pool after a ReLU: vertical stride 2.

    Attributes:
      stride: the horizontal one, 1 or 2.
      left, right: columns of zeros on each side.
    """

    stride: int
    left: int
    right: int

    def width(self, width: int) -> int:
        """Columns that come out of `width`."""
        return (width + self.left + self.right - 2) // self.stride + 1


@partial(jax.custom_vjp, nondiff_argnums=(0, 5, 6, 7))
def convolution(
    other: Callable[..., jax.Array],
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    width: jax.Array,
    padding: int,
    relu: bool,
    pool: Pool | None,
) -> jax.Array:
    """A convolution with bias and, where asked for, ReLU, zeros right of the real width and a pool.

    Args:
      other: the same function of the arrays, for platforms that are no CPU.
      x: [b, h, w, i], float32 or bfloat16, which is what is multiplied; sums are float32.
      kernel: float32 [kh, kw, i, o].
      bias: float32 [o].
      width: int32 [b], real columns before the pool; counts with `relu` only.
      padding: zeros on each side.
      relu: whether to apply it, and to set columns at or right of `width` to 0.
      pool: what follows a ReLU, if anything.

    Returns:
      [b, h', w', o] of x's dtype.
    """
    native = partial(_convolve, panels=None, padding=padding, relu=relu, pool=pool)
    return lax.platform_dependent(x, kernel, bias, width, cpu=native, default=other)


def pack_kernel(kernel: jax.Array) -> jax.Array:
    """A kernel [k, k, i, o] laid out for single images, flat, for `packed_convolution`."""
    size = native_library.packed_size(kernel)
    return _call("conv_pack", jax.ShapeDtypeStruct((size,), jnp.float32))(kernel)


def packed_convolution(
    x: jax.Array,
    kernel: jax.Array,
    panels: jax.Array,
    bias: jax.Array,
    width: jax.Array,
    relu: bool,
    pool: Pool | None,
) -> jax.Array:
    """`convolution` for reading, with `panels` from `pack_kernel`; CPU only."""
    padding = 1 if kernel.shape[0] == 3 else 0
    return _convolve(x, kernel, bias, width, panels=panels, padding=padding, relu=relu, pool=pool)


def _convolve(x, kernel, bias, width, *, panels, padding, relu, pool):
    return _convolve_and_keep(
        x, kernel, bias, width, panels=panels, padding=padding, relu=relu, pool=pool, keep=False
    )[1 if pool else 0]


def _convolve_and_keep(x, kernel, bias, width, *, panels, padding, relu, pool, keep):
    """What comes before the pool, if it is to be kept, and behind it, if there is one."""
    b, h, w, _ = x.shape
    k, _, _, o = kernel.shape
    y = (b, h + 2 * padding - k + 1, w + 2 * padding - k + 1, o)
    pooled = (b, y[1] // 2, pool.width(y[2]), o) if pool else (0,)
    shapes = y if keep or not pool else (0,), pooled
    call = _call("conv_forward", [jax.ShapeDtypeStruct(s, x.dtype) for s in shapes])
    panels = jnp.zeros((0,)) if panels is None else panels
    attributes = {"padding": np.int64(padding), "relu": relu} | _attributes(pool)
    return tuple(call(x, kernel, panels, bias, width, **attributes))


def _attributes(pool):
    stride, left = (pool.stride, pool.left) if pool else (0, 0)
    return {"stride": np.int64(stride), "left": np.int64(left)}


def _convolution_forward(other, x, kernel, bias, width, padding, relu, pool):
    native = partial(
        _convolve_and_keep, panels=None, padding=padding, relu=relu, pool=pool, keep=True
    )
    shapes = jax.eval_shape(native, x, kernel, bias, width)

    def default(*arguments):
        y = other(*arguments)
        return (jnp.zeros(shapes[0].shape, x.dtype), y) if pool else (y, jnp.zeros((0,), x.dtype))

    kept = lax.platform_dependent(x, kernel, bias, width, cpu=native, default=default)
    return kept[1 if pool else 0], (x, kernel, bias, width, kept[0] if relu else None)


def _convolution_backward(other, padding, relu, pool, saved, d_out):
    *arguments, width, y = saved

    def native(d_out, x, kernel, bias):
        dy = _call("relu_pool_backward", _like(y))(y, d_out, **_attributes(pool)) if relu else d_out
        pad = np.int64(padding)
        by_kernel = _call("conv_backward_kernel", (_like(kernel), _like(bias)))
        by_input = _call("conv_backward_input", _like(x))
        return by_input(dy, kernel, padding=pad), *by_kernel(x, dy, padding=pad)

    def default(d_out, *arguments):
        return jax.vjp(lambda *a: other(*a, width), *arguments)[1](d_out)

    return *lax.platform_dependent(d_out, *arguments, cpu=native, default=default), None


convolution.defvjp(_convolution_forward, _convolution_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def batch_norm_relu(
    other: Callable[..., tuple[jax.Array, jax.Array, jax.Array]],
    total: Callable[[jax.Array], jax.Array],
    epsilon: float,
    x: jax.Array,
    width: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Batch norm by this batch's moments over real columns, ReLU, and zeros in the other columns.

    Args:
      other: the same function of the arrays, for platforms that are no CPU.
      total: adds up a sum over all devices.
      epsilon: added to the variance.
      x: [b, h, w, c], float32 or bfloat16.
      width: int32 [b], real columns.
      scale, bias: float32 [c].

    Returns:
      [b, h, w, c] of x's dtype, and mean and variance, float32 [c], which pass no gradient.
    """
    native = partial(_norm_forward, total, epsilon)
    return lax.platform_dependent(x, width, scale, bias, cpu=native, default=other)


def _norm_forward(total, epsilon, x, width, scale, bias):
    per_channel = jax.ShapeDtypeStruct(scale.shape, jnp.float32)
    here, squares = _call("norm_moments", (per_channel, per_channel))(x, width)
    count_here = _count(x, width)
    count = jnp.maximum(total(count_here), 1)
    mean = total(here) / count
    apart = here / jnp.maximum(count_here, 1) - mean  # of this device's mean from that of all
    var = total(squares + count_here * apart * apart) / count
    gain = scale * lax.rsqrt(var + epsilon)
    y = _call("norm_apply", _like(x))(x, gain, bias - mean * gain, width)
    return y, mean, var


def _count(x, width):
    return x.shape[1] * jnp.sum(jnp.clip(width, 0, x.shape[2])).astype(jnp.float32)


def _batch_norm_relu_forward(other, total, epsilon, x, width, scale, bias):
    results = batch_norm_relu(other, total, epsilon, x, width, scale, bias)
    return results, (x, width, scale, bias, *results)


def _batch_norm_relu_backward(other, total, epsilon, saved, cotangents):
    x, width, scale, bias, *results = saved

    def native(dy, x, scale, bias):
        y, mean, var = results
        sums = _call("norm_sums", (_like(scale), _like(bias)))
        d_bias, product = sums(x, y, dy, mean, width)
        count = jnp.maximum(total(_count(x, width)), 1)
        inverse = lax.rsqrt(var + epsilon)
        gain = scale * inverse
        slope = -gain * inverse * inverse * total(product) / count
        offset = -gain * total(d_bias) / count - slope * mean
        dx = _call("norm_gradient", _like(x))(x, y, dy, gain, slope, offset, width)
        return dx, product * inverse, d_bias

    def default(dy, x, scale, bias):
        return jax.vjp(lambda x, *affine: other(x, width, *affine)[0], x, scale, bias)[1](dy)

    dx, d_scale, d_bias = lax.platform_dependent(
        cotangents[0], x, scale, bias, cpu=native, default=default
    )
    return dx, None, d_scale, d_bias


batch_norm_relu.defvjp(_batch_norm_relu_forward, _batch_norm_relu_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def lstm(
    other: Callable[..., jax.Array],
    x: jax.Array,
    kernel: jax.Array,
    recurrent: jax.Array,
    bias: jax.Array,
    lengths: jax.Array,
) -> jax.Array:
    """Both directions of an LSTM over time.

    Args:
      other: the same function of the other arguments, for platforms that are no CPU.
      x: [t, b, d], float32, or bfloat16, in which all but the recurrent products are multiplied.
      kernel: float32 [d, 8 h], gates i, f, g, o of the forward and then of the backward direction;
        h divides by LSTM_UNITS.
      recurrent: float32 [2, h, 4 h].
      bias: float32 [8 h].
      lengths: int32 [b], real frames.

    Returns:
      float32 [t, b, 2 h], 0 at and behind a row's length.
    """
    arguments = (x, kernel, recurrent, bias, lengths)
    return lax.platform_dependent(*arguments, cpu=packed_lstm, default=other)


def pack_lstm(kernel: jax.Array, recurrent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both kernels flat, in the layout that `packed_lstm` works with."""
    flat = (jax.ShapeDtypeStruct((a.size,), jnp.float32) for a in (kernel, recurrent))
    return tuple(_call("lstm_pack", tuple(flat))(kernel, recurrent))


def packed_lstm(
    x: jax.Array, kernel: jax.Array, recurrent: jax.Array, bias: jax.Array, lengths: jax.Array
) -> jax.Array:
    """`lstm` for reading, its kernels as they are or packed; CPU only."""
    none = jax.ShapeDtypeStruct((0,), jnp.float32)
    results = (_frames(x, bias, 4), none, none)
    return _call("lstm_forward", results)(x, kernel, recurrent, bias, lengths)[0]


def _frames(x: jax.Array, bias: jax.Array, part: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*x.shape[:2], bias.shape[0] // part), jnp.float32)


def _lstm_forward(other, *arguments):
    x, _, _, bias, _ = arguments
    results = (_frames(x, bias, 4), _frames(x, bias, 4), _frames(x, bias, 1))

    def default(*arguments):
        return other(*arguments), *(jnp.zeros(r.shape, r.dtype) for r in results[1:])

    native = _call("lstm_forward", results)
    saved = lax.platform_dependent(*arguments, cpu=lambda *a: tuple(native(*a)), default=default)
    return saved[0], (arguments, saved)


def _lstm_backward(other, saved, d_hs):
    (*arguments, lengths), saved = saved
    results = tuple(map(_like, arguments))

    def native(d_hs, x, kernel, recurrent, _):
        return tuple(_call("lstm_backward", results)(d_hs, x, kernel, recurrent, *saved))

    def default(d_hs, *arguments):
        return jax.vjp(lambda *a: other(*a, lengths), *arguments)[1](d_hs)

    return *lax.platform_dependent(d_hs, *arguments, cpu=native, default=default), None


lstm.defvjp(_lstm_forward, _lstm_backward)
