import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.exporting.plan import ExportPlan
from crnn_jax.exporting.saved_model import warm_widths, write_saved_model
from crnn_jax.exporting.verify import run
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.exports import calm, padded, read_by_model, resized, tf, tiny_model
from tests.testdata.tiny_model import noise_pictures

pytestmark = pytest.mark.slow  # TensorFlow traces and saves

# The tiny network's scores reach 30 and more, and random weights make much of a rounding.
NEAR = 0.02


def load(folder):
    return tf.saved_model.load(f"{folder}/1").signatures


def png(picture):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "png")
    return stream.getvalue()


@pytest.fixture(scope="module")
def model():
    return tiny_model(temperature=2.5)


@pytest.fixture(scope="module")
def reference(model):
    return read_by_model(model, resized())


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("greedy") / "out"
    write_saved_model(model, str(folder), post="greedy")
    return folder


@pytest.fixture(scope="module")
def signatures(folder):
    return load(str(folder))


def test_names_and_shapes(signatures, folder, root):
    told = {
        name: sorted(
            (s.name, s.dtype, s.shape.as_list()) for s in f.structured_input_signature[1].values()
        )
        for name, f in signatures.items()
    }
    assert told == {
        "serving_default": [("images", tf.uint8, [None, 32, None, 1])],
        "with_widths": [
            ("images", tf.uint8, [None, 32, None, 1]),
            ("widths", tf.int32, [None]),
        ],
        "serving_bytes": [("image_bytes", tf.string, [None])],
    }
    for function in signatures.values():
        assert set(function.structured_outputs) == {"text", "confidence", "ids", "logits", "frames"}
    told = json.loads((folder / "1" / "assets.extra" / "crnn_jax.json").read_text("utf-8"))
    assert (told["symbols"][10:12], told["temperature"]) == (["a", "b"], 2.5)
    for path in filter(Path.is_file, folder.rglob("*")):  # nothing about where it was made
        assert str(root).encode() not in path.read_bytes()
        assert b"beam_search_jax.py" not in path.read_bytes()


def test_pictures_of_one_width(signatures, reference):
    for image, logits, text in zip(resized(), *reference, strict=True):
        out = signatures["serving_default"](images=tf.constant(np.stack([image] * 3)))
        assert out["logits"].shape == (3, *logits.shape)
        np.testing.assert_allclose(out["logits"][2], logits, atol=NEAR)
        assert [t.decode() for t in out["text"].numpy()] == [text] * 3


def test_padding_is_not_seen(signatures, reference):
    batch, widths = padded(resized())
    out = signatures["with_widths"](images=tf.constant(batch), widths=tf.constant(widths))
    for row, (logits, text) in enumerate(zip(*reference, strict=True)):
        assert out["frames"][row] == len(logits)
        np.testing.assert_allclose(out["logits"][row, : len(logits)], logits, atol=NEAR)
        assert out["text"][row].numpy().decode() == text


def test_files_of_all_kinds_beside_each_other(signatures, model):
    """Each is read as alone, or '' and 0 where Pillow cannot read it either."""
    picture = Image.fromarray(noise_pictures(1)[0])
    colour = picture.convert("RGB")

    def file(image, kind, **options):
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    whole = file(picture, "png")
    jpeg = file(colour, "jpeg", quality=95)
    deep = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    bad = [
        b"",
        b"no picture",
        jpeg[: len(jpeg) // 2],
        whole[: len(whole) // 2],
        whole[:16] + b"\0\0\xff\xff" * 2 + whole[24:],  # 65,535 x 65,535 pixels
    ]
    only_pillow = [file(picture, "gif"), file(Image.new("L", (40_000, 1), 255), "png")]
    good = [whole, jpeg, file(deep, "png"), *map(png, noise_pictures(4))]
    given = [*good[:2], *bad, *good[2:5], *only_pillow, *good[5:]]
    out = signatures["serving_bytes"](image_bytes=tf.constant(given))
    readings = Recognizer(model.variables, model.metadata).read(given, errors="return")
    assert sum(isinstance(reading, UserError) for reading in readings) == len(bad)
    columns = (out["text"].numpy(), out["confidence"].numpy(), out["frames"].numpy())
    for data, reading, text, confidence, frames in zip(given, readings, *columns, strict=True):
        if data in good:
            assert text.decode() == reading.text
            np.testing.assert_allclose(confidence, reading.confidence, rtol=NEAR)
        else:
            assert (text, confidence, frames) == (b"", 0, 0)


def test_an_empty_batch(signatures):
    out = signatures["serving_default"](images=tf.zeros((0, 32, 40, 1), tf.uint8))
    assert out["text"].shape == out["confidence"].shape == (0,)


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("serving_bytes", {"image_bytes": [b""] * 8193}, "is not in [0, 14)"),
        ("serving_default", {"images": (1, 31, 40, 1)}, "do not fit:] [1] [31] [40]"),
        ("serving_default", {"images": (1, 32, 66_000, 1)}, "is not in [0, 40)"),
        ("with_widths", {"images": (3, 32, 40, 1), "widths": [40]}, "do not fit:] [3"),
    ],
)
def test_wrong_shapes_are_errors(signatures, name, inputs, message):
    inputs = {
        key: tf.zeros(value, tf.uint8) if key == "images" else tf.constant(value)
        for key, value in inputs.items()
    }
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        signatures[name](**inputs)
    assert message in str(error.value)


def test_alone_where_nothing_of_ours_can_be_imported(folder, model, reference):
    answers, told = run(model, ExportPlan(str(folder), "saved_model"), resized())
    assert [answer["text"] for answer in answers] == reference[1]
    assert told["version"] == f"TensorFlow {tf.__version__}"
    for answer, logits in zip(answers, reference[0], strict=True):
        np.testing.assert_allclose(answer["logits"], logits, atol=NEAR)


def test_beam_search(model, tmp_path):
    model = calm(model)
    write_saved_model(model, str(tmp_path), post="beam_search", beam_width=4)
    batch, widths = padded(resized())
    out = load(str(tmp_path))["with_widths"](images=tf.constant(batch), widths=tf.constant(widths))
    _, texts = read_by_model(model, resized(), "beam_search", 4)
    assert texts != read_by_model(model, resized())[1]
    assert [text.decode() for text in out["text"].numpy()] == texts
    assert (out["confidence"].numpy() > 0).all()
    variables = tf.train.list_variables(str(tmp_path / "1" / "variables" / "variables"))
    assert sum(np.prod(shape) for _, shape in variables) > 20_000  # not constants in the graph


def test_other_characters_and_preprocessing(tmp_path):
    """RGB of a fixed width, the blank first, `<UNK>` never read, letters beyond ASCII."""
    table = Charset(("<BLK>", "<UNK>", "é", "日", " ", *"abcdefgh"), 0, 1)
    rule = Preprocessing(channels=3, width=90, antialias=False)
    config = tiny_model().metadata["model"] | {"channels": 3, "num_classes": 13}
    model = tiny_model(table, preprocessing=rule.to_metadata(), model=config)
    write_saved_model(model, str(tmp_path), post="greedy")
    pictures = [np.stack([p, p // 2, 255 - p], -1) for p in noise_pictures(8)]
    out = load(str(tmp_path))["serving_bytes"](
        image_bytes=tf.constant([png(picture) for picture in pictures])
    )
    readings = Recognizer(model.variables, model.metadata).read(pictures)
    texts = [text.decode() for text in out["text"].numpy()]
    assert texts == [reading.text for reading in readings]
    assert set("é日") & set("".join(texts))
    assert warm_widths(model) == [90]
