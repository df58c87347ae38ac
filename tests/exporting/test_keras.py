import numpy as np
import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.exporting.keras import from_keras, save_h5, to_keras
from crnn_jax.importing.import_weights import import_weights
from crnn_jax.models.crnn import CRNN
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.foreign_networks import WIDTHS, our_model, pictures

pytestmark = [
    pytest.mark.slow,
    # Keras's own, under NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def keras():
    # Here and not above: every process of a test run would import TensorFlow.
    return pytest.importorskip("keras", reason="extra `export`")


@pytest.fixture(
    scope="module", params=[("keras", ()), ("torch", ()), ("keras", (4, 6)), ("fine", ())]
)
def model(request):
    geometry, residual = request.param
    return our_model(geometry, residual=residual)


@pytest.fixture(scope="module")
def twin(model):
    return to_keras(model)


@pytest.mark.parametrize("width", WIDTHS[1:3])
def test_gives_the_logits_of_our_network(model, twin, width):
    images = pictures(width, 1)
    ours = Recognizer(*model).logits(images)
    assert np.ptp(ours, axis=1).max() > 1  # pictures matter
    np.testing.assert_allclose(np.asarray(twin(images)), ours, atol=1e-4)
    np.testing.assert_allclose(np.asarray(twin(images.astype(np.float32))), ours, atol=1e-4)


def test_padded_images_of_ours_equal_the_twin_without_padding(model, twin):
    widths = np.array([100, 52, 33], np.int32)
    batch = np.full((3, 32, 120, 1), 77, np.uint8)  # what lies in the padding does not matter
    for row, width in enumerate(widths):
        batch[row, :, :width] = pictures(width, 1, 1)[0]
    crnn = CRNN(Recognizer(*model).config)
    padded, lengths = crnn.apply(model[0], batch, widths, train=False)
    for row, width in enumerate(widths):
        alone = np.asarray(twin(batch[row : row + 1, :, :width]))[0]
        assert len(alone) == lengths[row]
        np.testing.assert_allclose(padded[row, : lengths[row]], alone, atol=1e-4)


def test_comes_back_from_an_h5_file_as_it_was(keras, model, twin, tmp_path):
    import h5py

    save_h5(twin, tmp_path / "crnn.h5", "x" * 100_000)  # more than HDF5 keeps in a header
    assert len(h5py.File(tmp_path / "crnn.h5").attrs["crnn_jax.json"]) == 100_000
    loaded = keras.models.load_model(tmp_path / "crnn.h5", compile=False)
    variables, metadata = from_keras(loaded, model[1] | {"views": True})
    np.testing.assert_equal(variables, model[0])
    assert metadata == model[1]
    alphabet = "".join(Charset.from_metadata(model[1]).characters)
    imported = import_weights(tmp_path / "crnn.h5", alphabet=alphabet)  # as any of CRNN.tf2
    np.testing.assert_equal(imported.variables, model[0])
    assert imported.metadata["model"] == model[1]["model"]


def test_another_network_is_refused_in_one_line(keras, model):
    other = keras.Sequential([keras.Input((32, 100, 1)), keras.layers.Conv2D(4, 3, name="conv1")])
    with pytest.raises(UserError, match="the Keras model"):
        from_keras(other, model[1])
    larger = {**model[0], "params": {**model[0]["params"], "logits": {"kernel": np.zeros((3, 4))}}}
    larger["params"]["logits"]["bias"] = np.zeros(4)
    with pytest.raises(UserError, match="logits/kernel"):
        to_keras((larger, model[1]))
