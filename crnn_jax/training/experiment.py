"""What a config means: characters, sources, the plan of batches, the network."""

import dataclasses
from typing import Any

from crnn_jax.data.open import open_sources
from crnn_jax.data.plan import Plan
from crnn_jax.models.config import ModelConfig, get_model_config
from crnn_jax.spec.charset import Charset
from crnn_jax.spec.errors import UserError
from crnn_jax.spec.geometry import num_frames
from crnn_jax.spec.preprocessing import Preprocessing


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
        return -1 if self.config.data.unknown == 'map' else self.charset.unknown_id

    def evaluation_plan(self, source: Any) -> Plan:
        """Every sample of a source once, also those that could not be trained on."""
        return make_plan(self.config, source, self.preprocessing, evaluation=True)

    def metadata(self, step: int) -> dict[str, Any]:
        """What a model file states beside the weights."""
        return {
            'format': 1,
            'model': self.model.to_dict(),
            **self.charset.to_metadata(),
            'preprocessing': self.preprocessing.to_metadata(),
            'temperature': 1.0,
            'emit_unknown': self.config.data.unknown == 'map',
            'training': {'data': self.config.data.train, 'step': step, 'seed': self.config.seed},
        }

    def describe(self) -> list[str]:
        """Lines for the start of a run."""
        width = self.preprocessing.width or self.preprocessing.max_width
        frames = num_frames(width, self.model.geometry)
        lines = [f'characters: {self.charset.num_classes - 1} and the blank']
        lines.append(
            f'{width} px -> {frames} frames: at most {frames} characters, fewer with doubles'
        )
        widths = ', '.join(map(str, self.plan.widths))
        lines.append(
            f'{self.plan.steps_per_epoch} batches of {self.config.batch_size} an epoch, '
            f'{widths} px wide; {self.total_steps} steps in all'
        )
        return lines


def make_experiment(config: Any) -> Experiment:
    """Reads character table and annotations.

    Raises:
      UserError: whatever in the config or the data cannot be used.
    """
    charset = make_charset(config.charset)
    wanted = config.preprocessing
    preprocessing = Preprocessing(
        channels=wanted.channels,
        height=wanted.height,
        width=wanted.width,
        min_width=wanted.min_width,
        max_width=wanted.max_width,
    )
    if preprocessing.height != 32:
        raise UserError(f'config.preprocessing.height: {preprocessing.height}; the network takes 32')
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
    plan = make_plan(config, train, preprocessing, evaluation=False)
    if bool(config.steps) == bool(config.epochs):
        raise UserError(
            f'config.steps={config.steps} and config.epochs={config.epochs}: set one, 0 the other'
        )
    total_steps = config.steps or round(config.epochs * plan.steps_per_epoch)
    return Experiment(
        config, charset, preprocessing, model, train, validation, plan, total_steps
    )


def make_charset(config: Any) -> Charset:
    """From `config.charset`: a table file, or the characters themselves."""
    if bool(config.table) == bool(config.characters):
        raise UserError('config.charset: set one of table and characters')
    if config.table:
        return Charset.read(config.table, ignore_case=config.ignore_case)
    return Charset.from_characters(config.characters, ignore_case=config.ignore_case)


def make_plan(config: Any, source: Any, preprocessing: Preprocessing, *, evaluation: bool) -> Plan:
    """The order of a source's samples in batches."""
    return Plan(
        source,
        batch_size=config.evaluation.batch_size if evaluation else config.batch_size,
        boundaries=config.data.boundaries,
        max_label_length=config.data.max_label_length,
        preprocessing=preprocessing,
        geometry=config.model.geometry,
        seed=config.seed,
        shuffle=not evaluation,
        all=evaluation,
    )
