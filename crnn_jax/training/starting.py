"""What a run starts from: the run in its workdir, another model, or nothing."""

import dataclasses
from typing import Any

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.models.config import ModelConfig
from crnn_jax.reading.loaded_model import open_model
from crnn_jax.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Origin:
    """A model whose network, pictures and batch norm a run takes on.

    Attributes:
      name: what messages call it.
      model, charset, preprocessing: as its file or the workdir's checkpoint states them.
      variables: of its network; None where a checkpoint is going to be restored.
    """

    name: str
    model: ModelConfig
    charset: Charset
    preprocessing: Preprocessing
    variables: dict[str, Any] | None

    @property
    def resumed(self) -> bool:
        """Whether it is the workdir's own run."""
        return self.variables is None

    def require_fit(self, model: ModelConfig, charset: Charset) -> None:
        """Compares what the config asks for with the weights there are.

        Raises:
          UserError: another network, or for a run that goes on other characters.
        """
        own = self.model
        for key, auto, mine, theirs in (
            ("model.name", "", model.name, own.name),
            ("model.geometry", "", model.geometry, own.geometry),
            ("preprocessing.channels", 0, model.channels, own.channels),
        ):
            if mine != theirs:
                raise UserError(
                    f"config.{key}={mine!r}: the network of {self.name} has {theirs!r}; "
                    f"{auto!r} takes that"
                )
        if self.resumed and charset.symbols != self.charset.symbols:
            raise UserError(
                f"config.charset: {self.name} was begun with other characters, "
                f"{len(self.charset.characters)}, now {len(charset.characters)}; start in another "
                f"--workdir with --config.init_from={self.name}"
            )


def origin_of(config: Any, workdir: Workdir) -> Origin | None:
    """What to start from; a run that has checkpoints needs its `init_from` no more.

    Raises:
      UserError: `config.init_from` is not there, or is no model.
    """
    name, variables, metadata = str(workdir.path), None, workdir.model_metadata()
    if metadata is None:
        if not config.init_from:
            return None
        name = config.init_from
        variables, metadata = open_model(name)
    try:
        return Origin(
            name,
            ModelConfig.from_metadata(metadata),
            Charset.from_metadata(metadata),
            Preprocessing.from_metadata(metadata["preprocessing"]),
            variables,
        )
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
