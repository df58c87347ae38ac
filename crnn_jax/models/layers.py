"""Layers that never see padding: what lies right of an image's real width counts nothing.

Sums run over the whole global batch, so that the number of devices changes nothing either.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from crnn_jax.models import native


def global_sum(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Sums `x` over all devices: the only place that names an axis.

    Under `jit` with sharded arrays a plain `jnp.sum` is already global and `axis_name` is None;
    under `pmap` each device holds its own part and `axis_name` says along what to add.
    """
    return x if axis_name is None else lax.psum(x, axis_name)


def column_mask(size: int, width: jax.Array) -> jax.Array:
    """bool [b, size]: which of the columns are real, given `width` int32 [b]."""
    return jnp.arange(size, dtype=jnp.int32)[None, :] < width[:, None]


def zero_padding(x: jax.Array, width: jax.Array) -> jax.Array:
    """`x` [b, h, w, c] with every column at or right of `width` [b] set to 0."""
    return jnp.where(column_mask(x.shape[2], width)[:, None, :, None], x, jnp.zeros((), x.dtype))


class Convolution(nn.Module):
    """A convolution and what follows it, for as little traffic as can be.

    Attributes:
      features: output channels.
      size: of the square kernel; 3 keeps height and width, 2 makes both one smaller.
      use_bias: not where batch norm follows.
      use_native: whether `models.native` does it, or XLA.
      stride_w: of the max pool that follows, 0 for none.
      geometry: of the pool, see `pool_of`.
      zero: whether the kernel starts as zeros: the end of a residual branch.
    """

    features: int
    size: int
    use_bias: bool
    use_native: bool
    stride_w: int = 0
    geometry: str = "keras"
    zero: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        width: jax.Array,
        *,
        affine: tuple[jax.Array, jax.Array] | None = None,
        relu: bool = True,
    ) -> jax.Array:
        """x [b, h, w, c] -> [b, h', w', features].

        Args:
          x: zero right of the real width.
          width: int32 [b], real columns of the result, before the pool.
          affine: (gain, shift) [features] of a batch norm by running moments, applied on the way.
          relu: whether to apply it and to set padding to zero again.
        """
        after = x.shape[2] if self.size == 3 else x.shape[2] - 1
        pool = pool_of(after, self.stride_w, self.geometry) if self.stride_w else None
        if self.has_variable("packed", "kernel"):
            kernel, panels, bias = (
                self.get_variable("packed", name) for name in ("kernel", "panels", "bias")
            )
            return native.packed_convolution(x, kernel, panels, bias, width, relu, pool)
        shape = (self.size, self.size, x.shape[-1], self.features)
        init = nn.initializers.zeros if self.zero else nn.initializers.he_normal()
        kernel = self.param("kernel", init, shape)
        bias = jnp.zeros(self.features)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        padding = 1 if self.size == 3 else 0
        if affine and not self.use_native:  # the products are rounded less so
            gain, shift = affine
            x = _convolve(x, kernel, bias, None, padding=padding)
            return zero_padding(nn.relu(x * _row(gain) + _row(shift)).astype(x.dtype), width)
        if affine:
            kernel, bias = kernel * _row(affine[0]), affine[1]
        if self.use_native and self.is_mutable_collection("packed") and not self.is_initializing():
            self.put_variable("packed", "kernel", kernel)
            self.put_variable("packed", "panels", native.pack_kernel(kernel))
            self.put_variable("packed", "bias", bias)

        def convolve(x, kernel, bias, width):
            y = _convolve(x, kernel, bias, width if relu else None, padding=padding)
            return max_pool(y, pool) if pool else y

        if not self.use_native:
            return convolve(x, kernel, bias, width)
        return native.convolution(convolve, x, kernel, bias, width, padding, relu, pool)


def _convolve(x, kernel, bias, width, *, padding):
    """A convolution by XLA; ReLU, and zeros at and right of `width`, where there is one."""
    y = lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (1, 1),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y = y + _row(bias).astype(y.dtype)
    return y if width is None else zero_padding(nn.relu(y), width)


def pool_of(width: int, stride_w: int, geometry: str) -> native.Pool:
    """The pool over `width` columns, with horizontal stride 2 or 1, which keeps the width.

    'torch' floors (floor(w / 2)), and where the width is kept pads a column on both sides (w + 1);
    the others pad as SAME (ceil(w / 2), or w).
    """
    if geometry == "torch":
        side = 0 if stride_w == 2 else 1
        return native.Pool(stride_w, side, side)
    # A free width (a symbol, in exports) may be odd, so it is always padded.
    even = stride_w == 2 and isinstance(width, int) and width % 2 == 0
    return native.Pool(stride_w, 0, 0 if even else 1)


def max_pool(x: jax.Array, pool: native.Pool) -> jax.Array:
    """2x2 windows, vertical stride 2, as the maximum of strided slices.

    After a ReLU a zero column equals the -inf that padding means. This form, unlike
    `reduce_window`, has a cheap gradient on CPU and converts to TFLite with a free width.

    Args:
      x: [b, h, w, c], nonnegative, h even, zero right of the real width.
      pool: its horizontal stride and padding.

    Returns:
      [b, h / 2, w', c]; `core.geometry` gives w'.
    """
    b, h, w, c = x.shape
    x = jnp.maximum(
        lax.slice(x, (0, 0, 0, 0), (b, h, w, c), (1, 2, 1, 1)),
        lax.slice(x, (0, 1, 0, 0), (b, h, w, c), (1, 2, 1, 1)),
    )  # --> [b, h / 2, w, c]
    if pool.left or pool.right:
        x = jnp.pad(x, ((0, 0), (0, 0), (pool.left, pool.right), (0, 0)))
    h, w = x.shape[1:3]
    return jnp.maximum(
        lax.slice(x, (0, 0, 0, 0), (b, h, w - 1, c), (1, 1, pool.stride, 1)),
        lax.slice(x, (0, 0, 1, 0), (b, h, w, c), (1, 1, pool.stride, 1)),
    )  # --> [b, h / 2, w', c]


class MaskedBatchNorm(nn.Module):
    """Normalises each channel by moments over the unmasked positions, then ReLU.

    The moments are sums over all devices divided once, so that the number of devices changes
    nothing. (flax's own masked form averages each device's mean with equal weight.) A batch without
    a real sample leaves the running statistics as they are.

    Attributes:
      features: channels.
      momentum, epsilon: see `ModelConfig`.
      axis_name: of the mapped axis under `pmap`.
      use_native: whether `models.native` does it, or XLA.
    """

    features: int
    momentum: float
    epsilon: float
    axis_name: str | None = None
    use_native: bool = False

    def setup(self) -> None:
        """Parameters and running moments."""
        c = (self.features,)
        self.scale = self.param("scale", nn.initializers.ones, c)
        self.bias = self.param("bias", nn.initializers.zeros, c)
        self.mean = self.variable("batch_stats", "mean", jnp.zeros, c)
        self.var = self.variable("batch_stats", "var", jnp.ones, c)

    def affine(self) -> tuple[jax.Array, jax.Array]:
        """(gain, shift) [c] by the running moments: x * gain + shift."""
        return self._affine(self.mean.value, self.var.value, self.scale, self.bias)

    def __call__(self, x: jax.Array, width: jax.Array) -> jax.Array:
        """By this batch's moments, which also move the running ones.

        x [b, h, w, c], width int32 [b] -> the same shape and dtype, 0 past width.
        """
        total = partial(global_sum, axis_name=self.axis_name)
        apply = self._apply
        if self.use_native:
            apply = partial(native.batch_norm_relu, self._apply, total, self.epsilon)
        y, mean, var = apply(x, width, self.scale, self.bias)
        if not self.is_initializing():
            keep = jnp.where(total(jnp.sum(width)) > 0, self.momentum, 1.0)
            self.mean.value = keep * self.mean.value + (1 - keep) * mean
            self.var.value = keep * self.var.value + (1 - keep) * var
        return y

    def _apply(self, x, width, scale, bias):
        """(normalised x, mean, variance)."""
        mean, var = self._moments(x.astype(jnp.float32), width)
        gain, shift = self._affine(mean, var, scale, bias)
        y = (x * _row(gain) + _row(shift)).astype(x.dtype)
        return zero_padding(nn.relu(y), width), mean, var

    def _affine(self, mean, var, scale, bias):
        gain = scale * lax.rsqrt(var + self.epsilon)
        return gain, bias - mean * gain

    def _moments(self, x, width):
        mask = column_mask(x.shape[2], width)[:, None, :, None]  # --> [b, 1, w, 1]
        count = global_sum(jnp.sum(mask, dtype=jnp.float32) * x.shape[1], self.axis_name)
        safe = jnp.maximum(count, 1.0)
        mean = global_sum(jnp.sum(jnp.where(mask, x, 0), (0, 1, 2)), self.axis_name) / safe
        centred = jnp.where(mask, x - _row(mean), 0)
        var = global_sum(jnp.sum(centred * centred, (0, 1, 2)), self.axis_name) / safe
        return mean, var


def _row(x: jax.Array) -> jax.Array:
    """[c] -> [1, 1, 1, c], since a rank is never raised in silence here."""
    return x[None, None, None, :]
