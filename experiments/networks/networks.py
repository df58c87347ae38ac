"""The networks of the study: one body whose parts can be exchanged, built of the package's layers.

    net = Network(CANDIDATES["base"], num_classes=37)
    logits, lengths = net.apply(variables, images, widths, train=False)

Axes: b batch, h w c image, t frames, k classes. Like the package's own, none of them sees padding.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from crnn_jax.models.layers import Convolution, MaskedBatchNorm, max_pool, pool_of, zero_padding
from crnn_jax.models.lstm import BiLSTM

# (filters, convolutions, vertical pool, horizontal pool) of each stage; a pool of 1 keeps the size.
Stage = tuple[int, int, int, int]
SMALL: tuple[Stage, ...] = ((32, 1, 2, 2), (64, 1, 2, 2), (128, 2, 2, 1), (256, 2, 2, 1))


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One network and how pictures come to it.

    Attributes:
      stages: of the body.
      height: of the input in pixels.
      min_width: narrower pictures are stretched to it, in pixels at height 32.
      norm: 'all' convolutions but the first have batch norm, or those of crnn ('some').
      residual: pairs of convolutions are added to what came in.
      collapse: 'conv' is crnn's 2 x 2 without padding, 'dense' a product over rows and channels.
      sequence: 'l' a BiLSTM, 'a' a block of attention over all frames, 'n' one over near frames.
      hidden: units of one direction of a BiLSTM; half the size of an attention block.
      second: weight of a second CTC head on the body's features, in training.
      guide: weight of an attention head that spells labels from the body's features, in training.
      views: weight of the consistency of two views of each image, in training.
    """

    stages: tuple[Stage, ...] = SMALL
    height: int = 32
    min_width: int = 32
    norm: str = "some"
    residual: bool = False
    collapse: str = "conv"
    sequence: str = "ll"
    hidden: int = 128
    second: float = 0.0
    guide: float = 0.0
    views: float = 0.0


def stage_widths(width, stages: tuple[Stage, ...], collapse: str):
    """Real width after each stage, and the frames: ints or integer arrays."""
    widths = []
    for _, _, _, horizontal in stages:
        width = (width + 1) // 2 if horizontal == 2 else width
        widths.append(width)
    return widths, (width - 1) * (width > 0) if collapse == "conv" else width


class Network(nn.Module):
    """image uint8 [b h w 1], width int32 [b] -> logits float32 [b t k], lengths int32 [b]."""

    candidate: Candidate
    num_classes: int
    dtype: str = "float32"
    native: bool = True

    @nn.compact
    def __call__(self, image: jax.Array, width: jax.Array, label=None, *, train: bool):
        """In training also a dict of what only training needs: logits of the heads to be dropped.

        'second' [b t k], and of label int32 [b n] 'guide' [b n+1 k], where the blank is the end.
        """
        net = self.candidate
        x = ((image.astype(jnp.float32) - 127.5) / 127.5).astype(self.dtype)
        x = zero_padding(x, width)
        real, number = width, 0
        widths, lengths = stage_widths(width, net.stages, net.collapse)
        for stage, (filters, count, down, across) in enumerate(net.stages):
            entering = x
            for j in range(count):
                last = j == count - 1
                has_norm = number > 0 if net.norm == "all" else stage > 1 and j == 0
                pool = across if last and down == 2 else 0
                if net.residual and stage > 1:
                    x = self._residual(x, entering, filters, real, number, train, first=j % 2 == 0)
                    if j % 2 == 1:
                        entering = x
                    pooled = zero_padding(x, real)
                elif has_norm:
                    x = self._conv_norm(x, filters, 3, real, number, train)
                    pooled = x
                else:
                    name = f"conv{number + 1}"
                    conv = Convolution(
                        filters, 3, use_bias=True, use_native=self.native, stride_w=pool, name=name
                    )
                    x, pooled = conv(x, real), None
                if pool and pooled is not None:
                    x = max_pool(pooled, pool_of(pooled.shape[2], pool, "keras"))
                number += 1
            real = widths[stage]
        if net.residual:
            x = self._norm(x, real, "norm_out", train)
        filters = net.stages[-1][0]
        if net.collapse == "conv":
            x = self._conv_norm(x, filters, 2, lengths, number, train)
            x = jnp.squeeze(x, 1).swapaxes(0, 1)  # --> [t, b, c]
        else:
            b, h, w, c = x.shape
            x = x.transpose(2, 0, 1, 3).reshape(w, b, h * c)
            x = nn.Dense(filters, use_bias=False, dtype=self.dtype, name="collapse")(x)
            x = self._norm(x.swapaxes(0, 1)[:, None], lengths, "norm_collapse", train)
            x = x[:, 0].swapaxes(0, 1)
        features = x
        for i, kind in enumerate(net.sequence):
            if kind == "l":
                x = BiLSTM(net.hidden, 1, self.native, name=f"lstm{i}")(x, lengths)
            else:
                near = 6 if kind == "n" else 0
                x = Attention(2 * net.hidden, near, self.dtype, name=f"attention{i}")(x, lengths)
        logits = nn.Dense(self.num_classes, name="logits")(x.astype(jnp.float32)).swapaxes(0, 1)
        if not (train or self.is_initializing()):
            return logits, lengths
        extra = {}
        if net.second:
            second = nn.Dense(self.num_classes, name="second")(features.astype(jnp.float32))
            extra["second"] = second.swapaxes(0, 1)
        if net.guide:
            extra["guide"] = Guide(self.num_classes, name="guide")(features, lengths, label)
        return logits, lengths, extra

    def _norm(self, x, real, name, train):
        norm = MaskedBatchNorm(x.shape[-1], 0.99, 1e-3, None, self.native, name=name)
        if train:
            return norm(x, real)
        gain, shift = (a[None, None, None] for a in norm.affine())
        return zero_padding(nn.relu(x * gain + shift).astype(x.dtype), real)

    def _convolution(self, filters, size, number):
        return Convolution(
            filters, size, use_bias=False, use_native=self.native, name=f"conv{number + 1}"
        )

    def _conv_norm(self, x, filters, size, real, number, train):
        conv = self._convolution(filters, size, number)
        norm = MaskedBatchNorm(filters, 0.99, 1e-3, None, self.native, name=f"norm{number}")
        if train:
            return norm(conv(x, real, relu=False), real)
        return conv(x, real, affine=norm.affine())

    def _residual(self, x, entering, filters, real, number, train, *, first):
        """One convolution of a pair: norm, ReLU, convolution; the second adds what came in."""
        x = self._norm(x, real, f"norm{number}", train)
        y = self._convolution(filters, 3, number)(x, real, relu=False)
        if first:
            return y
        if entering.shape[-1] != filters:
            entering = nn.Dense(filters, use_bias=False, dtype=self.dtype, name=f"way{number}")(
                entering
            )
        return y + entering


class Attention(nn.Module):
    """Multi-head self-attention and a feed-forward block over frames [t, b, c], before-norm."""

    size: int
    near: int  # frames to each side that are seen; 0 for all
    dtype: str
    heads: int = 8

    @nn.compact
    def __call__(self, x: jax.Array, lengths: jax.Array) -> jax.Array:
        t, b, c = x.shape
        dense = lambda n, name: nn.Dense(n, dtype=self.dtype, name=name)  # noqa: E731
        if c != self.size:
            x = dense(self.size, "enter")(x)
        # Where a frame stands is told by a depthwise convolution over frames.
        real = (jnp.arange(t)[:, None] < lengths[None])[..., None]
        kernel = self.param("place", nn.initializers.normal(0.1), (7, 1, self.size))
        moved = lax.conv_general_dilated(
            jnp.where(real, x, 0).swapaxes(0, 1).astype(jnp.float32),
            kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=self.size,
        )  # fmt: skip
        x = x + moved.swapaxes(0, 1).astype(x.dtype)
        y = nn.LayerNorm(dtype=self.dtype, name="norm1")(x)
        q, k, v = (
            dense(self.size, n)(y).reshape(t, b, self.heads, -1).transpose(1, 2, 0, 3)
            for n in ("q", "k", "v")
        )
        seen = (jnp.arange(t)[None] < lengths[:, None])[:, None, None, :]
        if self.near:
            at = jnp.arange(t)
            seen = seen & (jnp.abs(at[:, None] - at[None]) <= self.near)[None, None]
        score = (q @ k.swapaxes(-1, -2)).astype(jnp.float32) / (q.shape[-1] ** 0.5)
        weight = nn.softmax(jnp.where(seen, score, -1e9)).astype(v.dtype)
        y = (weight @ v).transpose(2, 0, 1, 3).reshape(t, b, -1)
        x = x + dense(self.size, "out")(y)
        y = nn.LayerNorm(dtype=self.dtype, name="norm2")(x)
        x = x + dense(self.size, "down")(nn.gelu(dense(2 * self.size, "up")(y)))
        return jnp.where(real, x, 0)


class Guide(nn.Module):
    """Spells labels by attention to the body's features, a letter at a time: GTC's second head.

    Hu et al., arXiv 2002.01276. features [t b c], lengths int32 [b], label int32 [b n] -> logits
    float32 [b n+1 k]: of every letter, given those before it, and of the end.
    """

    num_classes: int
    size: int = 128
    heads: int = 4

    @nn.compact
    def __call__(self, features, lengths, label):
        t, b, _ = features.shape
        n = label.shape[1] + 1
        place = nn.initializers.normal(0.02)
        frames = nn.Dense(self.size, name="frames")(features.astype(jnp.float32)).swapaxes(0, 1)
        frames = frames + self.param("frame", place, (256, self.size))[:t]
        before = jnp.concatenate([jnp.full((b, 1), self.num_classes), label], 1)
        x = nn.Embed(self.num_classes + 1, self.size, name="letters")(before)
        x = x + self.param("letter", place, (64, self.size))[:n]

        def attend(name):
            return nn.MultiHeadDotProductAttention(self.heads, name=name)

        x = x + attend("own")(nn.LayerNorm()(x), mask=jnp.tri(n, dtype=bool)[None, None])
        real = (jnp.arange(t)[None] < lengths[:, None])[:, None, None]
        x = x + attend("cross")(nn.LayerNorm()(x), frames, mask=real)
        x = x + nn.Dense(self.size, name="down")(
            nn.gelu(nn.Dense(2 * self.size, name="up")(nn.LayerNorm()(x)))
        )
        return nn.Dense(self.num_classes, name="spelled")(nn.LayerNorm()(x))


DEEP: tuple[Stage, ...] = ((32, 1, 2, 2), (64, 1, 2, 2), (128, 4, 2, 1), (192, 4, 2, 1))
EIGHTH: tuple[Stage, ...] = ((32, 1, 2, 2), (64, 1, 2, 2), (128, 2, 2, 1), (160, 3, 1, 1))
FINE: tuple[Stage, ...] = ((32, 1, 2, 2), (64, 1, 2, 1), (96, 2, 2, 2), (192, 2, 2, 1))
FRAMES: tuple[Stage, ...] = ((24, 1, 2, 2), (48, 1, 2, 1), (96, 2, 2, 1), (128, 2, 2, 1))
_D = {"norm": "all", "collapse": "dense"}
CANDIDATES: dict[str, Candidate] = {
    "crnn_small": Candidate(),
    "norm": Candidate(norm="all"),
    "base": Candidate(**_D),
    "wide64": Candidate(**_D, min_width=64),
    "wide96": Candidate(**_D, min_width=96),
    "second_head": Candidate(**_D, second=0.3),
    "guided": Candidate(**_D, guide=1.0),
    "two_views": Candidate(**_D, views=0.2),
    "height40": Candidate(EIGHTH, **_D, height=40),
    "height48": Candidate(**_D, height=48),
    "residual": Candidate(DEEP, **_D, residual=True),
    "eighth": Candidate(EIGHTH, **_D),
    "fine": Candidate(FINE, **_D),
    "more_frames": Candidate(FRAMES, **_D),
    "attention": Candidate(**_D, sequence="la"),
    "attention_two": Candidate(**_D, sequence="laa"),
    "attention_near": Candidate(**_D, sequence="na"),
    "one_lstm": Candidate(**_D, sequence="l"),
}
