"""The CRNN of Shi et al. (arXiv 1507.05717): seven convolutions, two BiLSTMs, class scores a frame.

    model = CRNN(get_model_config('crnn', num_classes=37))
    variables = model.init(jax.random.key(0), images, widths, train=False)
    logits, lengths = model.apply(variables, images, widths, train=False)

A picture gives the same logits alone or in any batch: activations right of its real width are
zero after every layer, batch norm counts real columns only, and the backward LSTM starts at its
real end.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from crnn_jax.models.batch_norm import MaskedBatchNorm
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.lstm import BiLSTM
from crnn_jax.models.masking import column_mask, zero_padding
from crnn_jax.models.pooling import max_pool
from crnn_jax.spec.geometry import layer_widths

NORMALISED = (2, 4, 6)  # convolutions 3, 5 and 7 have batch norm and therefore no bias
# Convolution -> name and horizontal stride of the pool that follows it.
POOLED = {0: ("pool1", 2), 1: ("pool2", 2), 3: ("pool3", 1), 5: ("pool4", 1)}


class CRNN(nn.Module):
    """A picture of one word or line to one row of class scores a frame.

    Attributes:
      config: the network.
      axis_name: of the mapped axis under `pmap`; None under `jit`.
      frozen: names of modules that do not train: their batch norm keeps its running moments.
    """

    config: ModelConfig
    axis_name: str | None = None
    frozen: tuple[str, ...] = ()

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
        x = zero_padding(image.astype(dtype), width)
        for i, features in enumerate(cfg.filters):
            x = self._convolution(i, features)(x)
            real = widths[f"conv{i + 1}"]
            if i in NORMALISED:
                name = f"bn{i + 1}"
                norm = MaskedBatchNorm(cfg.bn_momentum, cfg.bn_epsilon, self.axis_name, name=name)
                x = norm(x, real, train=train and name not in self.frozen)
            x = zero_padding(nn.relu(x), real)
            if i in POOLED:
                pool, stride_w = POOLED[i]
                x = max_pool(x, stride_w=stride_w, geometry=cfg.geometry)
                if cfg.geometry == "torch":  # flooring leaves half a window right of the width
                    x = zero_padding(x, widths[pool])
        lengths = widths["conv7"]
        x = jnp.squeeze(x, 1).swapaxes(0, 1)  # [b, 1, t, c] --> [t, b, c]
        mask = column_mask(x.shape[0], lengths).T  # --> [t, b]
        x = BiLSTM(cfg.hidden, cfg.unroll, name="bi_lstm1")(x, mask)
        if cfg.geometry == "torch":
            x = nn.Dense(cfg.hidden, dtype=dtype, name="projection")(x)
        x = BiLSTM(cfg.hidden, cfg.unroll, name="bi_lstm2")(x, mask)
        logits = nn.Dense(cfg.num_classes, name="logits")(x.astype(jnp.float32))
        return logits.swapaxes(0, 1), lengths  # --> [b, t, k]

    def _convolution(self, i: int, features: int) -> nn.Conv:
        last = i == len(self.config.filters) - 1
        return nn.Conv(
            features,
            (2, 2) if last else (3, 3),
            padding="VALID" if last else "SAME",
            use_bias=i not in NORMALISED,
            dtype=jnp.dtype(self.config.dtype),
            kernel_init=nn.initializers.he_normal(),
            name=f"conv{i + 1}",
        )
