"""The command, from a file of another CRNN to a picture read."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from crnn_jax import check, cli, demo, import_weights
from crnn_jax.core.charset import BLANK, Charset
from crnn_jax.core.model_file import write_safetensors
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.foreign_networks import ALPHABET, our_model
from tests.testdata.tiny_model import noise_pictures
from tests.training.conftest import digits  # noqa: F401 (a fixture)


def _torch_names(variables):
    """Our variables as crnn.pytorch's tensors: what its importer has to turn round again."""
    params, stats = variables["params"], variables["batch_stats"]
    tensors = {}
    for i in range(7):
        conv = params[f"conv{i + 1}"]
        tensors[f"cnn.conv{i}.weight"] = conv["kernel"].transpose(3, 2, 0, 1)
        if f"bn{i + 1}" in params:
            norm, moments = params[f"bn{i + 1}"], stats[f"bn{i + 1}"]
            # PyTorch's convolution has a bias there too.
            tensors[f"cnn.conv{i}.bias"] = np.full_like(moments["mean"], 0.25)
            tensors[f"cnn.batchnorm{i}.running_mean"] = moments["mean"] + np.float32(0.25)
            tensors[f"cnn.batchnorm{i}.running_var"] = moments["var"]
            tensors[f"cnn.batchnorm{i}.weight"] = norm["scale"]
            tensors[f"cnn.batchnorm{i}.bias"] = norm["bias"]
        else:
            tensors[f"cnn.conv{i}.bias"] = conv["bias"]
    for i, dense in enumerate(("projection", "logits")):
        tensors[f"rnn.{i}.embedding.weight"] = params[dense]["kernel"].T
        tensors[f"rnn.{i}.embedding.bias"] = params[dense]["bias"]
        for direction, suffix in (("forward", ""), ("backward", "_reverse")):
            lstm = params[f"bi_lstm{i + 1}"][direction]
            tensors[f"rnn.{i}.rnn.weight_ih_l0{suffix}"] = lstm["kernel"].T
            tensors[f"rnn.{i}.rnn.weight_hh_l0{suffix}"] = lstm["recurrent_kernel"].T
            tensors[f"rnn.{i}.rnn.bias_ih_l0{suffix}"] = lstm["bias"] - 1
            tensors[f"rnn.{i}.rnn.bias_hh_l0{suffix}"] = np.ones_like(lstm["bias"])
    return tensors | {"extra.ema": np.zeros(3, np.float32)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "crnn.safetensors"
    write_safetensors(path, _torch_names(our_model("torch")[0]), {})
    return path


@pytest.fixture
def call(capsys, monkeypatch):
    monkeypatch.setattr("crnn_jax.cpu_settings.apply", lambda: None)

    def call(*argv, command=import_weights):
        """(exit code, stdout, lines of stderr) of a command."""
        with pytest.raises(SystemExit) as stopped:
            cli.run(command.main, [str(word) for word in argv])
        out, err = capsys.readouterr()
        return stopped.value.code, out, err.splitlines()

    return call


def test_from_weights_to_a_reading(call, weights, tmp_path):
    model = tmp_path / "model.safetensors"
    code, out, err = call(weights, "--alphabet", ALPHABET, "-o", model)
    assert (code, err) == (0, [])
    assert "used 46 arrays: " in out
    assert "not used 1: extra.ema" in out
    variables, metadata = our_model("torch")
    recognizer = Recognizer.load(model)
    assert recognizer.charset.symbols == (BLANK, *ALPHABET)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 100, 1), np.uint8)
    # The epsilon becomes PyTorch's, and nothing else.
    metadata = metadata | {"model": metadata["model"] | {"bn_epsilon": 1e-5}}
    np.testing.assert_allclose(
        recognizer.logits(images), Recognizer(variables, metadata).logits(images), atol=1e-4
    )
    picture = tmp_path / "a.png"
    Image.fromarray(noise_pictures(1)[0]).save(picture)
    code, out, err = call(picture, "-m", model, "--decoder", "greedy", command=demo)
    assert (code, err) == (0, [])
    assert out.startswith(f"Path: {picture}, greedy: {recognizer.read(picture)[0].text}")


# ml_collections loads config files in a way that Python is about to drop.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_training_on_as_the_docs_say(call, weights, digits, root, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sys, "argv", ["crnn_jax.check"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    model = tmp_path / "model.safetensors"
    call(weights, "--alphabet", ALPHABET, "-o", model)
    config = f"--config={root / 'configs' / 'words.py'}"
    flags = (f"--config.init_from={model}", f"--config.data.train={digits}")
    code, out, err = call(config, *flags, f"--workdir={tmp_path / 'run'}", command=check)
    assert (code, err) == (0, [])
    assert "init_from: 11 of 11 classes carried" in out
    assert "pictures: grey, 100 px wide, antialiased, (x - 127.5) / 127.5" in out


def test_a_table_does_as_well_and_json_says_what_was_read(call, weights, tmp_path):
    Charset((BLANK, *ALPHABET.upper()), 0).write(tmp_path / "table.txt")
    model = tmp_path / "model.safetensors"
    flags = ("--table-path", tmp_path / "table.txt", "--img-width", 0, "--ignore-case", "no")
    code, out, _ = call(weights, *flags, "-o", model, "--json", "--float16")
    record = json.loads(out)
    assert code == 0
    assert record["source"] == "crnn.pytorch"
    assert record["unused"] == ["extra.ema"]
    assert record["preprocessing"]["width"] == 0
    charset = Recognizer.load(model).charset
    assert charset.symbols == (BLANK, *ALPHABET.upper())
    assert not charset.ignore_case
    assert model.stat().st_size < 0.7 * weights.stat().st_size


def test_mistakes_get_one_line_and_code_2(call, weights, tmp_path):
    short, twice = tmp_path / "short.txt", tmp_path / "twice.txt"
    Charset((BLANK, *ALPHABET[:-1]), 0).write(short)
    twice.write_text("a\na\n<BLK>\n")
    cut = tmp_path / "cut.h5"
    cut.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    alphabet = ("--alphabet", ALPHABET)
    cases = [
        ((weights, "--table", short), "short.txt: 36 classes with the blank; the network of"),
        ((weights, "--table", twice), "twice.txt:2: 'a' stands on line 1 already"),
        ((weights, "--table", tmp_path / "none.txt"), "none.txt: cannot be read"),
        ((weights, "--alphabet", ALPHABET + "!"), "the alphabet: 38 classes"),
        ((weights, "--alphabet", "aa"), "'a' stands twice"),
        ((weights,), "which characters?"),
        ((weights, *alphabet, "--table", short), "which characters?"),
        ((weights, *alphabet, "--width", -3), "preprocessing.width=-3"),
        ((tmp_path / "none.h5", *alphabet), "none.h5: cannot be read"),
        ((tmp_path, *alphabet), "Is a directory"),
        ((cut, *alphabet), "cut.h5: damaged or cut short"),
    ]
    model = tmp_path / "model.safetensors"
    for argv, said in cases:
        code, out, err = call(*argv, "-o", model)
        assert (code, out, len(err)) == (2, "", 1), argv
        assert said in err[0]
    assert not model.exists()
    code, _, err = call(weights, *alphabet, "-o", tmp_path / "no" / "where.safetensors")
    assert (code, len(err)) == (2, 1)
