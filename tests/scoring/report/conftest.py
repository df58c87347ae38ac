import math

import numpy as np
import pytest
from PIL import Image

from crnn_jax.scoring.report.gallery import Mark, choose, mistakes
from crnn_jax.scoring.report.page import write_report
from crnn_jax.scoring.result import EvaluationResult, Row

NASTY = "<script>document.title='run'</script>"
SETS = ("first.txt", f'"{NASTY}&.txt')
CHARACTERS = [chr(0x4E00 + i) for i in range(6500)] + [chr(i) for i in range(32, 127)]


def make_result(folder, samples, characters, pictures=40):
    """Readings of noise, the least that JPEG can make small, with mistakes of every kind."""
    random = np.random.default_rng(0)
    paths = []
    for i in range(pictures):
        noise = random.integers(0, 256, (64, random.integers(20, 720), 3), np.uint8)
        paths.append(str(folder / f"{i} <b>&.png"))
        Image.fromarray(noise).save(paths[-1])
    result = EvaluationResult()
    for i in range(samples):
        label = "".join(random.choice(characters, random.integers(1, 25)))
        other = str(random.choice(characters))
        text = [
            label,
            label,
            other + label[1:],
            label[1:],
            label + other,
            label.swapcase(),
            "",
            None,
        ]
        text = text[random.integers(len(text))]
        unread = (math.nan, "damaged or truncated picture")
        known = unread if text is None else (float(random.beta(4, 1)), None)
        result.add(Row(i, paths[i % pictures], SETS[i % 3 == 0], label, text, *known))
    # What label and text have in common is written in one piece.
    for i, (label, text) in enumerate([(NASTY, NASTY[:-1]), ("img", "<img src=x onerror=f()>")]):
        result.add(Row(samples + i, paths[0], SETS[0], label, text, 0.9999))
    for name in SETS:
        result.note_aspects(name, random.integers(10, 100, (samples, 2)))
    return result


def make_report(folder, samples, characters):
    result = make_result(folder, samples, characters)
    chosen = choose(mistakes(result.rows))
    marks = {}
    for mistake in chosen:
        row = mistake.row
        if row.text:
            with Image.open(row.path) as picture:
                width = picture.width / len(row.text)
            marks[row.set, row.id] = [
                Mark(c, 0.1 * (i % 10), i * width, (i + 1) * width) for i, c in enumerate(row.text)
            ]
    about = {"model": f"{NASTY}.safetensors", "decoder": "greedy"}
    return write_report(str(folder / "report"), result, about, chosen, marks), result


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """(file, result): 5,000 samples in 6,600 characters."""
    return make_report(tmp_path_factory.mktemp("large"), 5000, CHARACTERS)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """(file, result): 60 samples in few characters."""
    return make_report(tmp_path_factory.mktemp("small"), 60, list("abcXYZ0 "))
