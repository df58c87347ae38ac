"""Reads images in several views and takes one reading: what each view gains.

    python experiments/views/views.py DIR/iiit5k_train DIR/svt_train DIR/icdar2015_train

A folder holds images and labels.tsv. The views are those of `crnn_jax.reading.views`, at more
angles and of more images than there; each is read once, combinations are counted after. The most
probable reading is taken, in the last row that on which two agree.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).parents[2])]

from crnn_jax import cpu_settings  # noqa: E402
from crnn_jax.core.images import image_size  # noqa: E402
from crnn_jax.reading import views  # noqa: E402
from crnn_jax.reading.pictures import Prepared, prepare_all, prepare_views  # noqa: E402
from crnn_jax.reading.recognizer import Recognizer  # noqa: E402

LEVELS = (8, 15, 22, 30)
BOUNDS = (0.99, 0.95, 0.9, 0.8, 0.6)
ANY = 2.0  # a confidence that none reaches
FRAMES = ("wider", "narrower", "closer", "looser")  # the last two are wider, too


class Found(NamedTuple):
    """A view's reading."""

    angle: float
    frame: str  # '' or one of FRAMES
    stretched: bool
    text: str  # letters and digits
    confidence: float


class Sample(NamedTuple):
    """An image: its label's letters and digits, width / height, the image as it is, its views."""

    label: str
    aspect: float
    plain: Found
    views: list[Found]


def letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isascii() and c.isalnum())


def frame_of(view: views.View) -> str:
    if view.angle or view.whole:
        return ""
    if top := view.to_image[5]:  # where it begins
        return "closer" if top > 0 else "looser"
    return "wider" if view.size[0] * view.given[1] > view.given[0] * view.size[1] else "narrower"


def read(folder: Path, recognizer: Recognizer) -> list[Sample]:
    rule = recognizer.preprocessing
    lines = (folder / "labels.tsv").read_text(encoding="utf-8-sig").splitlines()
    paths, labels = zip(*(line.split("\t", 1) for line in lines), strict=True)
    sources = [str(folder / path) for path in paths]
    plain, viewed = prepare_all(sources, rule), prepare_views(sources, rule)
    every = [[first, *others] for first, others in zip(plain, viewed, strict=True)]

    def found(prepared: Prepared, text: str, confidence: float) -> Found:
        view = prepared.view
        width, height = view.size
        stretched = prepared.image.shape[1] > rule.target_width(height, width)
        return Found(view.angle, frame_of(view), stretched, letters(text), confidence)

    # They are resized already: read as they are.
    flat = list(itertools.chain(*every))
    readings = recognizer.read([prepared.image for prepared in flat], views=False)
    answers = iter([found(p, r.text, r.confidence) for p, r in zip(flat, readings, strict=True)])
    samples = []
    for label, source, prepared in zip(labels, sources, every, strict=True):
        height, width = image_size(source)
        first, *others = (next(answers) for _ in prepared)
        samples.append(Sample(letters(label), width / height, first, others))
    return samples


def count(
    samples: list[Sample], wanted: Callable[[Found, float], bool], sure: float, *, agree: bool
) -> tuple[int, int]:
    """How many are right by the reading taken of these views, and how many images were read."""
    right = reads = 0
    for sample in samples:
        some = [sample.plain]
        if sample.plain.confidence < sure:
            some += [view for view in sample.views if wanted(view, sample.aspect)]
        reads += len(some)
        confidences = [view.confidence for view in some]
        texts = [view.text for view in some] if agree else range(len(some))
        best = some[views.choose(texts, confidences)]
        right += bool(sample.label) and best.text == sample.label
    return right, reads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("-m", "--model")
    args = parser.parse_args()
    cpu_settings.apply()
    own, least_aspect = views.ANGLES, views.LEAST_ASPECT
    views.ANGLES = tuple(sign * angle for angle in LEVELS for sign in (-1.0, 1.0))
    views.LEAST_ASPECT = 3.0
    recognizer = Recognizer.load(args.model)
    sets = [read(folder, recognizer) for folder in args.folders]

    def level(most: float, narrower: float, *, stretched: bool = False, frames: str = ""):
        """The image stretched, quarter turns, and of narrower images level views up to an angle."""

        def wanted(view: Found, aspect: float) -> bool:
            if view.frame:
                return view.frame in frames
            if view.angle in (0, 90, -90):
                return True
            fits = abs(view.angle) <= most and aspect < narrower
            return fits and (stretched or not view.stretched)

        return wanted

    rows = {
        "as it is": (level(0, 0), 0.0),
        "stretched": (lambda view, _: view.angle == 0 and not view.frame, ANY),
        "stretched, turned": (level(0, 0), ANY),
    }
    for most, narrower in itertools.product(LEVELS, (2.0, 2.5, 3.0)):
        title = f"the same, level by up to {most}, narrower than {narrower:g}"
        rows[title] = level(most, narrower), ANY
    ours = level(max(own), least_aspect, stretched=True)
    title = f"the same, level by up to {max(own):g}, narrower than {least_aspect:g}"
    rows[f"{title}, level ones stretched too"] = ours, ANY
    for bound in BOUNDS:
        rows[f"the same, where the first reading is below {bound:g}"] = ours, bound
    for frames in (*FRAMES, ", ".join(FRAMES)):
        chosen = level(max(own), least_aspect, stretched=True, frames=frames)
        rows[f"the same, below {views.SURE:g}, and all images {frames}"] = chosen, views.SURE
    rows["all of these, two agree"] = chosen, views.SURE
    print("| views |", " | ".join(folder.name for folder in args.folders), "| reads an image |")
    for title, (wanted, sure) in rows.items():
        agree = title.endswith("two agree")
        counts = [count(samples, wanted, sure, agree=agree) for samples in sets]
        shares = [
            f"{100 * right / sum(bool(sample.label) for sample in samples):.1f}"
            for (right, _), samples in zip(counts, sets, strict=True)
        ]
        reads = sum(reads for _, reads in counts) / sum(map(len, sets))
        print(f"| {title} | {' | '.join(shares)} | {reads:.2f} |")


if __name__ == "__main__":
    main()
