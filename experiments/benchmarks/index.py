"""A file of MJSynth's size: seconds and bytes until training can start; padding and its price.

    python experiments/benchmarks/index.py [--lines 7200000] [-a ANNOTATION] [--json FILE]

Makes an annotation file in MJSynth's form (no pictures: a fixed width opens none) and measures, in
a process of its own each, the first start and a later one: seconds and lines a minute of the index,
seconds of the plan, its first row and a row of the next epoch, and bytes a sample, those kept and
the most that were in use. With `-a` also: the share of padding of that set with at most `--shapes`
widths, and the seconds that compiling a train step takes for each of them.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from experiments.benchmarks import report

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CHARACTERS = LETTERS + "0123456789"
WORDS = 88_172  # of MJSynth's lexicon
CHUNK = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=7_200_000, help="of the made file; 0 for none")
    parser.add_argument("--folder", help="for the made file (0.3 GB); default: a temporary one")
    parser.add_argument("-a", "--annotation", help="a set whose padding is measured")
    parser.add_argument("--models", nargs="+", default=["crnn_small"], help="compiled with -a")
    parser.add_argument("--shapes", type=int, default=12, help="widths of batches, at most")
    parser.add_argument("--max-width", type=int, default=0, help="pixels; 0: as check proposes")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", help="also write the rows there")
    parser.add_argument("--start", help=argparse.SUPPRESS)  # the measured process
    args = parser.parse_args()
    if args.start:
        print(json.dumps(start(args.start)))
        return
    rows = []
    if args.lines:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            path = os.path.join(folder, "annotation.txt")
            make_file(path, args.lines)
            for which in ("first start", "later start"):
                rows.append({"subject": "crnn_jax", "case": which, **measured(path)})
                print(f"{which}: {rows[-1]}", file=sys.stderr)
    if rows:
        report.show(rows, None, ["numpy"])
        print()
    shapes: list[dict] = []
    if args.annotation:
        for model in args.models:
            shapes += padding(args.annotation, model, args)
    else:
        print("padding: name a set with -a", file=sys.stderr)
    if shapes:
        report.show(shapes, None, ["jax", "jaxlib", "flax"])
    if args.json:
        whole = {"rows": rows + shapes, "machine": report.machine()}
        whole["versions"] = report.versions(["numpy", "jax", "jaxlib", "flax", "pillow"])
        Path(args.json).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def make_file(path: str, lines: int) -> None:
    """Lines like MJSynth's: ./2425/1/115_Lube_45484.jpg 45484."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.normal(8.3, 2.9, WORDS).round().astype(int), 1, 23)
    letters = "".join(rng.choice(list(LETTERS), int(lengths.sum())).tolist())
    bounds = itertools.pairwise(np.concatenate(([0], np.cumsum(lengths))).tolist())
    words = [letters[a:b].capitalize() for a, b in bounds]
    with open(path, "w", encoding="utf-8") as file:
        for begin in range(0, lines, CHUNK):
            count = min(CHUNK, lines - begin)
            numbers = rng.integers(0, WORDS, count).tolist()
            places = zip(range(begin, begin + count), numbers, strict=True)
            file.write(
                "".join(
                    f"./{i // 2500}/{i % 7 + 1}/{i % 300}_{words[n]}_{n}.jpg {n}\n"
                    for i, n in places
                )
            )


def measured(path: str) -> dict:
    """`start` in a fresh process."""
    command = [sys.executable, __file__, "--start", path]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def start(path: str) -> dict:
    """What training does before its first batch, timed."""
    from crnn_jax.core.charset import Charset
    from crnn_jax.core.preprocessing import Preprocessing
    from crnn_jax.data.files import FileSource
    from crnn_jax.data.plan import Plan

    charset = Charset.from_characters(CHARACTERS, ignore_case=True)
    rule = Preprocessing(width=100)
    options = {"batch_size": 256, "geometry": "keras", "max_label_length": 32}
    with PrivateMemory() as memory:
        clock = Clock()
        source = FileSource(path, charset, cache=True)
        index_seconds = clock()
        plan = Plan(source, preprocessing=rule, **options)
        plan_seconds = clock()
        plan.row(0)
        row_seconds = clock()
        plan.row(plan.steps_per_epoch)
        epoch_seconds = clock()
    index = source.index
    arrays = (index.places, index.flat, index.label_offsets, index.status)
    count = len(source)
    return {
        "lines": count,
        "index s": round(index_seconds, 2),
        "million lines a minute": round(count / index_seconds * 60e-6, 2),
        "plan s": round(plan_seconds, 2),
        "first row s": round(row_seconds, 2),
        "next epoch's row s": round(epoch_seconds, 2),
        "bytes a sample, kept": round(sum(a.nbytes for a in arrays) / count, 1),
        "bytes a sample, at most": round(memory.most / count, 1),
    }


class Clock:
    """Seconds since it was asked last."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def __call__(self) -> float:
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed


class PrivateMemory:
    """The most bytes that this process had for itself, beyond what it began with.

    Pages of files mapped into memory are not counted: the system takes them back at will.
    """

    def __enter__(self) -> "PrivateMemory":
        self._ended = threading.Event()
        self._before = _private_bytes()
        self.most = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self.most = max(self.most, _private_bytes() - self._before)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.most = max(self.most, _private_bytes() - self._before)


def _private_bytes() -> int:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            line = next(line for line in file if line.startswith("RssAnon:"))
    except (OSError, StopIteration):
        return 0  # not Linux: nothing told
    return int(line.split()[1]) * 1024


def padding(annotation: str, model_name: str, args: argparse.Namespace) -> list[dict]:
    """The shapes of a set's batches, the padding with them, and what compiling them costs."""
    from crnn_jax import cpu_settings
    from crnn_jax.core.charset import Charset
    from crnn_jax.core.preprocessing import (
        Preprocessing,
        propose_boundaries,
        propose_max_width,
    )
    from crnn_jax.data.files import FileSource
    from crnn_jax.data.plan import Plan
    from crnn_jax.data.source import resized_widths, trainable

    charset = Charset.from_characters(CHARACTERS, ignore_case=True)
    source = FileSource(annotation, charset, cache=True)
    wide = Preprocessing(max_width=args.max_width or 4096)
    usable, _ = trainable(source, wide, "keras")
    widths = resized_widths(source.sizes(np.flatnonzero(usable)), wide)
    limit = args.max_width or max(propose_max_width(widths), wide.min_width)
    boundaries = propose_boundaries(np.minimum(widths, limit), args.shapes)
    rule = Preprocessing(max_width=boundaries[-1])
    plan = Plan(
        source,
        batch_size=args.batch,
        boundaries=boundaries,
        preprocessing=rule,
        geometry="keras",
    )
    clock = Clock()
    share = plan.padding_share()
    print(
        f"{plan.num_samples:,} samples, {len(plan.widths)} shapes, max_width {boundaries[-1]}: "
        f"padding {100 * share:.2f} % (found in {clock():.2f} s)\n"
    )
    cpu_settings.apply()
    step = make_step(model_name, charset.num_classes)
    rows = []
    for width in plan.widths:
        clock()
        step(args.batch, width, plan.label_axis(width))
        first = clock()
        step(args.batch, width, plan.label_axis(width))
        rows.append(
            {
                "subject": "crnn_jax",
                "model": model_name,
                "batch": args.batch,
                "width": width,
                "compile s": round(first - clock(), 2),
            }
        )
        print(rows[-1], file=sys.stderr)
    total = round(sum(row["compile s"] for row in rows), 1)
    whole = {"subject": "crnn_jax", "model": model_name, "batch": args.batch, "width": "all"}
    return [*rows, {**whole, "compile s": total, "padding": round(share, 4)}]


def make_step(name: str, classes: int):
    """A function that takes one train step on a random batch of a shape, and waits for it."""
    import jax
    import optax

    from crnn_jax.models.config import get_model_config
    from crnn_jax.models.crnn import CRNN
    from crnn_jax.training.parallel import Parallel
    from crnn_jax.training.state import create_state, init_variables
    from crnn_jax.training.step import make_train_step

    parallel = Parallel("jit", jax.devices()[:1])
    model = CRNN(get_model_config(name, num_classes=classes), parallel.axis_name)
    optimizer = optax.adam(1e-3)
    step = parallel.train_step(make_train_step(model, optimizer, blank_id=classes - 1))
    state = create_state(init_variables(model, 0), optimizer, ema=False)
    held = [parallel.replicate(state)]
    rng = np.random.default_rng(0)

    def run(batch: int, width: int, label_axis: int) -> None:
        length = min(3, label_axis)
        arrays = {
            "image": rng.integers(0, 256, (batch, 32, width, 1), dtype=np.uint8),
            "width": np.full(batch, width, np.int32),
            "label": np.tile(np.arange(label_axis, dtype=np.int32) % 3, (batch, 1)),
            "label_length": np.full(batch, length, np.int32),
            "mask": np.ones(batch, bool),
        }
        held[0], metrics = step(held[0], parallel.shard(arrays))
        jax.block_until_ready((held[0], metrics))

    return run


if __name__ == "__main__":
    main()
