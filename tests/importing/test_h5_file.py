import contextlib
import io
import zipfile

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.importing.foreign import import_weights
from crnn_jax.importing.foreign_file import read_apart
from crnn_jax.importing.h5_file import read_h5
from tests.testdata.foreign_networks import ALPHABET

h5py = pytest.importorskip("h5py", reason="makes the files to read")
pytestmark = pytest.mark.usefixtures("in_this_process")
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 1, 8)).astype(np.float32)
NAME = "conv1/kernel:0"


def write(path, put=lambda group: group.create_dataset(NAME, data=KERNEL)):
    """A file of one layer, whose weight `put` puts in."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"relu1", b"conv1"]
        file.create_group("relu1").attrs["weight_names"] = np.zeros(0)
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [NAME.encode()]
        put(group)
    return path


def test_weights_by_their_full_names(tmp_path):
    weights, config = read_h5(write(tmp_path / "x.h5"))
    assert config is None
    assert [name for name, _ in weights] == [NAME]
    np.testing.assert_array_equal(weights[0][1], KERNEL)


def test_cut_short_anywhere(tmp_path):
    content = write(tmp_path / "x.h5").read_bytes()
    for share in (0.01, 0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut.h5").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UserError, match=r"cut\.h5: damaged or cut short") as refused:
            import_weights(tmp_path / "cut.h5", alphabet=ALPHABET)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("case", ["huge", "link", "raw", "folder", "nothing", "text"])
def test_what_states_too_much_or_points_elsewhere(tmp_path, case):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["kernel"] = KERNEL
    raw = [(str(secret), 0, h5py.h5f.UNLIMITED)]
    puts = {
        "huge": lambda g: g.create_dataset(NAME, (1 << 20, 1 << 20), "f4", chunks=(64, 64)),
        "link": lambda g: g.__setitem__(NAME, h5py.ExternalLink(str(secret), "kernel")),
        "raw": lambda g: g.create_dataset(NAME, (4,), "f4", external=raw),
        "folder": lambda g: g.create_group(NAME),
        "nothing": lambda g: None,
        "text": lambda g: g.attrs.__setitem__("weight_names", 7),
    }
    path = write(tmp_path / f"{case}.h5", puts[case])
    with pytest.raises(UserError, match=rf"{case}\.h5: damaged or cut short"):
        read_h5(path)


def test_hdf5_of_something_else(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(UserError, match="without Keras's layers"):
        read_h5(tmp_path / "other.h5")
    with pytest.raises(UserError, match="1 of kind convolution where a CRNN has 7"):
        import_weights(write(tmp_path / "x.h5"), alphabet=ALPHABET)


def test_a_weight_twice(tmp_path):
    def put(group):
        group.attrs["weight_names"] = [b"a/conv1/kernel", b"b/conv1/kernel"]
        group["a/conv1/kernel"] = group["b/conv1/kernel"] = KERNEL

    with pytest.raises(UserError, match=r"b/conv1/kernel is a second kernel of layer conv1"):
        import_weights(write(tmp_path / "x.h5", put), alphabet=ALPHABET)


@pytest.mark.parametrize("place", [2072, 2120, 6969])
def test_one_byte_inside_that_was_overwritten(tmp_path, place):
    content = bytearray(write(tmp_path / "x.h5").read_bytes())
    content[place] = 255  # HDF5 1.14.6 runs on for ever by the first two and crashes by the last
    (tmp_path / "broken.h5").write_bytes(content)
    with contextlib.suppress(UserError):  # other versions may read on
        read_apart(tmp_path / "broken.h5", seconds=5)


@pytest.mark.parametrize("config", ["[" * 100_000, '{"a": NaN}', "7", '{"config": {"layers": 3}}'])
def test_descriptions_made_to_break_a_reader(tmp_path, config):
    path = write(tmp_path / "x.h5")
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = config
    with pytest.raises(UserError, match=r"x\.h5: "):
        import_weights(path, alphabet=ALPHABET)


def test_archives_that_unpack_to_more(tmp_path, monkeypatch):
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", b"")
        archive.writestr("config.json", b" " * 10**8)
    with pytest.raises(UserError, match=r"too large: config\.json states 100,000,000 bytes"):
        import_weights(path, alphabet=ALPHABET)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("model.weights.h5", b"x" * 1000)
        archive.writestr("config.json", b"{}")
    content = path.read_bytes()
    path.write_bytes(content[:60] + bytes(8) + content[68:])
    with pytest.raises(UserError, match="no Keras archive, or damaged"):
        import_weights(path, alphabet=ALPHABET)


def test_archive_of_keras_without_weights(tmp_path):
    path = tmp_path / "x.keras"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("config.json", "{}")
    for written in (content.getvalue(), b"PK\x03\x04 cut", b""):
        path.write_bytes(written)
        with pytest.raises(UserError, match=r"x\.keras: no Keras archive, or damaged"):
            import_weights(path, alphabet=ALPHABET)
