"""The command, from a file of another CRNN to a picture read."""

import numpy as np
import pytest
from PIL import Image

from crnn_jax import check, demo, import_weights
from crnn_jax.core.charset import BLANK, Charset
from crnn_jax.core.model_file import write_safetensors
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.pth_files import crnn_shapes
from tests.testdata.tiny_model import noise_pictures
from tests.training.conftest import digits  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """crnn.pytorch's tensors for the characters 0 and 1, and one that no CRNN has."""
    random = np.random.default_rng(0)
    tensors = {k: random.uniform(0, 1, s).astype(np.float32) for k, s in crnn_shapes().items()}
    path = tmp_path_factory.mktemp("weights") / "crnn.safetensors"
    write_safetensors(path, tensors | {"extra.ema": np.zeros(3, np.float32)}, {})
    return path


def test_from_weights_to_a_reading(run, weights, tmp_path):
    model = tmp_path / "model.safetensors"
    code, out, err = run(import_weights, weights, "--alphabet", "01", "-o", model)
    assert (code, err) == (0, [])
    assert any(line.startswith("used 46 arrays: ") for line in out)
    assert "not used 1: extra.ema" in out
    recognizer = Recognizer.load(model)
    assert recognizer.charset.symbols == (BLANK, "0", "1")
    image = tmp_path / "a.png"
    Image.fromarray(noise_pictures(1)[0]).save(image)
    code, (line,), _ = run(demo, image, "-m", model, "--decoder", "greedy")
    assert code == 0
    assert line.startswith(f"Path: {image}, greedy: {recognizer.read(image)[0].text}")


# ml_collections loads config files in a way that Python is about to drop.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_training_on_as_the_docs_say(run, weights, digits, root, tmp_path):  # noqa: F811
    model = tmp_path / "model.safetensors"
    run(import_weights, weights, "--alphabet", "01", "-o", model)
    config = f"--config={root / 'configs' / 'words.py'}"
    flags = (f"--config.init_from={model}", f"--config.data.train={digits}")
    code, out, err = run(check, config, *flags, f"--workdir={tmp_path / 'run'}")
    assert (code, err) == (0, [])
    assert "init_from: 3 of 11 classes kept" in out
    assert "images: grey, 100 px wide, antialiased, (x - 127.5) / 127.5" in out


def test_a_table_does_as_well(run, weights, tmp_path):
    Charset((BLANK, *"AB"), 0).write(tmp_path / "table.txt")
    model = tmp_path / "model.safetensors"
    flags = ("--table-path", tmp_path / "table.txt", "--img-width", 0, "--ignore-case", "no")
    code, out, _ = run(import_weights, weights, *flags, "-o", model)
    assert code == 0
    assert out[0].startswith("a network of crnn.pytorch: 3 classes")
    recognizer = Recognizer.load(model)
    assert recognizer.preprocessing.free_width
    charset = recognizer.charset
    assert (charset.symbols, charset.ignore_case) == ((BLANK, "A", "B"), False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("W --table short.txt", "short.txt: 2 classes with the blank; the network of"),
        ("W --table none.txt", "none.txt: cannot be read"),
        ("W --alphabet aa", "'a' stands twice"),
        ("W", "which characters?"),
        ("W --alphabet ab --table short.txt", "which characters?"),
        ("W --alphabet ab --width -3", "--img-width: -3: must be"),
        ("none.h5 --alphabet ab", "none.h5: cannot be read"),
        ("cut.h5 --alphabet ab", "cut.h5: damaged or cut short"),
        ("W --alphabet ab -o no/where.safetensors", "cannot be written"),
    ],
)
def test_mistakes_get_one_line_and_code_2(run, weights, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    Charset((BLANK, "a"), 0).write(tmp_path / "short.txt")
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    words = [str(weights) if word == "W" else word for word in words.split()]
    code, out, (line,) = run(import_weights, "-o", "model.safetensors", *words)
    assert (code, out) == (2, [])
    assert message in line
    assert not (tmp_path / "model.safetensors").exists()
