import contextlib
import json
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.core.safetensors import (
    DTYPES,
    MAX_BYTES,
    MAX_HEADER,
    read_safetensors,
    write_safetensors,
)

ARRAYS = {
    "b/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1.5, -2], np.float16),
    "scalar": np.array(7, np.int64),
    "none": np.zeros((0, 4), np.float32),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, ARRAYS, {"about": "ünïcode"})
    return path


def with_header(path, change):
    """Rewrites a file's header by `change(header dict)`; the arrays' bytes stay."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_round_trip(path):
    arrays, metadata = read_safetensors(path)
    assert metadata == {"about": "ünïcode"}
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_the_package_of_that_name_agrees(path, tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    theirs = package.load_file(path)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(theirs[name], array)
    package.save_file(ARRAYS, tmp_path / "theirs", metadata={"a": "b"})
    arrays, metadata = read_safetensors(tmp_path / "theirs")
    assert metadata == {"a": "b"}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_same_arrays_same_bytes(path, tmp_path):
    backwards = dict(reversed(ARRAYS.items()))
    write_safetensors(tmp_path / "y", backwards, {"about": "ünïcode"})
    assert (tmp_path / "y").read_bytes() == path.read_bytes()


def test_bfloat16_is_read_as_float32(path):
    halves = np.array([1.0, -2.5, 3e38], np.float32)
    upper = (halves.view(np.uint32) >> 16).astype("<u2")
    entry = {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}
    text = json.dumps({"x": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + upper.tobytes())
    np.testing.assert_allclose(read_safetensors(path)[0]["x"], halves, rtol=2**-8)


def test_a_file_cut_short_anywhere_is_told(path, tmp_path):
    content = path.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        # Of the first bytes nobody can say what they are the beginning of.
        told = "cut short" if length > 8 else r"no safetensors file|cut short"
        with pytest.raises(UserError, match=rf"^[^\n]*cut\.safetensors: [^\n]*({told})[^\n]*$"):
            read_safetensors(cut)


def test_bytes_behind_the_end_are_told(path):
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="damaged"):
        read_safetensors(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dtype", "F99"),
        ("shape", [2, 4]),
        ("shape", [-2, -3]),
        ("shape", "ab"),
        ("shape", [2**63, 2**63]),
        ("shape", [2**32, 2**32]),  # 0 in 64 bits
        ("shape", [2.0, 3]),
        ("shape", [True, 6]),
        ("shape", [1] * 100_000 + [6]),
        ("shape", [0, 2**70]),
        ("dtype", ["F32"]),
        ("data_offsets", [4, 28, 52]),
        ("data_offsets", [0, 24]),  # lies over another one
        ("data_offsets", [28, 4]),
        ("data_offsets", [-24, 0]),
        ("data_offsets", [3, 27]),
        ("data_offsets", [4, 2**70]),
        ("data_offsets", None),
    ],
)
def test_a_wrong_header_entry_is_told(path, key, value):
    with_header(path, lambda header: header["b/kernel"].update({key: value}))
    with pytest.raises(UserError, match=r"damaged|cut short"):
        read_safetensors(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip file",
        b"\x89HDF\r\n\x1a\n" * 9,
        struct.pack("<Q", 4) + b"{]{]",
        struct.pack("<Q", 2) + b"[]",
    ],
)
def test_other_files_are_told(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match="no safetensors file"):
        read_safetensors(path)


def test_missing_file_and_folder_are_told(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_safetensors(path)


def test_an_interrupted_write_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(UserError, match="No space left"):
        write_safetensors(path, {"a": np.zeros(3, np.float32)}, {})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_has_no_place_in_the_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="complex"):
        write_safetensors(tmp_path / "x", {"a": np.zeros(1, complex)}, {})


def write_raw(path, header, data=b""):
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b'{"a": {}, "a": {}}', "a key twice"),
        (b'{"__metadata__": {"a": "b", "a": "c"}}', "a key twice"),
        (b'{"__metadata__": {"a": 1}}', "metadata are not strings"),
        (b'{"__metadata__": ["a"]}', "metadata are not strings"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "not finite"),
        (b'{"a": 3}', "a wrong entry"),
        (b'{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}\xff', "utf-8"),
    ],
)
def test_headers_made_to_break_a_reader(path, header, told):
    with pytest.raises(UserError, match=rf"x\.safetensors: .*{told}"):
        read_safetensors(write_raw(path, header))


@pytest.mark.parametrize("stated", [MAX_HEADER + 1, 1 << 62, (1 << 64) - 1])
def test_a_header_of_any_size_is_not_read(path, stated):
    path.write_bytes(struct.pack("<Q", stated) + b'{"a":')
    with pytest.raises(UserError, match=f"its header states {stated:,} bytes, at most 16,777,216"):
        read_safetensors(path)


def test_arrays_of_any_size_are_not_read(path):
    size = MAX_BYTES + 4
    entry = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    write_raw(path, json.dumps({"a": entry}).encode())
    os.truncate(path, path.stat().st_size + size)  # a file of holes
    with pytest.raises(UserError, match=r"too large: 2,147,483,652 bytes of arrays"):
        read_safetensors(path)


def test_unsigned_numbers_are_read(path):
    arrays = {kind: np.arange(3).astype(kind) for kind in ("<u2", "<u4", "<u8")}
    write_safetensors(path, arrays, {})
    read = read_safetensors(path)[0]
    assert {name: array.dtype.str for name, array in read.items()} == {k: k for k in arrays}


numbers = st.integers(-2, 40) | st.sampled_from([2**31, 2**63, 2**64, 1.0, None])
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from([*DTYPES, "F99", None]),
        "shape": st.lists(numbers, max_size=3) | numbers,
        "data_offsets": st.lists(numbers, max_size=3) | numbers,
    },
)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), entries), st.integers(0, 40))
def test_any_header_is_taken_or_told(tmp_path_factory, header, size):
    path = tmp_path_factory.mktemp("any") / "x"
    with contextlib.suppress(UserError):
        arrays, _ = read_safetensors(write_raw(path, json.dumps(header).encode(), bytes(size)))
        assert sum(array.nbytes for array in arrays.values()) <= 2 * size


@settings(max_examples=100)
@given(st.data())
def test_any_changed_bytes_are_taken_or_told(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "x"
    write_safetensors(path, ARRAYS, {"about": "it"})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        read_safetensors(path)
