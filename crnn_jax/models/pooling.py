"""Max pooling of activations that follow a ReLU, as the maximum of strided slices.

A zero column then equals the -inf that padding means. This form, unlike `reduce_window`, has a
cheap gradient on CPU and converts to TFLite with a free width.
"""

import jax
import jax.numpy as jnp
from jax import lax


def max_pool(x: jax.Array, *, stride_w: int, geometry: str) -> jax.Array:
    """2x2 windows, vertical stride 2.

    Args:
      x: [b, h, w, c], nonnegative, h even, zero right of the real width.
      stride_w: 2 halves the width, 1 keeps it.
      geometry: 'keras' pads as SAME (ceil(w / 2), or w); 'torch' floors (floor(w / 2)), and where
        the width is kept pads a column on both sides (w + 1).

    Returns:
      [b, h / 2, w', c]; `spec.geometry` states w'.
    """
    b, h, w, c = x.shape
    x = jnp.maximum(
        lax.slice(x, (0, 0, 0, 0), (b, h, w, c), (1, 2, 1, 1)),
        lax.slice(x, (0, 1, 0, 0), (b, h, w, c), (1, 2, 1, 1)),
    )  # --> [b, h / 2, w, c]
    h = x.shape[1]
    if geometry == "torch":
        left, right = (0, 0) if stride_w == 2 else (1, 1)
    else:
        # A free width (a symbol, in exports) may be odd, so it is always padded.
        even = stride_w == 2 and isinstance(w, int) and w % 2 == 0
        left, right = 0, 0 if even else 1
    if left or right:
        x = jnp.pad(x, ((0, 0), (0, 0), (left, right), (0, 0)))
    w = x.shape[2]
    return jnp.maximum(
        lax.slice(x, (0, 0, 0, 0), (b, h, w - 1, c), (1, 1, stride_w, 1)),
        lax.slice(x, (0, 0, 1, 0), (b, h, w, c), (1, 1, stride_w, 1)),
    )  # --> [b, h / 2, w', c]
