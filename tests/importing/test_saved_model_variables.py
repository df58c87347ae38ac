"""Variables of a SavedModel whose bytes are not what TensorFlow wrote."""

import contextlib

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.importing.saved_model_variables import read_variables

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def saved(tmp_path):
    """The folder and its two files' bytes."""
    tf = pytest.importorskip("tensorflow", reason="makes the file to read")
    root = tf.train.Checkpoint(layer=tf.train.Checkpoint())
    root.layer.kernel = tf.Variable(KERNEL, name="dense/kernel")
    root.write(f"{tmp_path}/variables/variables")
    return tmp_path, {path: path.read_bytes() for path in (tmp_path / "variables").iterdir()}


def test_as_it_was_written(saved):
    ((name, value),) = read_variables(saved[0])
    assert name == "dense/kernel"
    np.testing.assert_array_equal(value, KERNEL)


def test_cut_short_or_missing(saved):
    folder, files = saved
    for path, content in files.items():
        for length in (0, 1, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(UserError, match=f"^{folder}: damaged or cut short: "):
                read_variables(folder)
        path.unlink()
        with pytest.raises(UserError, match=f"^{folder}: damaged or cut short: "):
            read_variables(folder)
        path.write_bytes(content)


def test_any_byte_overwritten(saved):
    folder, files = saved
    told = 0
    for path, content in files.items():
        for place in range(0, len(content), 5):
            path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
            told += 1
            with contextlib.suppress(UserError):
                read_variables(folder)
                told -= 1
        path.write_bytes(content)
    assert told > 20
