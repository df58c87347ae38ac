import json

import numpy as np
import pytest

from crnn_jax.core.charset import UNKNOWN, Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import GEOMETRIES
from crnn_jax.exporting.onnx import export_onnx
from crnn_jax.reading.loaded_model import LoadedModel
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.foreign_networks import our_model, pictures


@pytest.fixture(scope="module", autouse=True)
def onnx():
    return pytest.importorskip("onnx", reason="extra `onnx`")


@pytest.fixture(scope="module")
def runtime():
    onnxruntime = pytest.importorskip("onnxruntime", reason="extra `onnx`")

    def run(path, images):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (result,) = session.run(None, {"images": images})
        return result

    return run


@pytest.fixture(scope="module")
def cv2():
    return pytest.importorskip("cv2", reason="extra `train`")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("geometry", "channels", "residual"),
    [("keras", 1, ()), ("keras", 3, (4, 6)), ("torch", 1, ()), ("fine", 1, (4, 6))],
)
def test_gives_our_logits_at_any_batch_and_width(runtime, tmp_path, geometry, channels, residual):
    model = our_model(geometry, channels, residual)
    assert export_onnx(model, tmp_path / "x.onnx") == [str(tmp_path / "x.onnx")]
    recognizer = Recognizer(*model)
    for count, width in ((1, 32), (3, 41), (1, 161)):
        images = pictures(width, channels, count)
        ours = recognizer.logits(images)
        assert np.ptp(ours, axis=1).max() > 1
        np.testing.assert_allclose(runtime(tmp_path / "x.onnx", images), ours, atol=1e-4)


@pytest.mark.slow
def test_softmax_and_what_the_classes_mean(onnx, runtime, tmp_path):
    model = our_model()
    export_onnx(model, tmp_path / "x.onnx", post="softmax")
    images = pictures(67, 1)
    logits = Recognizer(*model).logits(images)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    wanted = shares / shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(runtime(tmp_path / "x.onnx", images), wanted, atol=1e-5)
    props = {p.key: p.value for p in onnx.load(tmp_path / "x.onnx").metadata_props}
    told = json.loads(props["crnn_jax.json"])
    assert told["symbols"] == LoadedModel.of(*model).symbols
    assert told["symbols"][told["blank_id"]] == ""
    assert told["preprocessing"] == model[1]["preprocessing"]
    assert told["post"] == "softmax"


def _with_unknown(model):
    """The same model with `<UNK>` as class 3, the blank as class 5 and a space as class 7."""
    variables, metadata = model
    letters = list(Charset.from_metadata(metadata).characters[:35])
    letters[5] = " "
    symbols = (*letters[:3], UNKNOWN, letters[3], "<BLK>", *letters[4:])
    charset = Charset(symbols, 5, 3)
    return variables, metadata | charset.to_metadata()


@pytest.mark.slow
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_opencv_layout(onnx, runtime, cv2, tmp_path, geometry):
    model = _with_unknown(our_model(geometry))
    model[1]["preprocessing"] |= {"mean": 0.0, "scale": 255.0}
    files = export_onnx(model, tmp_path / "x.onnx", layout="opencv")
    assert files == [str(tmp_path / "x.onnx"), str(tmp_path / "x_vocabulary.txt")]
    recognizer = Recognizer(*model)
    images = pictures(100, 1, 1)
    ours = recognizer.logits(images)[0]
    wanted = np.delete(np.concatenate([ours[:, 5:6], ours], 1), [1 + 3, 1 + 5], 1)
    scaled = ((images[..., 0] - 127.5) / 127.5).astype(np.float32)[:, None]  # --> [1, 1, 32, 100]
    found = runtime(files[0], scaled)
    assert found.shape == (len(ours), 1, 36)
    np.testing.assert_allclose(found[:, 0], wanted, atol=1e-4)
    net = cv2.dnn.readNet(files[0])
    net.setInput(scaled)
    np.testing.assert_allclose(net.forward().reshape(wanted.shape), wanted, atol=1e-4)
    vocabulary = (tmp_path / "x_vocabulary.txt").read_text().split("\n")[:-1]
    symbols = recognizer.charset.symbols
    assert vocabulary == [s for s in symbols if s not in ("<BLK>", UNKNOWN)]
    told = json.loads({p.key: p.value for p in onnx.load(files[0]).metadata_props}["crnn_jax.json"])
    assert told["symbols"] == ["", *vocabulary]
    assert (told["blank_id"], told["unknown_id"]) == (0, -1)
    rule = told["preprocessing"]
    assert (rule["width"], rule["mean"], rule["scale"]) == (100, 127.5, 127.5)


def test_what_it_cannot_write(tmp_path):
    with pytest.raises(UserError, match="RGB"):
        export_onnx(our_model(channels=3), tmp_path / "x.onnx", layout="opencv")
    with pytest.raises(UserError, match="cannot be written"):
        export_onnx(our_model(), tmp_path / "no" / "x.onnx")
