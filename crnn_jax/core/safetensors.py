"""The safetensors format: named arrays and string metadata in one file that can run no code.

A file is the length of its header (8 bytes, little-endian), the header (JSON: name -> dtype,
shape and place) and the arrays' bytes one after the other without a gap
(https://huggingface.co/docs/safetensors). Written here rather than taken from the package of
that name because reading a picture should need little, because the same arrays always give the
same bytes here, and because a damaged file is to be answered in one line.
"""

import json
import math
import os
import struct
from typing import Any, BinaryIO

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.strict_json import parse_json
from crnn_jax.core.user_files import open_file, read_bytes
from crnn_jax.core.whole_file import whole_file

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has no bfloat16: the upper half of a float32, see `_as_array`
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_CODES = {dtype: code for code, dtype in DTYPES.items() if code != "BF16"}
# A table of every character there is takes 10 MB of the header; the format itself allows 100 MB,
# which as JSON in Python is some gigabytes.
MAX_HEADER = 1 << 24
MAX_BYTES = 1 << 31  # of all arrays; a full CRNN has 35 MB, one of 100,000 characters 240 MB
MAX_RANK = 8
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
    with whole_file(path, "wb") as file:
        file.writelines([struct.pack("<Q", len(text)), text, *blobs])


def read_safetensors(
    path: str | os.PathLike[str],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a file whole; its sizes are looked at before anything of that size is read.

    Args:
        path: of the file.

    Returns:
        (arrays, read-only, bfloat16 as float32; metadata).

    Raises:
        UserError: there is no such file, or it is damaged, cut short, of another format or larger
            than any CRNN.
    """
    name = os.fspath(path)
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        header = _header(file, name, size)
        metadata = header.pop(_METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise UserError(f"{name}: damaged: its metadata are not strings by name")
        arrays: dict[str, np.ndarray] = {}
        try:
            places = sorted((_place(entry), key) for key, entry in header.items())
            length = 0
            for (start, end, _, _), key in places:
                if start != length:
                    raise UserError(
                        f"{name}: damaged: {key!r} does not start where the one before ends"
                    )
                length = end
            if length > MAX_BYTES:
                raise UserError(
                    f"{name}: too large: {length:,} bytes of arrays, at most {MAX_BYTES:,}"
                )
            found = size - file.tell()
            if found != length:
                what = "cut short" if found < length else "damaged"
                raise UserError(f"{name}: {what}: {found} bytes of arrays where {length} should be")
            data = memoryview(read_bytes(file, name, length))
            for (start, end, code, shape), key in places:
                arrays[key] = _as_array(data[start:end], code, shape)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{name}: damaged: a wrong entry in its header") from error
    return arrays, metadata


def _header(file: BinaryIO, name: str, size: int) -> dict[str, Any]:
    """The parsed header; the file is left standing behind it."""
    if size < 8:
        raise UserError(f"{name}: no safetensors file, or cut short: it has {size} bytes")
    (length,) = struct.unpack("<Q", read_bytes(file, name, 8))
    text = read_bytes(file, name, min(length, MAX_HEADER, size - 8))
    if text[:1] not in (b"{", b""):
        raise UserError(f"{name}: no safetensors file")
    if length > MAX_HEADER:
        raise UserError(
            f"{name}: damaged: its header states {length:,} bytes, at most {MAX_HEADER:,}"
        )
    if len(text) < length:
        raise UserError(f"{name}: cut short: its header alone has {length} bytes")
    try:
        header = parse_json(text)
    except ValueError as error:
        raise UserError(
            f"{name}: no safetensors file, or damaged: unreadable header: {error}"
        ) from error
    if not isinstance(header, dict):
        raise UserError(f"{name}: no safetensors file")
    return header


def _place(entry: dict[str, Any]) -> tuple[int, int, str, list[int]]:
    """Start, end, type and shape of an array, in bytes that fit each other."""
    code, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if len(shape) > MAX_RANK or any(type(n) is not int or n < 0 for n in (*shape, start, end)):
        raise ValueError("no shape")
    if end - start != math.prod(shape) * DTYPES[code].itemsize:
        raise ValueError("shape and bytes differ")
    return start, end, code, shape


def _as_array(data: memoryview, code: str, shape: list[int]) -> np.ndarray:
    array = np.frombuffer(data, DTYPES[code]).reshape(shape)
    if code == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
