"""The CRNN of Shi et al. (arXiv 1507.05717): seven convolutions, two BiLSTMs, class scores a frame.

    model = CRNN(get_model_config('crnn', num_classes=37))
    variables = model.init(jax.random.key(0), images, widths, train=False)
    logits, lengths = model.apply(variables, images, widths, train=False)

An image gives the same logits alone or in any batch: activations right of its real width are
zero after every layer, batch norm counts real columns only, and the backward LSTM starts at its
real end.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from crnn_jax.core.geometry import STRIDES, layer_widths
from crnn_jax.models import native_library
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.layers import Convolution, MaskedBatchNorm, max_pool, pool_of, zero_padding
from crnn_jax.models.lstm import BiLSTM

NORMALISED = (2, 4, 6)  # convolutions 3, 5 and 7 have batch norm and therefore no bias
POOLED = {0: "pool1", 1: "pool2", 3: "pool3", 5: "pool4"}  # convolution -> pool that follows it


class CRNN(nn.Module):
    """An image of one word or line to one row of class scores a frame.

    Attributes:
      config: the network.
      axis_name: of the mapped axis under `pmap`; None under `jit`.
      frozen: names of modules that do not train: their batch norm keeps its running moments.
      convolution: 'onednn', 'xla' or 'auto' (see `models.native`): how a CPU convolves and runs
        the LSTMs; the numbers are the same but for rounding.
    """

    config: ModelConfig
    axis_name: str | None = None
    frozen: tuple[str, ...] = ()
    convolution: str = "auto"

    @nn.compact
    def __call__(
        self, image: jax.Array, width: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Scores.

        Args:
          image: [b, 32, w, c], uint8 (normalised here) or floating (taken as normalised).
          width: int32 [b], real width of each in pixels; 0 for a sample that is not there.
          train: batch norm by this batch's moments, running ones updated ('batch_stats' mutable).

        Returns:
          logits float32 [b, t, k] and int32 [b], how many of the frames are real.
        """
        cfg = self.config
        dtype = jnp.dtype(cfg.dtype)
        if image.dtype == jnp.uint8:
            image = (image.astype(jnp.float32) - cfg.mean) / cfg.scale
        widths = layer_widths(width, cfg.geometry)
        use_native = native_library.wanted(self.convolution, cfg.dtype, self.axis_name)
        x = zero_padding(image.astype(dtype), width)

        def normalised(
            convolve: Convolution, x: jax.Array, real: jax.Array, name: str
        ) -> jax.Array:
            norm = MaskedBatchNorm(
                convolve.features, cfg.bn_momentum, cfg.bn_epsilon, self.axis_name, use_native,
                name=name,
            )  # fmt: skip
            if train and name not in self.frozen:
                return norm(convolve(x, real, relu=False), real)
            return convolve(x, real, affine=norm.affine())

        for i, features in enumerate(cfg.filters):
            name, real = f"conv{i + 1}", widths[f"conv{i + 1}"]
            size = 2 if i == len(cfg.filters) - 1 else 3
            pool = POOLED.get(i)
            stride_w = STRIDES[cfg.geometry][pool] if pool else 0
            paired = i + 1 in cfg.residual
            stride = 0 if paired else stride_w  # a pair comes before the pool
            use_bias = i not in NORMALISED
            convolve = Convolution(
                features, size, use_bias, use_native, stride, cfg.geometry, name=name
            )
            x = convolve(x, real) if use_bias else normalised(convolve, x, real, f"bn{i + 1}")
            if paired:
                convolution = partial(Convolution, features, 3, use_native=use_native)
                first = convolution(use_bias=False, name=f"res{i + 1}a")
                second = convolution(use_bias=True, zero=True, name=f"res{i + 1}b")
                y = second(normalised(first, x, real, f"bn_res{i + 1}"), real, relu=False)
                x = zero_padding(nn.relu(x + y), real)
                if pool:
                    x = max_pool(x, pool_of(x.shape[2], stride_w, cfg.geometry))
            if pool and cfg.geometry == "torch":  # flooring leaves half a window
                x = zero_padding(x, widths[pool])
        lengths = widths["conv7"]
        x = jnp.squeeze(x, 1).swapaxes(0, 1)  # [b, 1, t, c] --> [t, b, c]
        x = BiLSTM(cfg.hidden, cfg.unroll, use_native, name="bi_lstm1")(x, lengths)
        if cfg.geometry == "torch":
            x = nn.Dense(cfg.hidden, dtype=dtype, name="projection")(x)
        x = BiLSTM(cfg.hidden, cfg.unroll, use_native, name="bi_lstm2")(x, lengths)
        logits = nn.Dense(cfg.num_classes, name="logits")(x.astype(jnp.float32))
        return logits.swapaxes(0, 1), lengths  # --> [b, t, k]


def prepare(model: CRNN, variables: dict) -> dict:
    """Variables for reading: with kernels laid out for the CPU's convolutions where it has them.

    Args:
      model: the network.
      variables: {'params', 'batch_stats'}.

    Returns:
      What `model.apply(..., train=False)` takes in their place; it cannot be trained on.
    """
    cfg = model.config
    image, width = jnp.zeros((1, 32, 32, cfg.channels), jnp.uint8), jnp.full((1,), 32, jnp.int32)

    @jax.jit
    def pack(variables):
        return model.apply(variables, image, width, train=False, mutable=["packed"])[1]

    return variables | pack(variables)
