import itertools

import jax
import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import (
    _digest,
    load_model,
    read_safetensors,
    save_model,
    write_safetensors,
)
from tests.testdata.tiny_model import tiny_metadata, tiny_variables, write_tiny_model

ARRAYS = {
    "b/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1.5, -2], np.float16),
    "scalar": np.array(7, np.int64),
    "none": np.zeros((0, 4), np.float32),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "backwards": np.arange(6, dtype=np.float32)[::-2],
}
STRINGS = {"z": "ünïcode", "about": "it", "more": "a", "most": "b"}


@pytest.fixture
def path(tmp_path):
    return write_tiny_model(tmp_path / "tiny.safetensors")


def test_arrays_and_strings_come_back(tmp_path):
    write_safetensors(tmp_path / "x", ARRAYS, STRINGS)
    arrays, strings = read_safetensors(tmp_path / "x")
    assert strings == STRINGS
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_the_model_that_ships_is_written_as_it_was(tmp_path, root):
    shipped = root / "crnn_jax/weights/en_36.safetensors"
    write_safetensors(tmp_path / "x", *read_safetensors(shipped))
    assert (tmp_path / "x").read_bytes() == shipped.read_bytes()


def test_round_trip(path):
    variables, metadata = load_model(path)
    jax.tree.map(np.testing.assert_array_equal, variables, tiny_variables()[0])
    assert metadata == tiny_metadata() | {"format": 1}
    assert {a.dtype for a in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    assert {"params/conv1/kernel", "batch_stats/bn3/mean"} <= set(read_safetensors(path)[0])


def test_float16_is_half_the_size_and_read_as_float32(tmp_path):
    want, _ = tiny_variables()
    save_model(tmp_path / "half", want, tiny_metadata(), float16=True)
    variables, _ = load_model(tmp_path / "half")
    assert {a.dtype for a in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    halves = jax.tree.map(lambda a: a.astype(np.float16), want["params"])
    jax.tree.map(np.testing.assert_array_equal, variables["params"], halves)
    jax.tree.map(np.testing.assert_array_equal, variables["batch_stats"], want["batch_stats"])
    arrays, _ = read_safetensors(tmp_path / "half")
    dtypes = {(name.split("/")[0], array.dtype.str) for name, array in arrays.items()}
    assert dtypes == {("params", "<f2"), ("batch_stats", "<f4")}


def test_what_float16_cannot_hold_is_told(tmp_path):
    variables = {"params": {"a": np.array([1e6], np.float32)}}
    with pytest.raises(UserError, match="params/a is too large for float16"):
        save_model(tmp_path / "x", variables, tiny_metadata(), float16=True)
    assert not (tmp_path / "x").exists()


def test_every_flipped_bit_and_every_cut_is_told(path, tmp_path):
    with open(path, "rb") as file:
        sound = file.read()
    random = np.random.default_rng(0)
    broken = tmp_path / "broken"
    for place in itertools.chain(range(0, 400, 13), random.integers(0, len(sound), 40).tolist()):
        flipped = bytearray(sound)
        flipped[place] ^= 1 << int(random.integers(8))
        for content in (flipped, sound[:place]):
            broken.write_bytes(content)
            with pytest.raises(UserError, match=r"^[^\n]*broken: [^\n]*$"):
                load_model(broken)


def write_raw(path, text):
    """A file whose checksum is right, whatever it states."""
    write_safetensors(path, ARRAYS, {"crnn_jax": text, "sha256": _digest(ARRAYS, text)})
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "metadata cannot be read"),
        ("[1]", "metadata cannot be read"),
        ("7", "metadata cannot be read"),
        ("{}", "metadata cannot be read"),
        ('{"format": 2}', "format 2 of a newer crnn_jax"),
    ],
)
def test_metadata_of_no_model(tmp_path, text, message):
    with pytest.raises(UserError, match=f"x: .*{message}"):
        load_model(write_raw(tmp_path / "x", text))


def test_weights_of_others_and_other_files_are_told(tmp_path):
    write_safetensors(tmp_path / "x", ARRAYS, {})
    with pytest.raises(UserError, match="import_weights"):
        load_model(tmp_path / "x")
    for content in (b"", b"PK\x03\x04 a zip file", b"\x89HDF\r\n\x1a\n" * 9):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(UserError, match="x: no safetensors file"):
            load_model(tmp_path / "x")
