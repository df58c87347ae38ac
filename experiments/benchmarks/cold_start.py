"""Seconds from a command to its answer in a fresh process: help, loading, one picture read.

    python experiments/benchmarks/cold_start.py [--turns 7] [--json FILE]

`demo, first ever` compiles with an empty compilation cache; `demo` finds what a run before it left
there, as every run but the first does. Floors: Python alone, and Python importing JAX.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.benchmarks import report

ROOT = Path(__file__).resolve().parents[2]
LOAD = "from crnn_jax.reading.recognizer import Recognizer; Recognizer.load()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?", help="one word; default: the first example picture")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", help="also write the rows there")
    args = parser.parse_args()
    image = args.image or str(next(iter(sorted((ROOT / "example/images").iterdir()))))
    cases = {
        "python alone": ["-c", "pass"],
        "python, import jax": ["-c", "import jax; jax.devices()"],
        "demo --help": ["-m", "crnn_jax.demo", "--help"],
        "train --help": ["-m", "crnn_jax.main", "--help"],
        "Recognizer.load": ["-c", LOAD],
        "demo": ["-m", "crnn_jax.demo", image],
        "demo, first ever": ["-m", "crnn_jax.demo", image],
    }
    seconds: dict[str, list[float]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as kept:
        for turn in range(args.turns + 1):
            for case, arguments in cases.items():
                with tempfile.TemporaryDirectory() as fresh:
                    passed = timed(arguments, fresh if case.endswith("first ever") else kept)
                if turn:  # the first turn fills caches, those of the system too
                    seconds[case].append(passed)
            print(f"turn {turn} of {args.turns}", file=sys.stderr)
    rows = [
        {
            "subject": "crnn_jax" if "python" not in case else "floor",
            "case": case,
            "seconds": round(statistics.median(times), 3),
            "fastest": round(min(times), 3),
        }
        for case, times in seconds.items()
    ]
    report.show(rows, args.json, ["jax", "jaxlib", "flax"], f"medians of {args.turns} turns")


def timed(arguments: list[str], cache: str) -> float:
    """Seconds of a fresh Python process whose compilation cache lies in a folder of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": cache,
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
    }
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
