"""Where a run starts: fresh variables, or another model's."""

from typing import Any

from crnn_jax.models.crnn import CRNN
from crnn_jax.spec.charset import Charset
from crnn_jax.training.experiment import Experiment
from crnn_jax.training.init_from import carry
from crnn_jax.training.open_model import open_model
from crnn_jax.training.state import Variables, init_variables


def initial_variables(
    experiment: Experiment, config: Any, axis_name: str | None, frozen: tuple[str, ...]
) -> tuple[CRNN, Variables, list[str]]:
    """The network, its first variables (a pure function of seed and `init_from`), log lines."""
    model = CRNN(experiment.model, axis_name, frozen)
    # Initialising outside of any mapped axis: there is no axis to sum over yet.
    variables = init_variables(CRNN(experiment.model), config.seed)
    if not config.init_from:
        return model, variables, []
    source, metadata = open_model(config.init_from)
    variables, lines = carry(variables, experiment.charset, source, Charset.from_metadata(metadata))
    return model, variables, lines
