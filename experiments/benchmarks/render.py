"""Pictures a second of a core that the renderer draws, beside Pillow writing the same words.

    python experiments/benchmarks/render.py [--styles scene experiments/pretrained/sixth.json]

By seconds of CPU time, in turns over the same samples of `configs/synthetic.py`, 32 px high; text
and size are chosen by the renderer for both. What Pillow does is the least that drawing takes: dark
letters of the fonts found on a light ground, resized to that size; no effect of the style.
"""

import argparse
import contextlib
import statistics
import string
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PIL import Image, ImageDraw

from configs import synthetic
from crnn_jax.core.charset import Charset
from crnn_jax.synthetic.fonts import find_faces
from crnn_jax.synthetic.source import SyntheticSource
from experiments.benchmarks import report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--styles", nargs="+", default=["plain", "scene"])
    parser.add_argument("--count", type=int, default=2000, help="pictures a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", help="also write the rows there")
    args = parser.parse_args()
    fonts = []
    for face in find_faces("auto"):
        with contextlib.suppress(OSError):  # broken, or of a kind that Pillow does not read
            font = face.open(32)
            font.getmask(string.ascii_letters + string.digits + string.punctuation)
            fonts.append(font)
    rows = [row for style in args.styles for row in measure(style, fonts, args)]
    report.show(rows, args.json, ["pillow", "opencv-python-headless", "numpy"])


def measure(style: str, fonts: list, args: argparse.Namespace) -> list[dict]:
    """Two rows: the renderer's and Pillow's."""
    config = synthetic.get_config()
    with config.unlocked():
        config.synthetic.style = style
        config.synthetic.heights = (32, 32)
    table = Charset.from_characters("0123456789abcdefghijklmnopqrstuvwxyz", ignore_case=True)
    source = SyntheticSource(config.synthetic, table, seed=0)

    def pillow(i: int) -> np.ndarray:
        height, width = source.sizes([i])[0].tolist()
        return written(source.text(i), fonts[i % len(fonts)], (width, height))

    seconds: dict[str, list[float]] = {"crnn_jax": [], "Pillow, the word alone": []}
    for turn in range(args.turns + 1):
        ids = range(turn * args.count, (turn + 1) * args.count)
        for subject, draw in zip(seconds, (source.draw, pillow), strict=True):
            start = time.process_time()
            for i in ids:
                draw(i)
            if turn:  # the first one opens files and fills caches
                seconds[subject].append(time.process_time() - start)
        print(f"{style}: turn {turn} of {args.turns}", file=sys.stderr)
    width = round(float(source.sizes(ids)[:, 1].mean()))
    rows = []
    for subject, times in seconds.items():
        speed = round(args.count / statistics.median(times))
        rows.append({"subject": subject, "style": style, "pictures_per_second": speed})
    return [{**row, "faces": len(source.atlas.family), "mean width": width} for row in rows]


def written(text: str, font, size: tuple[int, int]) -> np.ndarray:
    """The word in dark on light, uint8 [h w]."""
    left, top, right, bottom = font.getbbox(text)
    paper = Image.new("L", (max(1, int(right - left)), max(1, int(bottom - top))), 230)
    ImageDraw.Draw(paper).text((-left, -top), text, 30, font=font)
    return np.asarray(paper.resize(size, Image.Resampling.BILINEAR))


if __name__ == "__main__":
    main()
