"""Loads the code that numba compiles, and keeps what was compiled in the user's cache.

numba is an extra (`pip install crnn_jax[beam]`) and takes half a second to import, so nothing
here runs before a beam search is asked for.
"""

import atexit
import concurrent.futures
import functools
import glob
import hashlib
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from types import ModuleType
from typing import Any

from crnn_jax.core.errors import UserError

ROOM = 1 << 22  # bytes, several times what the functions take
CHUNKS = 4  # a thread: pictures take unequal time, and the last chunk is waited for


@functools.cache
def available() -> bool:
    """Whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


@functools.cache
def kernels(name: str) -> ModuleType:
    """The module `crnn_jax.decoding.<name>`, its functions kept between processes.

    They lie in NUMBA_CACHE_DIR where the user has set it, else in the user's cache, in a folder
    named after their source: numba itself looks only at the file of the function that is called
    and not at those it calls, and would run what was compiled from an older version of them.
    Where that cannot be written they are compiled in every process.

    Raises:
        UserError: neither that folder nor the system's temporary one has room for them.
    """
    import numba

    named = numba.config.CACHE_DIR
    folder = named or os.path.join(_user_cache(), "crnn_jax", "numba", _digest())
    kept = glob.glob(os.path.join(glob.escape(folder), "**", "*.nbc"), recursive=True)
    if not kept:
        print("compiling the beam search, once: about 20 s", file=sys.stderr)
    here = any(os.path.basename(path).startswith(f"{name}.") for path in kept)
    if _trouble(folder, 0 if here else ROOM):
        folder = tempfile.mkdtemp(prefix="crnn_jax-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        if trouble := _trouble(folder, ROOM):
            raise UserError(f"{folder}: no room for the compiled beam search: {trouble}")
    try:
        # Only while these functions are declared: other users of numba keep their own setting.
        numba.config.CACHE_DIR = folder
        return importlib.import_module(f"crnn_jax.decoding.{name}")
    finally:
        numba.config.CACHE_DIR = named


def in_threads(function: Callable[[int, int], Any], count: int) -> None:
    """Calls `function(start, stop)` for chunks of range(count), on every core.

    Plain threads and compiled code that releases Python's lock, not numba's `prange`: its usual
    thread pool ends the process when two threads of a server use it at once.
    """
    threads = min(_cores(), count)
    if threads <= 1:
        function(0, count)
        return
    chunks = min(CHUNKS * threads, count)
    bounds = [count * i // chunks for i in range(chunks + 1)]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(function, bounds[:-1], bounds[1:]))


def _trouble(folder: str, size: int) -> str | None:
    """Why so many bytes cannot be kept there; numba would find out in the middle of a search."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(size))
    except OSError as error:
        return error.strerror or str(error)
    return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _user_cache() -> str:
    return os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")


def _digest() -> str:
    """Of every source file in this folder: the functions call each other across files."""
    digest = hashlib.sha256()
    folder = os.path.dirname(__file__)
    for name in sorted(name for name in os.listdir(folder) if name.endswith(".py")):
        with open(os.path.join(folder, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()[:16]
