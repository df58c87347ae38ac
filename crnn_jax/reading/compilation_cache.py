"""Compiled programs kept between processes, so that a command's second start is quick.

    compilation_cache.enable()   # in a command, after parsing its flags, before the first image

Only commands do this: it sets an option of JAX for the whole process, which a library should
leave to the program it is used in.
"""

import contextlib
import hashlib
import os
import platform
import warnings
import zlib
from pathlib import Path

from crnn_jax.core.files import user_cache

CHECKED = "checked"  # a file whose time tells when the entries were last looked at


def enable() -> None:
    """Turns JAX's persistent compilation cache on, in the user's cache folder.

    Where JAX_COMPILATION_CACHE_DIR is set the user has decided and nothing is changed.
    """
    import jax

    if jax.config.values.get("jax_compilation_cache_dir"):
        return
    folder = os.path.join(user_cache(), "xla", machine())
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
    if not os.access(folder, os.W_OK):  # done without
        return
    drop_damaged(Path(folder))
    # Where the disk is full programs are compiled anew, which is all that it costs.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    jax.config.update("jax_compilation_cache_dir", folder)
    # By default only programs that took a second to compile are kept; ours are many small ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def drop_damaged(folder: Path) -> None:
    """Removes entries that a kill cut short, of those written since it was last asked for.

    JAX writes an entry in place and never again: it would be told, and compiled anew, at every
    start.
    """
    with contextlib.suppress(OSError):
        checked = folder / CHECKED
        since = checked.stat().st_mtime if checked.exists() else 0.0
        for path in folder.glob("*-cache"):
            if path.stat().st_mtime >= since and not _is_whole(path.read_bytes()):
                path.unlink()
        checked.touch()


def _is_whole(packed: bytes) -> bool:
    """False for a stream of zlib without its end; of zstandard's, if installed, JAX sees to it."""
    stream = zlib.decompressobj()
    with contextlib.suppress(zlib.error):
        stream.decompress(packed)
    return stream.eof or packed.startswith(b"\x28\xb5\x2f\xfd")


def machine() -> str:
    """A short name for this kind of processor and these versions.

    Home folders are shared between machines, and a program compiled for a processor with more
    instructions than this one has ends in an illegal instruction.
    """
    import jaxlib

    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            wanted = ("model name", "flags", "Features", "CPU part")
            lines = sorted({line for line in file if line.startswith(wanted)})
    except OSError:
        lines = [platform.processor(), platform.machine(), platform.release()]
    digest = hashlib.sha256("\n".join([jaxlib.__version__, *lines]).encode()).hexdigest()
    return digest[:16]
