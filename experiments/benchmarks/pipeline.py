"""Pictures a second that loading alone delivers, beside the ceiling: decoding and resizing them.

    python experiments/benchmarks/pipeline.py [--workers 0 2] [--lmdb] [--json FILE]

Two sets of JPEGs, rendered by the project itself unless `-a` names annotation files: 31 px high as
MJSynth's, and 100 to 160 px high. `a core`: one thread, pictures by seconds of CPU time, so that a
busy machine tells the same; the ceiling and our batches (index, plan, labels, padding included) in
turns over the same pictures. `whole loader`: by the clock, with threads (0 workers) or processes.
`--lmdb`, `--array_record`: the same pictures out of a store as well.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PIL import Image

from experiments.benchmarks import report

CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
SETS = {"31 px high": "31", "100-160 px high": "100-160"}
PACKAGES = ["numpy", "pillow", "lmdb", "array_record"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-a", "--annotation", nargs="+", help="sets to load; default: rendered")
    parser.add_argument("--count", type=int, default=4096, help="pictures of a rendered set")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=100, help="fixed width; 0 keeps the aspect")
    parser.add_argument("--workers", nargs="*", type=int, default=[0], help="of the whole loader")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--lmdb", action="store_true", help="also from an LMDB")
    parser.add_argument("--array_record", action="store_true", help="also from ArrayRecord")
    parser.add_argument("--json", help="also write the rows there")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        named = {name: name for name in args.annotation or ()}
        for name, heights in SETS.items() if not named else ():
            named[name] = rendered(Path(scratch) / heights, args.count, heights)
        for name, annotation in named.items():
            for kind, path in stored(annotation, Path(scratch), args).items():
                rows += measure(name, kind, path, args)
    report.show(rows, args.json, PACKAGES, f"medians of {args.turns} turns, batch {args.batch}")


def rendered(folder: Path, count: int, heights: str) -> str:
    """A rendered set, as JPEGs."""
    command = [sys.executable, "-m", "crnn_jax.synthesize", "-o", str(folder)]
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [*command, "--count", str(count), "--heights", heights, "--color", "rgb"],
        cwd=root,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return str(folder / "labels.tsv")


def stored(annotation: str, scratch: Path, args: argparse.Namespace) -> dict[str, str]:
    """Kind of store -> where the same pictures lie in it."""
    from crnn_jax.data.files import FileSource

    paths = {"files": annotation}
    place = Path(tempfile.mkdtemp(dir=scratch))
    if args.lmdb:
        try:
            import lmdb
        except ImportError:
            print("lmdb: not installed", file=sys.stderr)
        else:
            source = FileSource(annotation, table())
            (place / "lmdb").mkdir()
            with (
                lmdb.open(str(place / "lmdb"), map_size=1 << 34) as store,
                store.begin(write=True) as put,
            ):
                for i in range(len(source)):
                    put.put(b"image-%09d" % (i + 1), Path(source.identity(i)).read_bytes())
                    put.put(b"label-%09d" % (i + 1), source.line(i)[1].encode())
                put.put(b"num-samples", b"%d" % len(source))
            paths["lmdb"] = str(place / "lmdb")
    if args.array_record:
        try:
            from crnn_jax.data.shards import write_shards
        except ImportError:
            print("tensorflow-datasets: not installed", file=sys.stderr)
        else:
            paths["array_record"] = write_shards(annotation, place)[0]
    return paths


def table():
    from crnn_jax.core.charset import Charset

    return Charset.from_characters(CHARACTERS, ignore_case=True)


def measure(name: str, kind: str, path: str, args: argparse.Namespace) -> list[dict]:
    """Rows of one set."""
    from crnn_jax.core.preprocessing import Preprocessing
    from crnn_jax.data.files import FileSource
    from crnn_jax.data.loader import batches, collate
    from crnn_jax.data.plan import Plan

    rule = Preprocessing(width=args.width, max_width=256)
    source = FileSource(path, table())
    options = {"boundaries": (64, 96, 128, 160), "geometry": "keras"}
    plan = Plan(source, batch_size=args.batch, preprocessing=rule, **options)
    epoch = [plan.row(step) for step in range(plan.steps_per_epoch)]
    ids = np.concatenate([row.ids[row.ids >= 0] for row in epoch]).tolist()

    contents = [source.content(i) for i in ids]

    def ceiling() -> None:
        for content in contents:
            decode_and_resize(content, rule)

    def ours() -> None:
        for row in epoch:
            collate(row, source, rule)

    seconds: dict[str, list[float]] = {"ceiling": [], "crnn_jax": []}
    for turn in range(args.turns + 1):
        for subject, run in (("ceiling", ceiling), ("crnn_jax", ours)):
            start = time.process_time()
            run()
            if turn:  # the first one fills the system's file cache
                seconds[subject].append(time.process_time() - start)
        print(f"{name}, {kind}: turn {turn} of {args.turns}", file=sys.stderr)
    about = {"set": name, "from": kind}
    paired = [a / b for a, b in zip(seconds["ceiling"], seconds["crnn_jax"], strict=True)]
    rows = []
    for subject, times in seconds.items():
        speed = len(ids) / statistics.median(times)
        rows.append({"subject": subject, **about, "case": "a core", "images_per_second": speed})
    rows[-1]["share of the ceiling"] = round(statistics.median(paired), 3)
    for workers in args.workers:
        stream = batches(plan, source, rule, workers=workers)
        steps = plan.steps_per_epoch
        for _ in itertools.islice(stream, steps):
            pass  # processes start and import
        start = time.perf_counter()
        for _ in itertools.islice(stream, args.turns * steps):
            pass
        passed = time.perf_counter() - start
        stream.close()
        what = f"{workers} processes" if workers else f"{min(8, os.cpu_count() or 1)} threads"
        row = {"subject": "crnn_jax", **about, "case": f"whole loader, {what}"}
        rows.append({**row, "images_per_second": args.turns * len(ids) / passed})
    for row in rows:
        row["images_per_second"] = round(row["images_per_second"])
    return rows


def decode_and_resize(content: str | bytes, rule) -> np.ndarray:
    """The least that anybody has to do for a picture."""
    if isinstance(content, bytes):
        import io

        content = io.BytesIO(content)
    with Image.open(content) as picture:
        size = rule.target_width(picture.height, picture.width), rule.height
        grey = picture.convert("RGB").convert("L")
        return np.asarray(grey.resize(size, Image.Resampling.BILINEAR))


if __name__ == "__main__":
    main()
