"""The safetensors format: named arrays and string metadata in one file that can run no code.

A file is the length of its header (8 bytes, little-endian), the header (JSON: name -> dtype,
shape and place) and the arrays' bytes one after the other without a gap
(https://huggingface.co/docs/safetensors). Written here rather than taken from the package of
that name because reading a picture should need little, because the same arrays always give the
same bytes here, and because a damaged file is to be answered in one line.
"""

import json
import os
import struct
from typing import Any

import numpy as np

from crnn_jax.spec.errors import UserError

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has no bfloat16: the upper half of a float32, see `_as_array`
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_CODES = {dtype: code for code, dtype in DTYPES.items() if code != "BF16"}
_MAX_HEADER = 100_000_000  # the format's own limit: a wrong first byte must not ask for 2^60 bytes
_METADATA = "__metadata__"


def write_safetensors(
    path: str | os.PathLike[str], arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Writes a file, all of it or nothing: an interrupted write leaves what was there before.

    Args:
        path: of the file; its folder must exist.
        arrays: name -> array of one of `DTYPES`.
        metadata: strings under names of their own.

    Raises:
        UserError: the file cannot be written.
        ValueError: an array of another dtype.
    """
    header: dict[str, Any] = {_METADATA: metadata}
    blobs, place = [], 0
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        dtype = array.dtype.newbyteorder("<")
        if dtype not in _CODES:
            raise ValueError(f"{name}: arrays of {array.dtype} have no place in the format")
        blobs.append(np.ascontiguousarray(array, dtype).tobytes())
        ends = [place, place + len(blobs[-1])]
        header[name] = {"dtype": _CODES[dtype], "shape": list(array.shape), "data_offsets": ends}
        place = ends[1]
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # arrays start at a multiple of 8, as the format asks
    unfinished = f"{os.fspath(path)}.{os.getpid()}.tmp"
    try:
        with open(unfinished, "wb") as file:
            file.writelines([struct.pack("<Q", len(text)), text, *blobs])
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"{os.fspath(path)}: cannot be written: {error.strerror}") from error
    finally:
        if os.path.exists(unfinished):
            os.remove(unfinished)


def read_safetensors(
    path: str | os.PathLike[str],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a file whole.

    Args:
        path: of the file.

    Returns:
        (arrays, read-only, bfloat16 as float32; metadata).

    Raises:
        UserError: there is no such file, or it is damaged, cut short or of another format.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from error
    header, data = _split(name, content)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise UserError(f"{name}: damaged: its metadata are not strings by name")
    arrays, place = {}, 0
    try:
        for key, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, end = entry["data_offsets"]
            if start != place:
                raise UserError(f"{name}: damaged: {key} does not start where the one before ends")
            arrays[key] = _as_array(data, entry["dtype"], entry["shape"], start, end)
            place = end
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{name}: damaged: a wrong entry in its header") from error
    if place != len(data):
        what = "cut short" if place > len(data) else "damaged"
        raise UserError(f"{name}: {what}: {len(data)} bytes of arrays where {place} should be")
    return arrays, metadata


def _split(name: str, content: bytes) -> tuple[dict[str, Any], memoryview]:
    """The parsed header and the bytes behind it."""
    if len(content) < 8:
        raise UserError(f"{name}: no safetensors file, or cut short: it has {len(content)} bytes")
    (length,) = struct.unpack("<Q", content[:8])
    if length > _MAX_HEADER or content[8:9] not in (b"{", b""):
        raise UserError(f"{name}: no safetensors file")
    if 8 + length > len(content):
        raise UserError(f"{name}: cut short: its header alone has {length} bytes")
    try:
        header = json.loads(content[8 : 8 + length].decode())
    except ValueError as error:  # of the JSON or of UTF-8
        raise UserError(f"{name}: no safetensors file, or damaged: unreadable header") from error
    if not isinstance(header, dict):
        raise UserError(f"{name}: no safetensors file")
    return header, memoryview(content)[8 + length :]


def _as_array(data: memoryview, code: str, shape: list[int], start: int, end: int) -> np.ndarray:
    dtype = DTYPES[code]
    count = int(np.prod(shape, dtype=np.int64))
    if end - start != count * dtype.itemsize:
        raise ValueError("shape and bytes differ")
    if end > len(data):  # told by the caller, who knows how much there should be
        return np.zeros(0, dtype)
    array = np.frombuffer(data, dtype, count, start).reshape(shape)
    if code == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
