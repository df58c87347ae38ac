"""Reads narrow images in several views and takes the most probable text: what each view gains.

    python experiments/views/views.py DIR/iiit5k_train DIR/svt_train DIR/icdar2015_train

A folder holds images and labels.tsv. Views of an image: as it is; stretched to a least width;
turned by a quarter; and, as boxes around slanted words are upright, the word that would have that
box at an angle, turned level and cut out. Every view is read once; combinations are counted after.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path[:0] = [str(Path(__file__).parents[2])]

from crnn_jax import cpu_settings  # noqa: E402
from crnn_jax.core.images import decode_image  # noqa: E402
from crnn_jax.reading.loaded_model import SHIPPED, open_model  # noqa: E402
from crnn_jax.reading.recognizer import Recognizer  # noqa: E402

STRETCHED = 80  # pixels at height 32
ANGLES = (8, 15, 22, 30)
TALL = 1.25  # height / width from which quarter turns are tried
Readings = dict[int, tuple[str, float]]  # image -> letters and digits, confidence


def level(image: np.ndarray, degrees: float) -> np.ndarray | None:
    """The word at this angle whose upright bounding box is the image; None where there is none.

    A box of a word l long and t tall is l cos + t sin wide and l sin + t cos high.
    """
    height, width = image.shape[:2]
    angle = math.radians(abs(degrees))
    cos, sin = math.cos(angle), math.sin(angle)
    length = (width * cos - height * sin) / math.cos(2 * angle)
    tall = (height * cos - width * sin) / math.cos(2 * angle)
    if tall < 0.2 * height or length < 0.8 * tall:
        return None
    size = max(8, round(1.02 * length)), max(8, round(1.1 * tall))
    sin = math.copysign(sin, degrees)
    left = width / 2 - (cos * size[0] + sin * size[1]) / 2
    top = height / 2 + (sin * size[0] - cos * size[1]) / 2
    turned = Image.fromarray(image[..., 0]).transform(
        size,
        Image.Transform.AFFINE,
        (cos, sin, left, -sin, cos, top),
        Image.Resampling.BILINEAR,
        fillcolor=int(np.median(image)),
    )
    return np.asarray(turned)


def letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isascii() and c.isalnum())


def read(recognizer: Recognizer, images: dict[int, np.ndarray]) -> Readings:
    found = recognizer.read(list(images.values()))
    return {i: (letters(r.text), r.confidence) for i, r in zip(images, found, strict=True)}


def views_of(folder: Path, as_it_is: Recognizer, stretched: Recognizer):
    """Labels, aspects (width / height), and the readings of each view by its name."""
    lines = (folder / "labels.tsv").read_text(encoding="utf-8-sig").splitlines()
    pairs = [line.split("\t", 1) for line in lines]
    images = {i: decode_image(str(folder / path), 1) for i, (path, _) in enumerate(pairs)}
    labels = [letters(label) for _, label in pairs]
    aspects = [image.shape[1] / image.shape[0] for image in images.values()]
    found = {"as it is": read(as_it_is, images)}
    narrow = {i: image for i, image in images.items() if aspects[i] < STRETCHED / 32}
    found["stretched"] = read(stretched, narrow)
    tall = {i: image for i, image in images.items() if aspects[i] * TALL <= 1}
    for quarters in (1, 3):
        turned = {i: np.rot90(image, quarters) for i, image in tall.items()}
        for name, recognizer in (("", as_it_is), (" stretched", stretched)):
            found[f"turned {quarters}{name}"] = read(recognizer, turned)
    for degrees in (sign * angle for angle in ANGLES for sign in (-1, 1)):
        cut = {i: level(image, degrees) for i, image in images.items() if aspects[i] < 4}
        found[str(degrees)] = read(as_it_is, {i: x for i, x in cut.items() if x is not None})
    return labels, aspects, found


def right(labels, aspects, found, names: Sequence[str], narrower: float) -> tuple[int, int]:
    """How many are right by the most probable of these views, and how many views were read."""
    count = reads = 0
    for i, label in enumerate(labels):
        views = [found["as it is"][i]]
        for name in names:
            free = not name.lstrip("-").isdigit() or aspects[i] < narrower
            if i in found[name] and free:
                views.append(found[name][i])
        reads += len(views)
        count += bool(label) and max(views, key=lambda view: view[1])[0] == label
    return count, reads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("-m", "--model", default=SHIPPED)
    args = parser.parse_args()
    cpu_settings.apply()
    variables, metadata = open_model(args.model)
    wide = dict(metadata, preprocessing=metadata["preprocessing"] | {"min_width": STRETCHED})
    recognizers = Recognizer(variables, metadata), Recognizer(variables, wide)
    sets = [views_of(folder, *recognizers) for folder in args.folders]
    turns = [f"turned {k}{s}" for k in (1, 3) for s in ("", " stretched")]
    some = {
        "as it is": [],
        "stretched": ["stretched"],
        "stretched, turned": ["stretched", *turns],
        **{
            f"the same, level by up to {most}": ["stretched", *turns]
            + [str(s * a) for a in ANGLES if a <= most for s in (-1, 1)]
            for most in ANGLES
        },
    }
    print("| views |", " | ".join(folder.name for folder in args.folders), "| reads an image |")
    for title, names in some.items():
        for narrower in (2.0, 2.5, 3.0) if "level" in title else (0.0,):
            counts = [right(*one, names, narrower) for one in sets]
            shares = [
                f"{100 * n / sum(map(bool, one[0])):.1f}"
                for (n, _), one in zip(counts, sets, strict=True)
            ]
            reads = sum(r for _, r in counts) / sum(len(one[0]) for one in sets)
            about = f"{title}, narrower than {narrower:g}" if narrower else title
            print(f"| {about} | {' | '.join(shares)} | {reads:.2f} |")


if __name__ == "__main__":
    main()
