"""Reading with `Recognizer.read`, decoding of the files included: one word, and a folder of them.

    python experiments/benchmarks/read.py [FOLDER] [-m MODEL] [--json FILE]

One JPEG word at a time, warm: the median and the 99th percentile over `--words` calls. A folder of
pictures in one call: images a second, median of `--turns`, the compilation of its shapes apart.
Without FOLDER 3,000 words are rendered by the project itself (style scene, JPEG, 31 px high).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from crnn_jax import cpu_settings
from experiments.benchmarks import report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="of pictures; default: rendered words")
    parser.add_argument("-m", "--model", help="model file or workdir (default: the shipped one)")
    parser.add_argument("--count", type=int, default=3000, help="pictures of the folder")
    parser.add_argument("--words", type=int, default=1000, help="calls with one picture")
    parser.add_argument("--turns", type=int, default=5, help="readings of the whole folder")
    parser.add_argument("--decoder", default="greedy")
    parser.add_argument("--json", help="also write the rows there")
    args = parser.parse_args()
    cpu_settings.apply()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or rendered(Path(scratch) / "words", args.count)
        rows = measure(str(folder), args)
    packages = ["jax", "jaxlib", "numpy", "pillow"]
    report.show(rows, args.json, packages, f"median of {args.turns} turns")


def rendered(folder: Path, count: int) -> Path:
    """A folder of rendered words, the same on every machine with the same fonts."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "crnn_jax.synthesize", "-o", str(folder)]
    subprocess.run(
        [*command, "--count", str(count), "--seed", "7"],
        cwd=root,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return folder


def measure(folder: str, args: argparse.Namespace) -> list[dict]:
    """Rows of both measurements."""
    from crnn_jax.reading.pictures import list_images
    from crnn_jax.reading.recognizer import Recognizer

    start = time.perf_counter()
    recognizer = Recognizer.load(args.model)
    load_seconds = time.perf_counter() - start
    paths = list_images(folder)[: args.count]
    about = {"subject": "crnn_jax", "model": model_name(recognizer), "decoder": args.decoder}

    few = paths[: max(1, min(len(paths), args.words))]
    for path in few:  # every shape is compiled
        recognizer.read(path, args.decoder)
    seconds = []
    for i in range(args.words):
        start = time.perf_counter()
        recognizer.read(few[i % len(few)], args.decoder)
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    one = {"case": "one word", "pictures": 1, "p50 ms": round(p50, 2), "p99 ms": round(p99, 2)}

    start = time.perf_counter()
    recognizer.read(paths, args.decoder)
    first = time.perf_counter() - start
    turns = []
    for _ in range(args.turns):
        start = time.perf_counter()
        recognizer.read(paths, args.decoder)
        turns.append(time.perf_counter() - start)
    median = float(np.median(turns))
    many = {
        "case": "folder",
        "pictures": len(paths),
        "images_per_second": round(len(paths) / median, 1),
        "first time s": round(first, 2),
    }
    print(f"model loaded in {load_seconds:.2f} s", file=sys.stderr)
    return [{**about, **one}, {**about, **many}]


def model_name(recognizer) -> str:
    """'crnn_small', or the file's name where no named network has its sizes."""
    from crnn_jax.models.config import VARIANTS

    name = recognizer.config.name
    return name if name in VARIANTS else os.path.basename(recognizer.name)


if __name__ == "__main__":
    main()
