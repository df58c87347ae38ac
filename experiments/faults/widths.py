"""Reads many pictures of many widths in one process; states memory, compilations and speed.

python experiments/faults/widths.py [--pictures 20000] [--widths 5000] [--at_once 1000] [-m MODEL]
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from crnn_jax import cpu_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--widths", type=int, default=5_000, help="100, 101, ... pixels")
    parser.add_argument("--at_once", type=int, default=1_000, help="pictures a call of `read`")
    parser.add_argument("-m", "--model", help="default: the one that ships")
    args = parser.parse_args()
    cpu_settings.apply()
    import jax

    from crnn_jax.reading.recognizer import Recognizer

    compiled: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: (
            compiled.append(seconds) if event.endswith("backend_compile_duration") else None
        )
    )
    recognizer = Recognizer.load(args.model)
    widths = [100 + i % args.widths for i in range(args.pictures)]
    random.Random(0).shuffle(widths)
    for start in range(0, args.pictures, args.at_once):
        some = widths[start : start + args.at_once]
        pictures = [
            np.random.default_rng(w).integers(0, 256, (100, w), dtype=np.uint8) for w in some
        ]
        since = time.monotonic()
        recognizer.read(pictures)
        row = {
            "read": start + len(some),
            "pictures_per_second": round(len(some) / (time.monotonic() - since), 1),
            "compiled": len(compiled),
            "compiling_seconds": round(sum(compiled), 1),
            "resident_mb": resident(),
        }
        print(json.dumps(row), flush=True)


def resident() -> int:
    """Memory of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
