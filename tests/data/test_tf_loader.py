import sys

import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data import loader
from crnn_jax.data.files import FileSource
from crnn_jax.data.loader import tf_batches as batches
from crnn_jax.data.plan import Plan
from tests.data.test_loader import assert_equal, darker

FREE = Preprocessing(max_width=160)

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's about itself


@pytest.fixture
def made(words, tmp_path):
    """(plan, source, rule) of a set with two images missing."""
    path = tmp_path / "broken.tsv"
    path.write_text(words.path.read_text() + "images/none.png\té\nimages/gone.png\tab")
    images = str(words.path.parent)
    source = FileSource(path, words.charset, images=images, unknown="strip")
    options = {"boundaries": (64, 96), "preprocessing": FREE, "geometry": "keras", "seed": 2}
    return Plan(source, batch_size=8, shuffle=False, all=True, **options), source, FREE


@pytest.mark.parametrize("host", [(0, 1), (1, 2)])
def test_both_loaders_give_the_same_batches(made, host):
    pytest.importorskip("tensorflow")
    given = {"start": 1, "stop": 2 * made[0].steps_per_epoch, "host": host, "augment": darker}
    theirs = list(batches(*made, **given))
    assert sum(len(batch["failed"]) for batch in theirs) >= 2
    for left, right in zip(loader.batches(*made, **given), theirs, strict=True):
        assert_equal(left, right)


def test_what_reading_raises_comes_out_as_it_was(made):
    pytest.importorskip("tensorflow")

    def gone(image, generator):
        raise UserError("labels.tsv: was changed while it was in use")

    with pytest.raises(UserError, match="was changed while it was in use"):
        next(batches(*made, augment=gone))


def test_without_tensorflow(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r"data\.loader='threads'"):
        next(batches(*made))
