import numpy as np
import pytest
from PIL import Image

from crnn_jax.core import images
from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.batch import collate, get_augment
from crnn_jax.data.files import FileSource
from crnn_jax.data.plan import Plan, PlanRow
from crnn_jax.data.source import CHANGED
from tests.data.conftest import write_picture

FREE = Preprocessing(max_width=160)


def row_of(ids, width=160, label_axis=39, usable=None, epoch=0):
    ids = np.array(ids, np.int64)
    usable = ids >= 0 if usable is None else np.array(usable)
    return PlanRow(ids, usable, width, label_axis, epoch)


def test_a_batch(words):
    source = FileSource(words.path, words.charset)
    ids = [4, 17, -1, 2]
    batch = collate(row_of(ids), source, FREE)
    assert batch["image"].shape == (4, 32, 160, 1)
    assert batch["mask"].tolist() == [True, True, False, True]
    assert batch["id"].tolist() == ids
    assert batch["failed"] == []
    for i, sample in enumerate(ids):
        width = int(batch["width"][i])
        assert not batch["image"][i, :, width:].any()
        length = int(batch["label_length"][i])
        assert not batch["label"][i, length:].any()
        if sample < 0:
            assert (width, length, batch["text"][i]) == (0, 0, "")
            continue
        picture = Image.open(words.path.parent / f"images/{sample}.png")
        natural = picture.width * 32 / picture.height
        assert width == min(max(int(natural + 0.5), 32), 160)
        expected = np.asarray(picture.resize((width, 32), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(batch["image"][i, :, :width, 0], expected)
        assert batch["text"][i] == words.labels[sample]
        assert batch["label"][i, :length].tolist() == [ord(c) - 97 for c in words.labels[sample]]
    dtypes = {key: batch[key].dtype.name for key in ("image", "width", "label", "label_length")}
    assert dtypes == {
        'image': 'uint8', 'width': 'int32', 'label': 'int32', 'label_length': 'int32'
    }  # fmt: skip


def test_a_row_of_filler_alone(words):
    batch = collate(row_of([-1, -1]), FileSource(words.path, words.charset), FREE)
    assert not any(batch[key].any() for key in ("image", "width", "label", "mask"))


def test_pictures_that_cannot_be_read_are_masked_and_named(tmp_path):
    write_picture(tmp_path / "a.png", 20, 30)
    write_picture(tmp_path / "wide.png", 20, 200)
    write_picture(tmp_path / "b.png", 20, 30)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:300])
    path = tmp_path / "labels.txt"
    path.write_text("a.png x\nb.png y\nc.png z\nwide.png w\n")
    source = FileSource(path, Charset.from_characters("wxyz"))
    batch = collate(row_of([0, 1, 2, 3], width=64), source, FREE)
    assert batch["mask"].tolist() == [True, False, False, False]
    assert batch["failed"] == [(1, images.DAMAGED), (2, images.MISSING), (3, CHANGED)]
    assert batch["width"].tolist() == [48, 0, 0, 0]
    assert not batch["image"][1:].any()
    assert batch["label_length"].tolist() == [1, 0, 0, 0]
    assert batch["text"] == ["x", "y", "z", "w"]  # an evaluation counts them as wrong


def test_labels_that_cannot_be_trained_on_fit_no_alignment(tmp_path):
    write_picture(tmp_path / "a.png", 32, 32)
    path = tmp_path / "labels.txt"
    path.write_text(f"a.png x?\na.png\na.png {'x' * 20}\na.png x\n")
    source = FileSource(path, Charset.from_characters("x"))
    plan = Plan(source, batch_size=4, preprocessing=FREE, geometry="keras", shuffle=False, all=True)
    batch = collate(plan.row(0), source, FREE)
    assert batch["label"].shape == (4, 39)
    assert batch["label_length"].tolist() == [40, 40, 40, 1]
    assert batch["mask"].all()
    assert batch["text"] == ["x?", "", "x" * 20, "x"]


def brighter(picture, generator):
    return picture // 2 + np.uint8(generator.integers(1, 128))


def test_augmentation_is_a_function_of_seed_epoch_and_sample(words):
    source = FileSource(words.path, words.charset)

    def image(ids, **options):
        epoch = options.pop("epoch", 0)
        batch = collate(row_of(ids, epoch=epoch), source, FREE, augment=brighter, **options)
        return batch["image"][ids.index(5)]

    first = image([5, 6])
    np.testing.assert_array_equal(first, image([9, 8, 5]))
    assert (first != image([5], epoch=1)).any()
    assert (first != image([5], seed=1)).any()
    assert (first != collate(row_of([5]), source, FREE)["image"][0]).any()


def test_augmentation_keeps_the_size_and_leaves_rendered_words_alone(words, drawn):
    source = FileSource(words.path, words.charset)
    with pytest.raises(ValueError, match="augmentation made"):
        collate(row_of([5]), source, FREE, augment=lambda picture, _: picture[:, 1:])
    rendered = drawn([[0]], [(32, 40)])
    batch = collate(row_of([7]), rendered, FREE, augment=brighter)
    assert set(batch["image"][0, :, :40].ravel()) == {1}


def test_augmentations_by_name():
    assert get_augment("none") is None
    assert get_augment(None) is None
    assert get_augment(brighter) is brighter
    with pytest.raises(UserError):
        get_augment("a little")
