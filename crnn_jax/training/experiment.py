"""What a config means: characters, sources, the plan of batches, the network."""

import dataclasses
from typing import Any

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import num_frames
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.plan import Plan
from crnn_jax.data.sources import charset_of, open_sources, plan_of, preprocessing_of
from crnn_jax.models import native_library
from crnn_jax.models.config import DTYPES, ModelConfig, get_model_config, variant
from crnn_jax.training.limits import require_limits
from crnn_jax.training.starting import Origin

DEFAULT_NETWORK = "crnn_small"  # where neither config nor `init_from` names one
HEIGHT = 32  # of the pictures that the seven convolutions bring down to one row


@dataclasses.dataclass
class Experiment:
    """Everything a run needs before a device is touched."""

    config: Any
    origin: Origin | None
    charset: Charset
    preprocessing: Preprocessing
    model: ModelConfig
    train: Any
    validation: list[Any]
    plan: Plan
    total_steps: int

    @property
    def unknown_id(self) -> int:
        """The class that is never to be read; -1 where `<UNK>` is trained as a character."""
        return -1 if self.config.data.unknown == "map" else self.charset.unknown_id

    @property
    def evaluate_every(self) -> int:
        """Steps from one evaluation to the next: not each of a small set's epochs is worth one."""
        most = -(-self.total_steps // 20)
        return self.config.evaluation.every_steps or max(self.plan.steps_per_epoch, most)

    def evaluation_plan(self, source: Any) -> Plan:
        """Every sample of a source once, also those that could not be trained on."""
        return plan_of(
            self.config, source, self.preprocessing, self.model.geometry, evaluation=True
        )

    def metadata(self, step: int) -> dict[str, Any]:
        """What a model file states beside the weights."""
        return {
            "format": 1,
            "model": self.model.to_dict(),
            **self.charset.to_metadata(),
            "preprocessing": self.preprocessing.to_metadata(),
            "temperature": 1.0,
            "emit_unknown": self.config.data.unknown == "map",
            "training": {"data": self.config.data.train, "step": step, "seed": self.config.seed},
        }

    def describe(self) -> list[str]:
        """Lines for the start of a run."""
        rule = self.preprocessing
        width = rule.width or rule.max_width
        frames = num_frames(width, self.model.geometry)
        widths = str(rule.width) if rule.width else f"{rule.min_width} to {rule.max_width}"
        lines = [f"characters: {self.charset.num_classes - 1} and the blank"]
        lines.append(
            f"pictures: {'grey' if rule.channels == 1 else 'RGB'}, {widths} px wide, "
            f"{'' if rule.antialias else 'not '}antialiased, (x - {rule.mean:g}) / {rule.scale:g}"
        )
        lines.append(
            f"{width} px -> {frames} frames: at most {frames} characters, fewer with doubles"
        )
        widths = ", ".join(map(str, self.plan.widths))
        lines.append(
            f"{self.plan.steps_per_epoch} batches of {self.config.batch_size} an epoch, "
            f"{widths} px wide; {self.total_steps} steps in all"
        )
        return lines


def make_experiment(config: Any, origin: Origin | None = None) -> Experiment:
    """Reads character table and annotations.

    Args:
      config: a locked ConfigDict, see configs/.
      origin: see `starting.origin_of`; gives what the config leaves to it.

    Raises:
      UserError: whatever in the config or the data cannot be used.
    """
    require_limits(config)
    if bool(config.steps) == bool(config.epochs):
        raise UserError(
            f"config.steps={config.steps} and config.epochs={config.epochs}: set one, 0 the other"
        )
    if origin and origin.resumed and not config.charset.table and not config.charset.characters:
        # More labels than when it was begun must not change the classes of the weights.
        charset = dataclasses.replace(origin.charset, ignore_case=config.charset.ignore_case)
    else:
        charset = charset_of(config)
    preprocessing = preprocessing_of(config, origin.preprocessing if origin else None)
    if preprocessing.height != HEIGHT:
        raise UserError(
            f"config.preprocessing.height={preprocessing.height}: the network takes {HEIGHT}"
        )
    model = _network(config, charset, preprocessing, origin)
    if origin:
        origin.require_fit(model, charset)
    train, validation = open_sources(config, charset, preprocessing, model.geometry)
    plan = plan_of(config, train, preprocessing, model.geometry, evaluation=False)
    epochs = round(config.epochs * plan.steps_per_epoch)
    total_steps = config.steps or max(1, epochs, config.least_steps)
    return Experiment(
        config, origin, charset, preprocessing, model, train, validation, plan, total_steps
    )


def _network(
    config: Any, charset: Charset, preprocessing: Preprocessing, origin: Origin | None
) -> ModelConfig:
    """The network that the config names; where it names none the origin's, else the default."""
    wanted = config.model
    dtypes = ("auto", *DTYPES)
    if wanted.dtype not in dtypes:
        # float16 would lose gradients without a scaled loss, and bfloat16 is as small.
        raise UserError(f"config.model.dtype: {wanted.dtype!r} is not one of {', '.join(dtypes)}")
    own = origin.model if origin else get_model_config(DEFAULT_NETWORK, num_classes=1)
    return dataclasses.replace(
        own,
        **(variant(wanted.name) if wanted.name else {}),
        num_classes=charset.num_classes,
        channels=preprocessing.channels,
        geometry=wanted.geometry or own.geometry,
        mean=preprocessing.mean,
        scale=preprocessing.scale,
        dtype=native_library.resolve_dtype(wanted.dtype, wanted.convolution),
        bn_momentum=wanted.bn_momentum,
        unroll=wanted.unroll,
    )
