"""What a config means, how long a run is, and what it takes from another model."""

import dataclasses
import math
from operator import attrgetter

import numpy as np
import pytest
from PIL import Image

from configs import words
from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import save_model
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.reading.recognizer import Recognizer
from crnn_jax.training.checkpoints import Workdir
from crnn_jax.training.experiment import RANGES, make_experiment
from crnn_jax.training.init_from import load_pretrained, start_model, transfer
from crnn_jax.training.loop import preview, train_and_evaluate
from tests.testdata.foreign_networks import our_model
from tests.testdata.tiny_model import noise_pictures, write_tiny_model


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"epochs": 3.0}, (15, 5)),  # an epoch is 5 batches
        ({"epochs": 3.0, "min_steps": 12}, (15, 5)),
        ({"epochs": 3.0, "min_steps": 60}, (60, 5)),
        ({"epochs": 40.0}, (200, 10)),  # twenty evaluations, not forty
        ({"epochs": 4_000.0}, (20_000, 500)),  # of a run that may be stopped early
        ({"steps": 101, "min_steps": 1_000}, (101, 6)),
        ({"epochs": 3.0, "evaluation.every_steps": 7}, (15, 7)),
    ],
)
def test_small_sets_get_enough_steps_and_not_too_many_evaluations(change, changes, expected):
    experiment = make_experiment(change({"steps": 0, "evaluation.every_steps": 0} | changes))
    assert (experiment.total_steps, experiment.evaluate_every) == expected
    with experiment.config.unlocked():
        experiment.config.evaluation.patience = 10
    assert experiment.patience == (20 if experiment.total_steps == 20_000 else 10)


@pytest.mark.parametrize("files", ["a.tsv", "a.tsv,b.tsv"])
def test_widths_are_fitted_before_a_mixture_leaves_samples_out(files, tmp_path):
    Image.new("L", (1500, 32)).save(tmp_path / "wide.png")
    for name in ("a.tsv", "b.tsv"):
        (tmp_path / name).write_text("wide.png\t" + "ab" * 150 + "\n")
    config = words.get_config()
    config.data.train = ",".join(str(tmp_path / name) for name in files.split(","))
    config.init_from, config.data.split, config.data.cache = "", "none", False
    config.batch_size = 1
    experiment = make_experiment(config)
    assert experiment.plan.steps_per_epoch == files.count("tsv")
    assert experiment.preprocessing.max_width >= 1500


def test_a_named_network_brings_its_geometry(change):
    config = change({"init_from": "", "model.name": "crnn_fine"})
    assert make_experiment(config).model.geometry == "fine"
    assert make_experiment(change({"model.geometry": "keras"})).model.geometry == "keras"


# What `import_weights` makes: CRNN.tf2's and crnn.pytorch's.
SOURCES = {
    "keras": Preprocessing(
        channels=3, min_width=5, max_width=160, rounding="floor", antialias=False, mean=0, scale=255
    ),
    "torch": Preprocessing(width=100, mean=100.0, scale=50.0),
}


@pytest.fixture(scope="module", params=SOURCES)
def other(request, tmp_path_factory):
    """A model file of another program's network, and the model itself."""
    rule = SOURCES[request.param]
    variables, metadata = our_model(request.param, rule.channels)
    metadata |= {"preprocessing": rule.to_metadata()}
    path = str(tmp_path_factory.mktemp("other") / "other.safetensors")
    save_model(path, variables, metadata)
    return path, Recognizer(variables, metadata)


@pytest.fixture
def config(request, digits, digits_config):
    """For tests that name `other`, configs/words.py for one step that changes nothing."""
    if "other" not in request.fixturenames:
        return digits_config()
    path, recognizer = request.getfixturevalue("other")
    config = words.get_config()
    with config.unlocked():
        config.init_from = path
        config.epochs, config.steps, config.batch_size = 0.0, 1, 8
        config.optimizer.learning_rate = config.optimizer.ema_decay = 0.0
        config.model.bn_momentum = 1.0
        config.model.convolution = "xla"
        config.evaluation.batch_size = 8
        config.charset.characters = "".join(recognizer.charset.characters)
        config.charset.ignore_case = True
        config.log.tensorboard = config.data.cache = False
        config.data.train = str(digits)
    return config


@pytest.mark.slow
def test_a_run_starts_by_reading_what_the_other_model_reads(other, change, tmp_path, capsys):
    """Labels are what the other model reads: all are right before anything was learnt."""
    recognizer, paths = other[1], []
    for i, image in enumerate(noise_pictures(24)):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    texts = [reading.text for reading in recognizer.read(paths)]
    lines = [f"{path.name}\t{text}\n" for path, text in zip(paths, texts, strict=True) if text]
    assert len(lines) > 12
    labels = tmp_path / "labels.tsv"
    labels.write_text("".join(lines))
    change({"data.train": str(labels), "data.validation": str(labels)})
    config = change({"data.bucket_boundaries": (160,)})
    train_and_evaluate(config, str(tmp_path / "run"))
    said = capsys.readouterr().err
    assert "validation at step 1: accuracy 1.0000" in said
    assert "that model's\n" in said
    again = Recognizer.load(tmp_path / "run")
    assert again.preprocessing == recognizer.preprocessing
    assert dataclasses.replace(again.config, bn_momentum=0.99) == recognizer.config


def test_a_conflict_names_the_key(other, change, config, tmp_path):
    model, rule = other[1].config, other[1].preprocessing
    widths = {"preprocessing.width": 0, "preprocessing.max_width": 200}
    lines = list(preview(change(widths), str(tmp_path / "run")))
    told = "init_from: but config.preprocessing"
    assert f"{told}.max_width=200, that model's {rule.max_width}" in lines
    assert (f"{told}.width=0, that model's 100" in lines) == bool(rule.width)
    for key, value, takes in (
        ("model.name", "crnn_small", "''"),
        ("model.geometry", "torch" if model.geometry == "keras" else "keras", "''"),
        ("preprocessing.channels", 4 - model.channels, "0"),
    ):
        auto = "" if takes == "''" else 0
        wanted = rf"^config\.{key}={value!r}: .*; {takes} takes that$"
        with pytest.raises(UserError, match=wanted):
            list(preview(change({key: value}), str(tmp_path / "run")))
        change({key: auto})


def test_numbers_out_of_range_name_their_key(digits_config):
    for (least, most), keys in RANGES.items():
        for key in keys.split():
            kind = type(attrgetter(key)(digits_config()))
            for value in (least - 1, most + 1 if most < math.inf else least - 1):
                config = digits_config()
                config.unlock()
                config.update_from_flattened_dict({key: kind(value)})
                with pytest.raises(UserError, match=rf"^config\.{key}=-?[\d.]+: want a number"):
                    make_experiment(config)


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
    found, lines = transfer(_variables(4, 100), new, _variables(4, 0), old)
    # c was 2, x is new and keeps its first value, a was 0, the blank was 3.
    np.testing.assert_array_equal(found["params"]["logits"]["bias"], [2, 101, 0, 3])
    np.testing.assert_array_equal(found["params"]["logits"]["kernel"], [[2, 101, 0, 3]] * 2)
    assert np.all(found["params"]["conv1"]["kernel"] == 0)
    assert np.all(found["batch_stats"]["bn3"]["mean"] == 0)
    assert lines == [
        "init_from: 3 of 4 classes kept",
        "init_from: new characters: 'x'",
        "init_from: dropped characters: 'b'",
    ]


@pytest.mark.parametrize(
    ("ignore_case", "bias"), [(True, [0, 0, 102, 1, 0, 1]), (False, [100, 0, 102, 1, 104, 1])]
)
def test_new_letters_start_as_those_they_are_built_on(ignore_case, bias):
    old = Charset.from_characters("ae", ignore_case=ignore_case)
    new = Charset.from_characters("AaXéÄe")
    found, lines = transfer(_variables(7, 100), new, _variables(3, 0), old)
    np.testing.assert_array_equal(found["params"]["logits"]["bias"], [*bias, 2])
    assert any("new letters start as" in line for line in lines)


@pytest.mark.parametrize(
    ("label", "name"), [("a7", "en_36"), ("A7", "lines"), ("a 7", "lines"), ("ж", "lines")]
)
def test_the_model_to_start_from_suits_the_labels(label, name, tmp_path):
    (labels := tmp_path / "labels.tsv").write_text(f"a.png\tx\nb.png\t{label}\n")
    config = words.get_config()
    config.data.train, config.data.cache = str(labels), False
    assert start_model(config) == name
    config.charset.ignore_case = True
    assert start_model(config) == ("en_36" if label == "A7" else name)
    config.init_from = "mine"
    assert start_model(config) == "mine"


def test_views_of_the_other_model_are_not_taken_over(change, tmp_path):
    """They pay for a model as it was measured; its confidences are others too."""
    other = write_tiny_model(tmp_path / "other.safetensors", views=True)
    config = change({"init_from": other, "model.name": "", "preprocessing.width": 0})
    pretrained = load_pretrained(config, Workdir(tmp_path / "run"))
    assert pretrained.variables is not None
    assert "views" not in make_experiment(config, pretrained).metadata(0)
