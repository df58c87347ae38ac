"""What a run starts from: the run in its workdir, another model, or nothing.

Columns of the last layer belong to characters, so they are copied by symbol.
"""

import unicodedata
from typing import Any, NamedTuple

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.sources import charset_of
from crnn_jax.models.config import ModelConfig
from crnn_jax.training.checkpoints import Workdir
from crnn_jax.training.state import Variables

SHOWN = 100  # characters in a line of the log
AUTO, MODELS = "auto", ("en_36", "lines")  # from few to many characters


class Pretrained(NamedTuple):
    """A model whose network, preprocessing and batch norm a run takes over.

    Attributes:
      name: for messages.
      model, charset, preprocessing: of the model file or the workdir's checkpoint.
      variables: None for the workdir's own model, whose checkpoint will be restored.
    """

    name: str
    model: ModelConfig
    charset: Charset
    preprocessing: Preprocessing
    variables: Variables | None

    def require_fit(self, model: ModelConfig, charset: Charset) -> None:
        """UserError if the config's network does not fit these weights."""
        for key, auto, wanted, own in (
            ("model.name", "", model.name, self.model.name),
            ("model.geometry", "", model.geometry, self.model.geometry),
            ("preprocessing.channels", 0, model.channels, self.model.channels),
        ):
            if wanted != own:
                raise UserError(
                    f"config.{key}={wanted!r}: the network of {self.name} has {own!r}; "
                    f"{auto!r} takes that"
                )
        if self.variables is None and charset.symbols != self.charset.symbols:
            raise UserError(
                f"config.charset: {self.name} was begun with other characters, "
                f"{len(self.charset.characters)}, now {len(charset.characters)}; start in another "
                f"--workdir with --config.init_from={self.name}"
            )


def start_model(config: Any) -> str:
    """`init_from`; for 'auto' the first model that ships which knows the labels' characters."""
    if config.init_from != AUTO:
        return str(config.init_from)
    from crnn_jax.reading.loaded_model import open_model

    wanted = set(charset_of(config).characters)
    for name in MODELS[:-1]:
        if wanted.issubset(Charset.from_metadata(open_model(name)[1]).characters):
            return name
    return MODELS[-1]


def load_pretrained(config: Any, workdir: Workdir) -> Pretrained | None:
    """The model to start from; a run that has checkpoints does not read `init_from` again."""
    name, variables, metadata = str(workdir.path), None, workdir.meta().get("model")
    if metadata is None:
        if not config.init_from:
            return None
        from crnn_jax.reading.loaded_model import open_model

        name = start_model(config)
        variables, metadata = open_model(name)
    try:
        return Pretrained(
            name,
            ModelConfig.from_metadata(metadata),
            Charset.from_metadata(metadata),
            Preprocessing.from_metadata(metadata["preprocessing"]),
            variables,
        )
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def transfer(
    variables: Variables, charset: Charset, source: Variables, source_charset: Charset
) -> tuple[Variables, list[str]]:
    """The source's variables, with the last layer's columns in the order of `charset`; log lines.

    `variables` are fresh; new characters keep theirs.
    """
    places = {symbol: i for i, symbol in enumerate(source_charset.symbols)}
    pairs = [(i, places[s]) for i, s in enumerate(charset.symbols) if s in places]
    # A new letter starts as the one that it is built on: é as e; and where the model ignores case,
    # and so has learnt capitals too, É and E as e.
    built_on = []
    for i, s in enumerate(charset.symbols):
        base = unicodedata.normalize("NFD", s)[0] if len(s) == 1 else s  # <UNK> is no letter
        likes = (base, s.lower(), base.lower()) if source_charset.ignore_case else (base,)
        like = next((places[c] for c in likes if c in places), None)
        if s not in places and like is not None:
            built_on.append((i, like))
    ours, theirs = (np.array(side, np.int64) for side in zip(*pairs, *built_on, strict=True))
    logits = {}
    for name, value in variables["params"]["logits"].items():
        logits[name] = np.array(value)
        logits[name][..., ours] = source["params"]["logits"][name][..., theirs]
    new = [s for i, s in enumerate(charset.symbols) if i not in ours]
    gone = [s for s in source_charset.symbols if s not in charset.symbols]
    lines = [f"init_from: {len(pairs)} of {charset.num_classes} classes kept"]
    if built_on:
        lines.append(f"init_from: {len(built_on)} new letters start as those they are built on")
    for what, symbols in (("new characters", new), ("dropped characters", gone)):
        if symbols:
            more = f" and {len(symbols) - SHOWN} more" if len(symbols) > SHOWN else ""
            lines.append(f"init_from: {what}: {' '.join(map(repr, symbols[:SHOWN]))}{more}")
    return {**source, "params": {**source["params"], "logits": logits}}, lines
