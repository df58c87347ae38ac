"""The README's way from labelled pictures to a TFLite file that reads them, run as it stands there.

A tiny network and a few steps take the place of the model that ships: what is tested is the way.
"""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.testdata.tiny_model import write_tiny_model
from tests.training.conftest import digits  # noqa: F401 (a fixture)


@pytest.fixture
def labels(digits, tmp_path):  # noqa: F811
    (tmp_path / "pictures").mkdir()
    lines = []
    for line in digits.read_text().splitlines():
        name, label = line.split("\t")
        picture = (digits.parent / name).read_bytes()
        name = f"{int(name.removesuffix('.png')):04}.png"
        (tmp_path / "pictures" / name).write_bytes(picture)
        lines.append(f"pictures/{name} {label}\n")
    path = tmp_path / "labels.txt"
    path.write_text("".join(lines))
    return path


def the_six_commands(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    section = text.split("## Train on your own images")[1]
    block = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)[0]
    return [shlex.split(line, comments=True)[1:] for line in block.strip().splitlines()]


@pytest.mark.slow
def test_from_labelled_pictures_to_a_tflite_file_in_six_commands(root, labels, tmp_path):
    pytest.importorskip("tensorflow")
    for name in ("configs", "example"):
        (tmp_path / name).symlink_to(root / name)
    model = write_tiny_model(tmp_path / "tiny.safetensors")
    quick = {
        "model.name": "crnn_tiny",
        "init_from": model,
        "data.bucket_boundaries": "(128,)",
        "preprocessing.max_width": "128",
        "epochs": "1",
        "min_steps": "0",
        "log.tensorboard": "False",
    }

    def run(words):
        env = os.environ | {"PYTHONPATH": str(root)}
        words = [sys.executable, *words]
        options = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True}
        done = subprocess.run(words, check=False, **options)
        assert done.returncode == 0, (words, done.stderr[-2000:])
        return done.stdout

    commands = the_six_commands(root)
    assert len(commands) == 6
    for words in commands:
        if any(word.startswith("--config=") for word in words):
            words += [f"--config.{key}={value}" for key, value in quick.items()]
    said = [run(words) for words in commands]
    assert "40 samples, 40 can be trained on" in said[0]
    assert "init_from: 11 of 11 classes kept" in said[1]
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
    words = ["-m", "crnn_jax.demo", "pictures/0001.png", "-m", "runs/words-labels"]
    text = run([*words, "--decoder", "greedy"]).split("greedy: ")[1].split(", probability")[0]
    assert said[5].startswith(f"pictures/0001.png: {text}, probability ")
