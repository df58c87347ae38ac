"""What a config means: characters, sources, the plan of batches, the network."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import jax
import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import HEIGHT
from crnn_jax.core.preprocessing import Preprocessing, propose_widths, widened
from crnn_jax.data import loader
from crnn_jax.data.loader import Batch
from crnn_jax.data.plan import Plan
from crnn_jax.data.source import Source, seen_labels
from crnn_jax.data.sources import charset_of, mixed, open_sources
from crnn_jax.models import native_library
from crnn_jax.models.config import DTYPES, MAX_UNROLL, ModelConfig, get_model_config, variant
from crnn_jax.models.crnn import CRNN
from crnn_jax.training.init_from import AUTO, Pretrained, transfer
from crnn_jax.training.state import Variables, init_variables

DEFAULT_NETWORK = "crnn_small"  # if neither config nor `init_from` names one
RENDERED = 2048  # rendered samples that buckets are fitted to
# (least, most) -> the keys whose numbers must lie there.
RANGES = {
    (1, math.inf): """batch_size evaluation.batch_size synthetic.count checkpoint.every_steps
        checkpoint.keep log.every_steps optimizer.gradient_accumulation_steps""",
    (1, MAX_UNROLL): "model.unroll",
    (0, math.inf): """epochs steps min_steps data.workers data.synthetic_ratio
        evaluation.every_steps evaluation.patience optimizer.learning_rate optimizer.warmup_steps
        optimizer.clip_norm optimizer.final_fraction optimizer.weight_decay
        optimizer.max_nonfinite_steps log.pictures data.max_label_length""",
    (0, 1): "model.bn_momentum optimizer.b1 optimizer.b2 optimizer.ema_decay",
}


@dataclasses.dataclass
class Experiment:
    """Everything a run needs before a device is touched."""

    config: Any
    pretrained: Pretrained | None
    charset: Charset
    preprocessing: Preprocessing
    model: ModelConfig
    train: Any
    validation: list[Any]
    plan: Plan
    boundaries: tuple[int, ...]
    total_steps: int

    @property
    def unknown_id(self) -> int:
        """The class that is never read; -1 if `<UNK>` is trained as a character."""
        return -1 if self.config.data.unknown == "map" else self.charset.unknown_id

    @property
    def evaluate_every(self) -> int:
        """Steps between evaluations: by default an epoch, or a twentieth of the run if longer.

        At most 500, so that a long run leaves a model whenever it is stopped; or as many as train
        on four times the images of the validation sets, which bounds the time they take.
        """
        images = 4 * sum(map(len, self.validation))
        often = max(500, images // self.config.batch_size)
        return self.config.evaluation.every_steps or min(self._seldom, often)

    @property
    def patience(self) -> int:
        """Evaluations without a better one that end the run, 0 if none do.

        Those that come earlier than the default are more, for as many steps as without them.
        """
        more = 1 if self.config.evaluation.every_steps else self._seldom / self.evaluate_every
        return round(self.config.evaluation.patience * more)

    @property
    def _seldom(self) -> int:
        return max(self.plan.steps_per_epoch, -(-self.total_steps // 20))

    @functools.cached_property
    def evaluation_plans(self) -> list[Plan]:
        """Every sample of each validation source once, also those that cannot be trained on."""
        rule, geometry = self.preprocessing, self.model.geometry
        return [
            _plan(self.config, source, rule, geometry, self.boundaries, evaluation=True)
            for source in self.validation
        ]

    @functools.cached_property
    def seen_labels(self) -> list[np.ndarray]:
        """Of each validation source bool [n], whether its labels are trained on too."""
        return seen_labels(self.train, self.validation)

    def batches(
        self, plan: Plan, source: Source, start: int, stop: int, augment: str | None = None
    ) -> Iterator[Batch]:
        """This process's part of the steps start .. stop - 1."""
        data = self.config.data
        read = loader.tf_batches if data.loader == "tf" else loader.batches
        return read(
            plan,
            source,
            self.preprocessing,
            start=start,
            stop=stop,
            workers=data.workers,
            host=(jax.process_index(), jax.process_count()),
            augment=augment,
            seed=self.config.seed,
        )

    def initial_variables(self) -> tuple[Variables, list[str]]:
        """The first variables, a function of seed and `init_from`, and log lines."""
        variables = init_variables(CRNN(self.model), self.config.seed)
        source = self.pretrained
        if source is None or source.variables is None:
            return variables, []
        variables, lines = transfer(variables, self.charset, source.variables, source.charset)
        if self.config.init_from == AUTO:
            lines.insert(0, f"init_from: {source.name}, by the characters of the labels")
        lines.append("init_from: network, preprocessing and batch norm's epsilon are that model's")
        ours, theirs = self.preprocessing.to_metadata(), source.preprocessing.to_metadata()
        lines += [
            f"init_from: but config.preprocessing.{key}={ours[key]}, that model's {theirs[key]}"
            for key in ("width", "min_width", "max_width")[: 1 if ours["width"] else 3]
            if ours[key] != theirs[key]
        ]
        return variables, lines

    def metadata(self, step: int) -> dict[str, Any]:
        """A model file's metadata."""
        return {
            "format": 1,
            "model": self.model.to_dict(),
            **self.charset.to_metadata(),
            "preprocessing": self.preprocessing.to_metadata(),
            "temperature": 1.0,
            "emit_unknown": self.config.data.unknown == "map",
            "training": {"data": self.config.data.train, "step": step, "seed": self.config.seed},
        }


def make_experiment(config: Any, pretrained: Pretrained | None = None) -> Experiment:
    """Reads character table and annotations; `pretrained` fills what the config leaves open."""
    _check_values(config)
    named = config.charset.table or config.charset.characters
    if pretrained and pretrained.variables is None and not named:
        # New labels must not change the classes of the weights.
        ignore_case = config.charset.ignore_case
        charset = dataclasses.replace(pretrained.charset, ignore_case=ignore_case)
    else:
        charset = charset_of(config, pretrained.charset.characters if pretrained else ())
    preprocessing = _preprocessing(config, pretrained.preprocessing if pretrained else None)
    model = _network(config, charset, preprocessing, pretrained)
    if pretrained:
        pretrained.require_fit(model, charset)
    sources, weights, validation = open_sources(config, charset, preprocessing.channels)
    preprocessing, boundaries = fit_widths(config, sources, preprocessing)
    train = mixed(config, sources, weights, preprocessing, model.geometry)
    plan = _plan(config, train, preprocessing, model.geometry, boundaries, evaluation=False)
    epochs = round(config.epochs * plan.steps_per_epoch)
    total_steps = config.steps or max(1, epochs, config.min_steps)
    return Experiment(
        config,
        pretrained,
        charset,
        preprocessing,
        model,
        train,
        validation,
        plan,
        boundaries,
        total_steps,
    )


def _check_values(config: Any) -> None:
    """UserError for a number out of range or an unknown choice."""
    for (least, most), keys in RANGES.items():
        for key in keys.split():
            value = attrgetter(key)(config)
            if not (math.isfinite(value) and least <= value <= most):
                wanted = f"from {least} to {most}" if most < math.inf else f"at least {least}"
                raise UserError(f"config.{key}={value}: want a number, {wanted}")
    for key, value, right in (
        ("data.loader", config.data.loader, ("threads", "tf")),
        # float16 would lose gradients without loss scaling.
        ("model.dtype", config.model.dtype, ("auto", *DTYPES)),
        ("preprocessing.height", config.preprocessing.height, (HEIGHT,)),
    ):
        if value not in right:
            raise UserError(f"config.{key}: {value!r} is not {' or '.join(map(str, right))}")
    if bool(config.steps) == bool(config.epochs):
        raise UserError(
            f"config.steps={config.steps} and config.epochs={config.epochs}: set one, 0 the other"
        )
    trace = tuple(config.log.profile)
    if trace and not (len(trace) == 2 and 0 <= trace[0] < trace[1]):
        raise UserError(f"config.log.profile={trace}: want (from, to), or ()")


def _preprocessing(config: Any, origin: Preprocessing | None = None) -> Preprocessing:
    """The rule that `config.preprocessing` gives.

    Its values 0 (of `width` -1) leave it to `origin`, the rule of the model that training starts
    from, or else to the defaults.
    """
    wanted, origin = config.preprocessing, origin or Preprocessing()
    return dataclasses.replace(
        origin,
        channels=wanted.channels or origin.channels,
        height=wanted.height,
        width=origin.width if wanted.width == -1 else wanted.width,
        min_width=wanted.min_width or origin.min_width,
        max_width=wanted.max_width or origin.max_width,
    )


def _plan(
    config: Any,
    source: Source,
    preprocessing: Preprocessing,
    geometry: str,
    boundaries: Sequence[int],
    *,
    evaluation: bool,
) -> Plan:
    """The batches of a source: shuffled for training; every sample once for evaluation."""
    return Plan(
        source,
        batch_size=config.evaluation.batch_size if evaluation else config.batch_size,
        boundaries=boundaries,
        max_label_length=config.data.max_label_length,
        preprocessing=preprocessing,
        geometry=geometry,
        seed=config.seed,
        shuffle=not evaluation,
        all=evaluation,
    )


def fit_widths(
    config: Any, sources: Sequence[Any], rule: Preprocessing
) -> tuple[Preprocessing, tuple[int, ...]]:
    """Rule and bucket widths; what the config leaves open follows from the training images.

    Without `preprocessing.max_width` the rule's own grows to what stored images need.
    """
    boundaries = tuple(config.data.bucket_boundaries)
    stored = [s for s in sources if not s.windowed]
    if not rule.free_width or not stored or (boundaries and config.preprocessing.max_width):
        return rule, boundaries
    sizes = np.concatenate([s.sizes(np.arange(len(s))) for s in stored])
    sizes = sizes[sizes[:, 0] > 0]  # readable
    if not len(sizes):
        return rule, boundaries
    if not config.preprocessing.max_width:
        rule = widened(rule, rule.natural_width(*sizes.T))
    rendered = [s.sizes(np.arange(min(len(s), RENDERED))) for s in sources if s.windowed]
    natural = rule.natural_width(*np.concatenate([sizes, *rendered]).T)
    proposed = propose_widths(np.minimum(natural, rule.max_width), rule)
    return rule, boundaries or tuple(w for w in proposed if w < rule.max_width)


def _network(
    config: Any,
    charset: Charset,
    preprocessing: Preprocessing,
    pretrained: Pretrained | None,
) -> ModelConfig:
    """The config's network, or else that of `pretrained`, or the default."""
    wanted = config.model
    own = pretrained.model if pretrained else get_model_config(DEFAULT_NETWORK, num_classes=1)
    sizes = variant(wanted.name) if wanted.name else {}
    if wanted.geometry:
        sizes["geometry"] = wanted.geometry
    return dataclasses.replace(
        own,
        **sizes,
        num_classes=charset.num_classes,
        channels=preprocessing.channels,
        mean=preprocessing.mean,
        scale=preprocessing.scale,
        dtype=native_library.resolve_dtype(wanted.dtype, wanted.convolution),
        bn_momentum=wanted.bn_momentum,
        unroll=wanted.unroll,
    )
