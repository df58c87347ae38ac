import sys
from types import SimpleNamespace

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import num_frames
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data import loader
from crnn_jax.data.files import FileSource
from crnn_jax.data.plan import Plan
from crnn_jax.data.tf_loader import as_dataset, batches, make_dataset
from tests.data.conftest import LETTERS
from tests.data.test_loader import assert_equal, darker
from tests.data.test_sources import config_of as sources_config

FREE = Preprocessing(max_width=160)


@pytest.fixture(scope="module")
def tensorflow():
    """TensorFlow and what it imports warn about themselves."""
    return pytest.importorskip("tensorflow")


pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("tensorflow")]


@pytest.fixture
def broken(words, tmp_path):
    """The same set with two pictures missing."""
    lines = words.path.read_text().splitlines()
    path = tmp_path / "broken.tsv"
    path.write_text("\n".join([*lines, "images/none.png\té", "images/gone.png\tab"]))
    return FileSource(path, words.charset, images=str(words.path.parent), unknown="strip")


@pytest.mark.parametrize("host", [(0, 1), (1, 2)])
def test_both_loaders_give_the_same_batches(broken, host):
    options = {"boundaries": (64, 96), "preprocessing": FREE, "geometry": "keras", "seed": 2}
    plan = Plan(broken, batch_size=8, shuffle=False, all=True, **options)
    given = {"start": 1, "stop": 2 * plan.steps_per_epoch, "host": host, "augment": darker}
    ours = list(loader.batches(plan, broken, FREE, **given))
    theirs = list(batches(plan, broken, FREE, **given))
    assert sum(len(batch["failed"]) for batch in theirs) >= 2
    for left, right in zip(ours, theirs, strict=True):
        assert_equal(left, right)


def test_what_reading_raises_comes_out_as_it_was(broken):
    def gone(picture, generator):
        raise UserError("labels.tsv: was changed while it was in use")

    plan = Plan(broken, batch_size=8, boundaries=(160,), preprocessing=FREE, geometry="keras")
    with pytest.raises(UserError, match="was changed while it was in use"):
        next(batches(plan, broken, FREE, augment=gone))


def config_of(words, **data):
    data = {"split": "0/5", "boundaries": (64, 96), "augment": "none"} | data
    charset = SimpleNamespace(table="", characters=LETTERS, ignore_case=False)
    rule = {"channels": 1, "height": 32, "width": 0, "min_width": 32, "max_width": 160}
    return SimpleNamespace(
        **vars(sources_config(words.path, charset, **data)),
        batch_size=8,
        model=SimpleNamespace(geometry="keras"),
        preprocessing=SimpleNamespace(**rule),
        evaluation=SimpleNamespace(batch_size=4),
    )


def test_a_dataset_for_tensorflow_users(words):
    dataset = as_dataset(config_of(words))
    assert dataset.element_spec["image"].shape.as_list() == [8, 32, None, 1]
    elements = list(dataset.take(12).as_numpy_iterator())  # more than an epoch of ten
    ids = np.concatenate([element["id"] for element in elements[:10]])
    assert sorted(ids.tolist()) == list(range(80))
    assert {element["image"].shape[2] for element in elements} <= {64, 96, 160}
    assert all(isinstance(text, bytes) for text in elements[0]["text"])
    later = next(iter(as_dataset(config_of(words), start=7).take(1).as_numpy_iterator()))
    np.testing.assert_array_equal(later["image"], elements[7]["image"])
    validation = list(as_dataset(config_of(words), training=False).as_numpy_iterator())
    assert sorted(np.concatenate([element["id"] for element in validation]).tolist()) == list(
        range(20)
    )
    with pytest.raises(UserError, match=r"data\.validation"):
        as_dataset(config_of(words, split=""), training=False)


def test_what_a_config_leaves_open_is_the_other_models(words):
    config = config_of(words)
    config.preprocessing.channels = config.preprocessing.max_width = 0
    config.model.geometry = ""
    rule = Preprocessing(channels=3, max_width=128)
    origin = {"preprocessing": rule.to_metadata(), "model": {"geometry": "torch"}}
    (element,) = as_dataset(config, origin=origin).take(1).as_numpy_iterator()
    assert element["image"].shape[3] == 3
    width = element["image"].shape[2]
    assert element["label"].shape[1] == num_frames(width, "torch") != num_frames(width, "keras")


def test_without_tensorflow(words, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    source = FileSource(words.path, words.charset)
    plan = Plan(source, batch_size=8, preprocessing=FREE, geometry="keras")
    with pytest.raises(UserError, match="install"):
        make_dataset(plan, source, FREE)
    with pytest.raises(UserError, match=r"data\.loader='threads'"):
        next(batches(plan, source, FREE))
