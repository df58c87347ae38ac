"""A model as exports take it: what the file holds, opened once and checked.

model = LoadedModel.open('en_36')
model.config, model.variables, model.charset, model.preprocessing
"""

import dataclasses
import os
from typing import Any

from crnn_jax.core.charset import REPLACEMENT, Charset
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.models.config import ModelConfig
from crnn_jax.reading.open_model import open_model
from crnn_jax.reading.recognizer import SHIPPED, Recognizer


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """Everything that a model file states.

    Attributes:
        name: what errors call it.
        variables: {'params', 'batch_stats'}, nested dictionaries of float32 NumPy arrays.
        metadata: of the file, as it is.
        config, charset, preprocessing, temperature: what the metadata say, parsed; the network
            computes in float32.
        unknown_id: the class that no decoder may emit; -1 where all may be.
    """

    name: str
    variables: dict[str, Any]
    metadata: dict[str, Any]
    config: ModelConfig
    charset: Charset
    preprocessing: Preprocessing
    temperature: float
    unknown_id: int

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None) -> "LoadedModel":
        """Opens a model file or workdir, or the model that ships.

        Raises:
            UserError: it is not there, is damaged, or contradicts itself.
        """
        name = os.fspath(SHIPPED if path is None else path)
        return cls.of(*open_model(name), name)

    @classmethod
    def of(
        cls, variables: dict[str, Any], metadata: dict[str, Any], name: str = "model"
    ) -> "LoadedModel":
        """What `reading.open_model` returns, with its metadata parsed; raises as `open`."""
        reader = Recognizer(variables, metadata, name)  # it checks all that can contradict
        return cls(
            name,
            variables,
            metadata,
            # What a GPU was trained in is not what other runtimes compute in.
            dataclasses.replace(reader.config, dtype="float32"),
            reader.charset,
            reader.preprocessing,
            reader.temperature,
            -1 if reader.emits_unknown else reader.charset.unknown_id,
        )

    @property
    def symbols(self) -> list[str]:
        """What each class writes: '' for the blank."""
        special = {self.charset.blank_id: "", self.charset.unknown_id: REPLACEMENT}
        return [special.get(i, symbol) for i, symbol in enumerate(self.charset.symbols)]
