"""XLA settings that pay, for commands to set before JAX is imported; the library sets none.

On CPU, jaxlib hands float32 products, convolutions and sums to YNNPACK unless a flag forbids it.

| jaxlib | YNNPACK by default, flag known | outside this network |
|---|---|---|
| 0.10.2 | yes | wrong sums and crashes (jax issues 39103, 39257, 40412) |
| 0.11 | reported for 0.11.0, not tried here | 0.11.0 crashes (39257) |
| 0.12.0.1 | yes | the programs of all three issues give what they should |

0.10 trains this network 10 to 15 % slower with it (an earlier form of it, measured on 2 x86-64
cores at full and half width); later versions have not been timed. `Recognizer` in a program of
one's own leaves it on: `en_36` reads the same classes, log p within 4e-5 of XLA's own (0.10.2 in
batches of 64 x 256, 64 x 128 and 16 x 1024, 0.12.0.1 in one of 64 x 256). The crashes need arrays
of 7 axes, and the network's have 4. Gradients with it have not been compared.
"""

import importlib.metadata
import os

NO_YNNPACK = "--xla_cpu_experimental_ynn_fusion_type="
KNOWN_BY = ("0.10.", "0.11.", "0.12.")  # versions of jaxlib that have it


def set_for_cpu() -> None:
    """Turns YNNPACK off where that is known to be possible and the user has not decided.

    An unknown flag aborts the process, hence only for versions of jaxlib known to have it. On GPU
    and TPU the flag changes nothing.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_experimental_ynn_fusion_type" in flags:
        return
    if importlib.metadata.version("jaxlib").startswith(KNOWN_BY):
        os.environ["XLA_FLAGS"] = f"{flags} {NO_YNNPACK}".strip()
