"""Arrays that took long to make, kept in a file beside the data, or in the user's cache.

A file holds a line of JSON and then the arrays as they are, so that they can be mapped into
memory: opening costs nothing, and processes share the pages. A file that is damaged, of another
version or made from other data is as good as none.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from typing import Any

import numpy as np

VERSION = 3
ALIGNMENT = 64


def cache_paths(data: str, kind: str, key: dict[str, Any]) -> list[str]:
    """Where a cache may lie: beside the data, or else in the user's cache.

    Args:
        data: path of the annotation file or folder.
        kind: ending of the file's name.
        key: what else the content depends on; each has a file of its own.
    """
    whole = os.path.abspath(data)
    folder, name = (whole, "pictures") if os.path.isdir(whole) else os.path.split(whole)
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [
        os.path.join(folder, f".{name}.{_digest(key)}.crnn-{kind}"),
        os.path.join(user, "crnn_jax", f"{name}.{_digest([whole, key])}.crnn-{kind}"),
    ]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def save(paths: list[str], stamp: Any, note: Any, arrays: dict[str, np.ndarray]) -> str | None:
    """Writes arrays to the first of these paths that can be written.

    Args:
        paths: as of `cache_paths`.
        stamp: what the data was when the arrays were made; `load` asks for the same. JSON.
        note: anything to keep beside them. JSON.
        arrays: by name.

    Returns:
        The path, or None where nothing can be written.
    """
    places, end = {}, 0
    for name, array in arrays.items():
        places[name] = [array.dtype.str, list(array.shape), end]
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    head = {"version": VERSION, "stamp": stamp, "note": note, "arrays": places, "bytes": end}
    line = json.dumps(head).encode()
    line += b" " * (-(len(line) + 1) % ALIGNMENT) + b"\n"
    for path in paths:
        folder = os.path.dirname(path)
        temporary = None
        try:
            if path != paths[0]:  # the data's own folder is there, the user's cache may not be
                os.makedirs(folder, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".crnn-", suffix=".new")
            with os.fdopen(descriptor, "wb") as file:
                file.write(line)
                for array in arrays.values():
                    file.write(np.ascontiguousarray(array).data)
                    file.write(b"\0" * (-array.nbytes % ALIGNMENT))
            os.chmod(temporary, 0o644)  # others who read the data may read this
            os.replace(temporary, path)
        except OSError:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            continue
        return path
    return None


def load(paths: list[str], stamp: Any) -> tuple[str, Any, dict[str, np.ndarray]] | None:
    """(path, note, read-only arrays mapped from it) of the first that fits the stamp, or None.

    Args:
        paths: where to look.
        stamp: as it was saved with; None takes any.
    """
    for path in paths:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with open(path, "rb") as file:
                line = file.readline()
                size = os.fstat(file.fileno()).st_size
            head = json.loads(line)
            if head["version"] != VERSION or stamp not in (None, head["stamp"]):
                continue
            if size != len(line) + head["bytes"]:
                continue
            arrays = {
                name: _mapped(path, dtype, tuple(shape), len(line) + begin)
                for name, (dtype, shape, begin) in head["arrays"].items()
            }
            return path, head["note"], arrays
    return None


def _mapped(path: str, dtype: str, shape: tuple[int, ...], offset: int) -> np.ndarray:
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape)
