import contextlib
import json
import pathlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import REQUIRED, _digest, load_model, save_model
from crnn_jax.core.safetensors import read_safetensors, write_safetensors
from tests.testdata.tiny_model import tiny_metadata, tiny_variables, write_tiny_model


@pytest.fixture
def path(tmp_path):
    return write_tiny_model(tmp_path / "tiny.safetensors")


def change_metadata(path, change):
    """A sound file with other metadata, as another version might write it."""
    arrays, strings = read_safetensors(path)
    metadata = json.loads(strings["crnn_jax"])
    change(metadata)
    variables = {"params": {}, "batch_stats": {}}
    for name, array in arrays.items():
        node = variables
        *folders, leaf = name.split("/")
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = array
    number = metadata.pop("format", None)
    if number == 1:
        save_model(path, variables, metadata)
    else:
        write_safetensors(path, arrays, {"crnn_jax": json.dumps(metadata | {"format": number})})


def test_round_trip(path):
    variables, metadata = load_model(path)
    jax.tree.map(np.testing.assert_array_equal, variables, tiny_variables()[0])
    assert metadata == tiny_metadata() | {"format": 1}
    assert {a.dtype for a in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


def test_arrays_are_named_by_their_path(path):
    arrays, _ = read_safetensors(path)
    assert {"params/conv1/kernel", "batch_stats/bn3/mean"} <= set(arrays)


def test_float16_is_half_the_size_and_read_as_float32(path, tmp_path):
    half = tmp_path / "half.safetensors"
    want, _ = tiny_variables()
    save_model(half, want, tiny_metadata(), float16=True)
    variables, _ = load_model(half)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    for got, full in zip(
        jax.tree.leaves(variables["params"]), jax.tree.leaves(want["params"]), strict=True
    ):
        np.testing.assert_array_equal(got, full.astype(np.float16))
    jax.tree.map(np.testing.assert_array_equal, variables["batch_stats"], want["batch_stats"])
    arrays, _ = read_safetensors(half)
    dtypes = {(name.split("/")[0], array.dtype.str) for name, array in arrays.items()}
    assert dtypes == {("params", "<f2"), ("batch_stats", "<f4")}


def test_what_float16_cannot_hold_is_told(tmp_path):
    variables = {"params": {"a": np.array([1e6], np.float32)}}
    with pytest.raises(UserError, match="params/a is too large for float16"):
        save_model(tmp_path / "x", variables, tiny_metadata(), float16=True)
    assert not (tmp_path / "x").exists()


def test_every_flipped_bit_is_seen(path, tmp_path):
    sound = pathlib.Path(path).read_bytes()
    content = bytearray(sound)
    random = np.random.default_rng(0)
    places = [*range(0, 400, 13), *random.integers(0, len(content), 40).tolist()]
    other = tmp_path / "flipped.safetensors"
    for place in places:
        content[place] ^= 1 << int(random.integers(8))
        other.write_bytes(content)
        with pytest.raises(UserError):
            load_model(other)
        content[:] = sound


def test_a_later_format_is_refused(path):
    change_metadata(path, lambda m: m.update(format=2))
    with pytest.raises(UserError, match="format 2, this version reads format 1"):
        load_model(path)


def test_unknown_keys_are_kept(path):
    change_metadata(path, lambda m: m.update(colour="blue"))
    assert load_model(path)[1]["colour"] == "blue"


def test_weights_of_others_are_told(tmp_path):
    write_safetensors(tmp_path / "x", {"cnn.conv0.weight": np.zeros(3, np.float32)}, {})
    with pytest.raises(UserError, match="import_weights"):
        load_model(tmp_path / "x")


def test_metadata_without_what_reading_needs_is_a_bug(tmp_path):
    metadata = tiny_metadata()
    del metadata["blank_id"]
    with pytest.raises(ValueError, match="blank_id"):
        save_model(tmp_path / "x", tiny_variables()[0], metadata)


def write_raw(path, text, arrays=None):
    """A file whose checksum is right, whatever it states."""
    arrays = {"params/a": np.zeros(2, np.float32)} if arrays is None else arrays
    write_safetensors(path, arrays, {"crnn_jax": text, "sha256": _digest(arrays, text)})
    return path


SOUND = json.dumps(dict.fromkeys(REQUIRED, 0) | {"format": 1})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"format": 1, "format": 1}', "a key twice"),
        ('{"format": 1, "temperature": NaN}', "NaN is not finite"),
        ("[1]", "metadata cannot be read"),
        ('"format"', "metadata cannot be read"),
        ("7", "metadata cannot be read"),
        ('{"format": "%s"}' % ("x" * 10**6), "format 'xxx"),
        ('{"format": 1}', "lack model, charset"),
        (SOUND.replace("0", '"\\ud800"', 1), "surrogates"),
    ],
)
def test_metadata_made_to_break_a_reader(tmp_path, text, told):
    with pytest.raises(UserError, match=told) as error:
        load_model(write_raw(tmp_path / "x", text))
    assert len(str(error.value)) < 1100


@pytest.mark.parametrize(
    ("names", "dtype", "told"),
    [
        (["params/a", "params/a/b"], "f4", "lies in an array, or is a folder"),
        (["a", "a/b/c"], "f4", "lies in an array, or is a folder"),
        (["/" * 10**6], "f4", "no array of a network"),
        (["params/a"], "i4", "'params/a' of int32 is no array of a network"),
    ],
)
def test_arrays_that_are_no_networks(tmp_path, names, dtype, told):
    with pytest.raises(UserError, match=told):
        load_model(write_raw(tmp_path / "x", SOUND, {n: np.zeros(2, dtype) for n in names}))


@settings(max_examples=60)
@given(st.text(st.characters(codec="utf-8")) | st.text('{}[]",:1eE-+.').map(SOUND.__add__))
def test_any_metadata_are_taken_or_told(tmp_path_factory, text):
    with contextlib.suppress(UserError):
        assert load_model(write_raw(tmp_path_factory.mktemp("any") / "x", text))[1]["format"] == 1
