"""crnn.pytorch's weights: the logits are the source's own, and no file runs anything."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import write_safetensors
from crnn_jax.importing.import_weights import import_weights
from crnn_jax.importing.torch import read_pth
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.foreign_networks import ALPHABET, WIDTHS, pictures, torch_net
from tests.testdata.pth_files import (
    PROTO,
    STOP,
    crnn_shapes,
    dictionary,
    number,
    storage,
    tensor,
    text,
    zipped,
)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="makes the files to import")


@pytest.fixture(scope="module")
def source(torch):
    return torch_net()


def _logits(torch, net, images):
    x = torch.from_numpy((images.astype(np.float32) / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    with torch.no_grad():
        return net(x).permute(1, 0, 2).numpy()


@pytest.mark.parametrize("kind", ["plain.pth", "checkpoint.pth", "x.safetensors"])
def test_logits(torch, source, kind, tmp_path):
    state = source.state_dict()
    if kind == "checkpoint.pth":  # names as of DataParallel
        state = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 3, "loss": 0.5, "model": state, "args": ["a", None]}, tmp_path / kind)
    elif kind == "x.safetensors":
        from safetensors.torch import save_file

        save_file(state, tmp_path / kind)
    else:
        torch.save(state, tmp_path / kind)
    imported = import_weights(tmp_path / kind, alphabet=ALPHABET)
    unused = imported.network.unused
    assert len(imported.network.used) == len(state) - len(unused)
    assert all(name.endswith("num_batches_tracked") for name in unused)
    recognizer = Recognizer(imported.variables, imported.metadata)
    for width in WIDTHS if kind == "plain.pth" else WIDTHS[1:2]:
        images = pictures(width, 1)
        theirs = _logits(torch, source, images)
        assert np.ptp(theirs, axis=1).max() > 1
        np.testing.assert_allclose(recognizer.logits(images), theirs, atol=1e-4)


def test_preprocessing_and_characters(torch, source, tmp_path):
    path = tmp_path / "crnn.pth"
    torch.save(source.state_dict(), path)
    metadata = import_weights(path, alphabet=ALPHABET).metadata
    prepared = metadata["preprocessing"]
    assert (prepared["channels"], prepared["width"], prepared["antialias"]) == (1, 100, True)
    assert (prepared["mean"], prepared["scale"]) == (127.5, 127.5)
    assert metadata["blank_id"] == 0
    Charset.from_characters(ALPHABET).write(tmp_path / "last.txt")
    with pytest.raises(UserError, match=r"last\.txt: the blank is class 36"):
        import_weights(path, table=tmp_path / "last.txt")


def ones(**changes):
    """crnn.pytorch's tensors, all ones; `changes` replace shapes or, as arrays, tensors."""
    given = crnn_shapes() | changes
    return {k: np.ones(v, np.float32) if isinstance(v, tuple) else v for k, v in given.items()}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("cnn.conv3.weight", (2, 1, 3, 3), "conv4/bias is"),
        ("cnn.conv0.weight", (1, 2, 3, 3), "preprocessing.channels=2"),
        ("rnn.0.rnn.weight_hh_l0_reverse", (3, 1), "bi_lstm1/backward/recurrent_kernel"),
        ("cnn.conv0.bias", np.array([1e300]), "conv1/bias holds numbers that are not finite"),
        ("cnn.batchnorm2.running_var", -np.ones(1, "f4"), "negative variance"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, key, value, said):
    write_safetensors(tmp_path / "x.safetensors", ones(**{key: value}), {})
    with pytest.raises(UserError, match=rf"x\.safetensors: .*{said}"):
        import_weights(tmp_path / "x.safetensors", alphabet="ab")


def test_an_alphabet_of_letters_and_marks(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", ones(), {})
    metadata = import_weights(tmp_path / "x.safetensors", alphabet="ae\u0301").metadata
    assert Charset.from_metadata(metadata).characters == ("a", "é")


def test_a_tensor_as_it_is_written(tmp_path):
    read = read_pth(zipped(tmp_path / "x.pth", dictionary(a=tensor(), b=tensor(stride=(1, 2)))))
    np.testing.assert_array_equal(read["a"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read["b"], [[0, 2, 4], [1, 3, 5]])


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": 1},
        {"size": (-2, -3)},
        {"size": (1 << 30, 6), "stride": (0, 1)},
        {"block": storage(key="../data.pkl")},
        {"block": storage(kind="DoubleStorage")},
    ],
)
def test_sizes_that_lie(tmp_path, changes):
    path = zipped(tmp_path / "lies.pth", dictionary(a=tensor(**changes)))
    with pytest.raises(UserError, match=r"lies\.pth: (damaged|its pickle imports)"):
        read_pth(path)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_code_in_a_pickle_does_not_run(tmp_path, protocol):
    ran = tmp_path / "ran"
    evil = pickle.dumps({"cnn.conv0.weight": Payload(ran)}, protocol)
    path = zipped(tmp_path / "evil.pth", evil)
    with pytest.raises(UserError, match=r"evil\.pth: its pickle imports (posix|nt)\.system"):
        import_weights(path, alphabet=ALPHABET)
    assert not ran.exists()
    pickle.loads(evil)  # noqa: S301 - the payload does work where pickles are run
    assert ran.exists()


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (PROTO + b"cbuiltins\neval\n" + text("1") + b"\x85R" + STOP, "imports builtins.eval"),
        (PROTO + b"ctorch._utils\n_rebuild_tensor_v2\n}b" + STOP, "damaged"),
        (PROTO + b"(ios\nsystem\n" + STOP, "imports os.system"),
        (dictionary(a=number(1)), "no tensors"),
        (b"", "damaged"),
    ],
)
def test_other_pickles(tmp_path, pickled, said):
    with pytest.raises(UserError, match=rf"x\.pth: .*{said}"):
        import_weights(zipped(tmp_path / "x.pth", pickled), alphabet=ALPHABET)


def test_what_is_no_weights(tmp_path):
    path = tmp_path / "x.pth"
    for content in (b"", b"hello, world", b"PK\x03\x04", pickle.dumps({}, 2)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.pth: "):
            import_weights(path, alphabet=ALPHABET)
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(UserError, match=r"x\.keras: not an archive of PyTorch; .*save_weights\("):
        import_weights(tmp_path / "x.keras", alphabet=ALPHABET)
    zeros = np.zeros((2, 2), np.float32)
    write_safetensors(path, {"model.embed.weight": zeros}, {})
    with pytest.raises(UserError, match=r"no cnn\.conv0\.weight.*model\.embed\.weight"):
        import_weights(path, alphabet=ALPHABET)
    write_safetensors(path, {"a": zeros}, {"crnn_jax": json.dumps({})})
    with pytest.raises(UserError, match="is a model file already"):
        import_weights(path, alphabet=ALPHABET)
