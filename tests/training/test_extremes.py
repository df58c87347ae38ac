"""Pictures and labels at the ends of what is possible: none may spoil a batch or go uncounted."""

import json

import numpy as np
from PIL import Image

from crnn_jax.training.loop import train_and_evaluate

SIZES = [(1, 32), (10_000, 32), (1, 1), (5_000, 1), (1, 5_000), (60, 32)]


def test_widths_of_1_and_10000_pixels_and_an_empty_label(config, tmp_path, capsys):
    rng = np.random.default_rng(0)
    lines = []
    for i, (width, height) in enumerate(SIZES):
        Image.fromarray(rng.integers(0, 256, (height, width), np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png\t{i if i < 5 else ''}\n")
    (tmp_path / "labels.tsv").write_text("".join(lines))
    with config.unlocked():
        config.steps = 2
        config.preprocessing.width = 0
        config.preprocessing.max_width = 64
        config.data.train = config.data.validation = str(tmp_path / "labels.tsv")
        config.evaluation.every_steps = 0
        config.log.every_steps = 1
    workdir = tmp_path / "run"
    train_and_evaluate(config, str(workdir))
    said = capsys.readouterr().err
    assert "1 no label" in said
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["last_validation"]["count"] == 6  # the picture without a label is read too
