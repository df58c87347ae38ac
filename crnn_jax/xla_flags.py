"""XLA settings that pay, for commands to set before JAX is imported; the library sets none.

On CPU, jaxlib 0.10 hands float32 products and convolutions to YNNPACK, which trains this network
10 to 15 % slower than XLA's own (an earlier form of it, measured on 2 x86-64 cores at full and
half width).
"""

import importlib.metadata
import os

NO_YNNPACK = "--xla_cpu_experimental_ynn_fusion_type="


def set_for_cpu() -> None:
    """Turns YNNPACK off where that is known to be possible and the user has not decided.

    An unknown flag aborts the process, hence only for the jaxlib that it was tried with. On GPU
    and TPU the flag changes nothing.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_experimental_ynn_fusion_type" in flags:
        return
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        os.environ["XLA_FLAGS"] = f"{flags} {NO_YNNPACK}".strip()
