"""A user's "model" may be a file or a training run's workdir."""

import jax
import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.reading.open_model import open_model
from crnn_jax.training.checkpoints import Checkpoints
from tests.testdata.tiny_model import tiny_metadata, tiny_variables, write_tiny_model


def test_a_folder_that_is_no_workdir_is_told(tmp_path):
    with pytest.raises(UserError, match="a folder without checkpoints"):
        open_model(tmp_path)


def test_a_workdir_opens_by_its_best_model(tmp_path):
    write_tiny_model(tmp_path / "model.safetensors", colour="red")
    assert open_model(tmp_path)[1]["colour"] == "red"


def test_a_workdir_without_its_model_file_opens_by_its_best_checkpoint(tmp_path):
    state = {**tiny_variables()[0], "ema": {}}
    Checkpoints(tmp_path / "checkpoints" / "best", keep=1).save(
        3, state, {"model": tiny_metadata(colour="green")}
    )
    variables, metadata = open_model(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, variables, tiny_variables()[0])
    assert metadata["colour"] == "green"
