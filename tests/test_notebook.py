"""The notebook's cells run one after the other, on little and with a tiny network."""

import ast
import json
import re

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.charset import Charset
from tests.testdata.tiny_model import write_tiny_model

QUICK = {"COUNT": "24", "STEPS": "2"}


@pytest.fixture
def cells(root):
    """Source of the code cells."""
    notebook = json.loads((root / "example" / "captcha.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_every_cell_runs(cells, root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(root / "example")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    start = write_tiny_model(tmp_path / "start.safetensors", Charset.from_characters("2345bcdef"))
    for name, value in {**QUICK, "START": f'"{start}"'}.items():
        cells[0], found = re.subn(rf"(?m)^{name} = [^#\n]*", f"{name} = {value} ", cells[0])
        assert found == 1, name
    shown = []  # what a cell's expressions are, as Jupyter shows them
    monkeypatch.setattr("sys.displayhook", shown.append)
    names = {}
    for cell in cells:
        tree = ast.Interactive(ast.parse(cell).body)
        exec(compile(tree, "cell", "single"), names)  # noqa: S102
    sheet, *alignments = [out for out in shown if isinstance(out, Image.Image)]
    assert len(alignments) == 2
    said = capsys.readouterr()
    assert "24 samples, 24 can be trained on" in said.out
    assert "of captchas read exactly" in said.out
    assert "of 100 right" in said.out
    assert sheet.size == (700, 220)
    for picture in map(np.asarray, alignments):  # some class is probable somewhere
        assert ((picture[..., 2] == 255) & (picture[..., 0] < 128)).any()
