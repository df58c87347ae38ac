"""What a config means: characters, sources, the plan of batches, the network."""

import dataclasses
from pathlib import Path
from typing import Any

from crnn_jax.data.open import charset_of, open_sources, plan_of, preprocessing_of
from crnn_jax.data.plan import Plan
from crnn_jax.models.config import ModelConfig, get_model_config
from crnn_jax.spec.charset import Charset
from crnn_jax.spec.errors import UserError
from crnn_jax.spec.geometry import num_frames
from crnn_jax.spec.preprocessing import Preprocessing
from crnn_jax.training.limits import require_limits

HEIGHT = 32  # of the pictures that the seven convolutions bring down to one row


@dataclasses.dataclass
class Experiment:
    """Everything a run needs before a device is touched."""

    config: Any
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
        return plan_of(self.config, source, self.preprocessing, evaluation=True)

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
        width = self.preprocessing.width or self.preprocessing.max_width
        frames = num_frames(width, self.model.geometry)
        lines = [f"characters: {self.charset.num_classes - 1} and the blank"]
        lines.append(
            f"{width} px -> {frames} frames: at most {frames} characters, fewer with doubles"
        )
        widths = ", ".join(map(str, self.plan.widths))
        lines.append(
            f"{self.plan.steps_per_epoch} batches of {self.config.batch_size} an epoch, "
            f"{widths} px wide; {self.total_steps} steps in all"
        )
        return lines


def make_experiment(config: Any, kept_table: Path | None = None) -> Experiment:
    """Reads character table and annotations.

    Args:
      config: a locked ConfigDict, see configs/.
      kept_table: of the run that this one goes on with; taken where the config names no characters.

    Raises:
      UserError: whatever in the config or the data cannot be used.
    """
    require_limits(config)
    if bool(config.steps) == bool(config.epochs):
        raise UserError(
            f"config.steps={config.steps} and config.epochs={config.epochs}: set one, 0 the other"
        )
    if kept_table and not config.charset.table and not config.charset.characters:
        charset = Charset.read(kept_table, ignore_case=config.charset.ignore_case)
    else:
        charset = charset_of(config)
    preprocessing = preprocessing_of(config)
    if preprocessing.height != HEIGHT:
        raise UserError(
            f"config.preprocessing.height={preprocessing.height}: the network takes {HEIGHT}"
        )
    model = get_model_config(
        config.model.name,
        num_classes=charset.num_classes,
        channels=preprocessing.channels,
        geometry=config.model.geometry,
        mean=preprocessing.mean,
        scale=preprocessing.scale,
        dtype=config.model.dtype,
        bn_momentum=config.model.bn_momentum,
        unroll=config.model.unroll,
    )
    train, validation = open_sources(config, charset, preprocessing, model.geometry)
    plan = plan_of(config, train, preprocessing, evaluation=False)
    epochs = round(config.epochs * plan.steps_per_epoch)
    total_steps = config.steps or max(1, epochs, config.least_steps)
    return Experiment(config, charset, preprocessing, model, train, validation, plan, total_steps)
