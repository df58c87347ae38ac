"""Settings of a process that pay on a CPU, for commands to make before JAX is imported.

The library makes none: they hold for the whole process.

**YNNPACK.** jaxlib hands float32 products, convolutions and sums to it unless a flag forbids that.

| jaxlib | outside this network |
|---|---|
| 0.10.2 | wrong sums and crashes (jax issues 39103, 39257, 40412) |
| 0.11.0 | crashes (39257) |
| 0.12.0.1 | the programs of all three issues give what they should |

This network, whose arrays have 4 axes where the crashes need 7, it computes rightly
(`experiments/faults/ynnpack.py`), so `Recognizer` in a program of one's own leaves it as it is. But
0.10.2 trained 10 to 15 % slower with it (2 x86-64 cores), hence the flag.

**Memory.** XLA asks for the memory of a step anew each time, and glibc gives back to the system
what is large: 35,000 page faults a step of `crnn_small` in batches of 64, a tenth of its time. So
memory that was used once is kept, and a process stays as large as it ever was: 2.1 instead of 1.3
GB in a training of `crnn_small` on eight widths. Reading images of 5,000 widths stays level.
"""

import ctypes
import importlib.metadata
import os
import sys

NO_YNNPACK = "--xla_cpu_experimental_ynn_fusion_type="
KNOWN_BY = ("0.10.", "0.11.", "0.12.")  # versions of jaxlib that have it
# The user's variable, mallopt's number and our value: no memory by mmap, none given back, and one
# arena, since only the first can grow at will.
GLIBC = (
    ("MALLOC_MMAP_MAX_", -4, 0),
    ("MALLOC_TRIM_THRESHOLD_", -1, 2**31 - 1),
    ("MALLOC_ARENA_MAX", -8, 1),
)


def apply() -> None:
    """Makes both settings where they are known to be possible; those of the user stay."""
    keep_memory()
    turn_off_ynnpack()


def keep_memory() -> None:
    """Memory that was used once stays with the process."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
        for name, number, value in GLIBC:
            if name not in os.environ:
                libc.mallopt(number, value)


def turn_off_ynnpack() -> None:
    """Where jaxlib knows the flag: an unknown one aborts the process."""
    flags = os.environ.get("XLA_FLAGS", "")
    known = importlib.metadata.version("jaxlib").startswith(KNOWN_BY)
    if known and "xla_cpu_experimental_ynn_fusion_type" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {NO_YNNPACK}".strip()
