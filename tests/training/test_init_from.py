"""Starting from another model: everything is carried, the last layer by symbol."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from configs import words
from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import save_model
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.reading.recognizer import Recognizer
from crnn_jax.training.experiment import make_experiment
from crnn_jax.training.init_from import transfer as carry
from crnn_jax.training.loop import train_and_evaluate
from crnn_jax.training.loop import preview
from crnn_jax.training.init_from import load_pretrained as origin_of
from crnn_jax.training.workdir import Workdir
from tests.testdata.foreign_networks import our_model
from tests.testdata.tiny_model import noise_pictures


def _variables(classes, value, hidden=2):
    column = value + np.arange(classes, dtype=np.float32)
    return {
        "params": {
            "conv1": {"kernel": np.full((3, 3), value, np.float32)},
            "logits": {"kernel": np.tile(column, (hidden, 1)), "bias": column},
        },
        "batch_stats": {"bn3": {"mean": np.full((2,), value, np.float32)}},
    }


def test_columns_follow_their_symbols():
    old, new = Charset.from_characters("abc"), Charset.from_characters("cxa")
    carried, lines = carry(_variables(4, 100), new, _variables(4, 0), old)
    # c was 2, x is new and keeps its first value, a was 0, the blank was 3.
    np.testing.assert_array_equal(carried["params"]["logits"]["bias"], [2, 101, 0, 3])
    np.testing.assert_array_equal(carried["params"]["logits"]["kernel"], [[2, 101, 0, 3]] * 2)
    assert np.all(carried["params"]["conv1"]["kernel"] == 0)
    assert np.all(carried["batch_stats"]["bn3"]["mean"] == 0)
    assert lines == [
        "init_from: 3 of 4 classes carried",
        "init_from: new characters: 'x'",
        "init_from: left behind: 'b'",
    ]


def test_capitals_start_as_the_small_letters_of_a_model_that_ignores_case():
    folding, new = Charset.from_characters("ab", ignore_case=True), Charset.from_characters("AaX")
    assert new.symbols[:3] == ("A", "a", "X")
    carried, lines = carry(_variables(4, 100), new, _variables(3, 0), folding)
    np.testing.assert_array_equal(carried["params"]["logits"]["bias"], [0, 0, 102, 2])
    assert "init_from: 1 capitals start as their small letters" in lines
    assert "init_from: new characters: 'X'" in lines
    exact = Charset.from_characters("ab")
    carried, _ = carry(_variables(4, 100), new, _variables(3, 0), exact)
    assert carried["params"]["logits"]["bias"][0] == 100


# As `import_weights` makes them: CRNN.tf2's and crnn.pytorch's.
SOURCES = {
    "keras": Preprocessing(
        channels=3, min_width=5, max_width=160, rounding="floor", antialias=False, mean=0, scale=255
    ),
    "torch": Preprocessing(width=100, mean=100.0, scale=50.0),
}


@pytest.fixture(scope="module", params=SOURCES)
def other(request, tmp_path_factory):
    """A model file of another program's network, and the model itself."""
    geometry = request.param
    rule = SOURCES[geometry]
    variables, metadata = our_model(geometry, rule.channels)
    metadata |= {"preprocessing": rule.to_metadata()}
    path = str(tmp_path_factory.mktemp("other") / "other.safetensors")
    save_model(path, variables, metadata)
    return path, Recognizer(variables, metadata)


@pytest.fixture
def words_config(other):
    """configs/words.py for one step that changes nothing."""
    config = words.get_config()
    with config.unlocked():
        config.init_from = other[0]
        config.epochs, config.steps, config.batch_size = 0.0, 1, 8
        config.optimizer.learning_rate = config.optimizer.ema = 0.0
        config.model.bn_momentum = 1.0
        config.evaluation.batch_size = 8
        config.charset.characters = "".join(other[1].charset.characters)
        config.charset.ignore_case = True
        config.log.tensorboard = False
        config.data.cache = False
    return config


def test_a_run_starts_by_reading_what_the_other_model_reads(words_config, other, tmp_path, capsys):
    """Labels are what the other model reads: all are right before anything was learnt."""
    recognizer, paths = other[1], []
    for i, picture in enumerate(noise_pictures(24)):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(picture).save(paths[-1])
    texts = [reading.text for reading in recognizer.read(paths)]
    lines = [f"{path.name}\t{text}\n" for path, text in zip(paths, texts, strict=True) if text]
    assert len(lines) > 12
    (tmp_path / "labels.tsv").write_text("".join(lines))
    with words_config.unlocked():
        words_config.data.train = words_config.data.validation = str(tmp_path / "labels.tsv")
        words_config.preprocessing.max_width = 0
        words_config.data.boundaries = ()
    train_and_evaluate(words_config, str(tmp_path / "run"))
    said = capsys.readouterr().err
    assert "validation at step 1: accuracy 1.0000" in said
    assert "that model's\n" in said
    again = Recognizer.load(tmp_path / "run")
    assert again.preprocessing == recognizer.preprocessing
    assert dataclasses.replace(again.config, bn_momentum=0.99) == recognizer.config


def test_what_the_config_says_otherwise_is_told(words_config, digits, tmp_path):
    with words_config.unlocked():
        words_config.data.train = str(digits)
        words_config.preprocessing.width = 0
    told = list(preview(words_config, str(tmp_path / "run")))
    theirs = Recognizer.load(words_config.init_from).preprocessing
    assert (
        f"init_from: but config.preprocessing.max_width=256, that model's {theirs.max_width}"
        in told
    )
    width = "init_from: but config.preprocessing.width=0, that model's 100"
    assert (width in told) == bool(theirs.width)


@pytest.mark.parametrize(
    ("key", "value", "takes"),
    [
        ("model.name", "crnn_small", "''"),
        ("model.geometry", None, "''"),
        ("preprocessing.channels", None, "0"),
    ],
)
def test_a_conflict_names_the_key(words_config, other, tmp_path, key, value, takes):
    own = other[1].config
    if key == "model.geometry":
        value = "torch" if own.geometry == "keras" else "keras"
    elif key == "preprocessing.channels":
        value = 4 - own.channels
    section, _, name = key.partition(".")
    with words_config.unlocked():
        words_config[section][name] = value
    with pytest.raises(UserError, match=rf"^config\.{key}={value!r}: .*; {takes} takes that$"):
        make_experiment(words_config, origin_of(words_config, Workdir(tmp_path / "run")))
