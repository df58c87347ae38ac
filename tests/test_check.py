"""The command `check`: flags, text, JSON, mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crnn_jax import check

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path):
    for i, label in enumerate(["abc", "bca", "aab"]):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 80), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{label}.png")
    lines = ["abc.png abc", "bca.png bca", "aab.png aab", "none.png a"]
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    return tmp_path


def test_text(folder, capsys):
    assert check.main(["-a", str(folder / "labels.txt")]) == 0
    text = capsys.readouterr().out
    assert "labels.txt (simple): 4 samples, 3 can be trained on, 1 cannot" in text
    assert "1 missing file" in text
    assert "a table of all of them: 'abc'" in text
    assert text.endswith(f"--config=configs/words.py --config.data.train={folder}/labels.txt\n")


def test_json_to_a_file(folder, tmp_path, capsys):
    output = tmp_path / "report.json"
    flags = ["--json", "-o", str(output), "--width=16", "--decode", "-1"]
    assert check.main(["-a", str(folder), str(folder / "labels.txt"), *flags]) == 0
    assert capsys.readouterr().out == ""
    report = json.loads(output.read_text())
    assert [one["samples"] for one in report["sets"]] == [3, 4]
    assert [one["trainable"] for one in report["sets"]] == [2, 2]  # three frames do not hold aab
    assert report["overlap"][0]["count"] == 3
    assert f"--config.data.validation={folder}/labels.txt" in report["command"]


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["-a", "nowhere.txt"], "nowhere.txt: no annotation file"),
        (["-a", "FOLDER", "--table", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["-a", "FOLDER", "--images", "nowhere"], "data.images='nowhere'"),
        (["-a", "FOLDER", "--format", "csv"], "data.format='csv'"),
        (["-a", "FOLDER", "--tabel", "x"], "--tabel"),
    ],
)
def test_mistakes_get_one_line(run, folder, flags, what):
    flags = [str(folder) if flag == "FOLDER" else flag for flag in flags]
    code, out, (line,) = run(check, *flags)
    assert (code, out) == (2, [])
    assert what in line
