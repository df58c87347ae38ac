"""Settings of the process for a CPU, made by commands before JAX is imported, not by the library.

**YNNPACK.** jaxlib gives float32 operations to it unless a flag forbids that. With jaxlib 0.10.2 it
trained 10 to 15 % slower (2 x86-64 cores). Its wrong sums and crashes (jax issues 39103, 39257 and
40412, up to jaxlib 0.11) do not touch this network (`experiments/faults/ynnpack.py`).

**Memory.** XLA allocates a step's memory anew each time, and glibc returns large blocks to the
system: 35,000 page faults a step of `crnn_small` in batches of 64, a tenth of its time. So freed
memory is kept: 2.1 instead of 1.3 GB in a training of `crnn_small` on eight widths.
"""

import ctypes
import importlib.metadata
import os
import sys

NO_YNNPACK = "--xla_cpu_experimental_ynn_fusion_type="
KNOWN_BY = ("0.10.", "0.11.", "0.12.")  # versions of jaxlib that have the flag
# The user's variable, mallopt's number and our value: no memory by mmap, none returned, and one
# arena, since only the first can grow at will.
GLIBC = (
    ("MALLOC_MMAP_MAX_", -4, 0),
    ("MALLOC_TRIM_THRESHOLD_", -1, 2**31 - 1),
    ("MALLOC_ARENA_MAX", -8, 1),
)


def apply() -> None:
    """Makes both settings where they are possible; those of the user stay."""
    keep_memory()
    turn_off_ynnpack()


def keep_memory() -> None:
    """Freed memory stays with the process."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
        for name, number, value in GLIBC:
            if name not in os.environ:
                libc.mallopt(number, value)


def turn_off_ynnpack() -> None:
    """Only where jaxlib knows the flag: an unknown one aborts the process."""
    flags = os.environ.get("XLA_FLAGS", "")
    known = importlib.metadata.version("jaxlib").startswith(KNOWN_BY)
    if known and "xla_cpu_experimental_ynn_fusion_type" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {NO_YNNPACK}".strip()
