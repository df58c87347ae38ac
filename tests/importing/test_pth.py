"""Files made to break a reader: none runs anything, each ends in one line."""

import contextlib
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.core.safetensors import write_safetensors
from crnn_jax.importing.foreign import import_weights
from crnn_jax.importing.pth import read_pth
from tests.testdata.foreign_networks import ALPHABET
from tests.testdata.pth_files import (
    PROTO,
    STOP,
    dictionary,
    legacy,
    number,
    storage,
    tensor,
    text,
    zipped,
)

pytestmark = pytest.mark.usefixtures("in_this_process")


def test_a_tensor_as_it_is_written(tmp_path):
    read = read_pth(zipped(tmp_path / "x.pth", dictionary(a=tensor(), b=tensor(stride=(1, 2)))))
    np.testing.assert_array_equal(read["a"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read["b"], [[0, 2, 4], [1, 3, 5]])
    read = read_pth(legacy(tmp_path / "y.pth", dictionary(a=tensor()), 6))
    np.testing.assert_array_equal(read["a"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("length", [5, 7, -1, 1 << 40, (1 << 63) - 1])
def test_lengths_that_lie_in_the_old_format(tmp_path, length):
    path = legacy(tmp_path / "lies.pth", dictionary(a=tensor()), length)
    with pytest.raises(UserError, match=r"lies\.pth: damaged"):
        read_pth(path)
    for keys in ((), ("1",), (["0"],), (7,)):
        path = legacy(tmp_path / "lies.pth", dictionary(a=tensor()), 6, keys)
        with pytest.raises(UserError, match=r"lies\.pth: damaged"):
            read_pth(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": 1},
        {"offset": -1},
        {"offset": 1 << 62},
        {"size": (3, 3)},
        {"size": (-2, -3)},
        {"size": (1 << 35, 1 << 35)},
        {"size": (1 << 30, 6), "stride": (0, 1)},
        {"stride": (3, -1)},
        {"stride": (1 << 61, 1)},
        {"size": (2,)},
        {"size": (1,) * 70, "stride": (1,) * 70},
        {"block": storage(length=7)},
        {"block": storage(length=1 << 60)},
        {"block": storage(key="1")},
        {"block": storage(key="../data.pkl")},
        {"block": storage(kind="DoubleStorage")},
        {"block": storage(kind="MadeUpStorage")},
        {"block": number(3)},
    ],
)
def test_sizes_that_lie(tmp_path, changes):
    path = zipped(tmp_path / "lies.pth", dictionary(a=tensor(**changes)))
    with pytest.raises(UserError, match=r"lies\.pth: (damaged|holds no tensors)"):
        read_pth(path)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_code_in_a_pickle_does_not_run(tmp_path, protocol, form):
    ran = tmp_path / "ran"
    evil = pickle.dumps({"cnn.conv0.weight": Payload(ran)}, protocol)
    path = tmp_path / "evil.pth"
    if form == "zip":
        zipped(path, evil)
    else:
        legacy(path, evil, 6)
    with pytest.raises(UserError, match=r"evil\.pth: its pickle wants to run '(posix|nt)\.system'"):
        import_weights(path, alphabet=ALPHABET)
    assert not ran.exists()
    pickle.loads(evil)  # noqa: S301 - the payload does work where pickles are run
    assert ran.exists()


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (PROTO + b"cbuiltins\neval\n" + text("1") + b"\x85R" + STOP, "builtins.eval"),
        (PROTO + b"ctorch._utils\n_rebuild_tensor_v2\n}b" + STOP, "Python objects"),
        (PROTO + b"(ios\nsystem\n" + STOP, "INST|cannot be read"),
        (PROTO + b"\x82\x01" + STOP, "EXT1"),
        (PROTO + text("a") * 3, "cannot be read"),
        (PROTO + b"j\xff\xff\xff\x7f" + STOP, "cannot be read"),
        (PROTO + b"r\xff\xff\xff\x7f" + STOP, "cannot be read"),
        (PROTO + b"X\xff\xff\xff\xff" + STOP, "cannot be read"),
        (PROTO + b"}" + b")" + b"\x85" * 100_000 + b"Ns" + STOP, "cannot be read"),
        (PROTO + number(1) + b"R" + STOP, "cannot be read"),
        (dictionary(a=number(1)), "no tensors"),
        (b"", "cannot be read"),
    ],
)
def test_other_pickles(tmp_path, pickled, said):
    with pytest.raises(UserError, match=said):
        read_pth(zipped(tmp_path / "x.pth", pickled))


def nested(items, depth):
    """Lists within lists, each holding one and the same list so many times."""
    inner = tensor()
    for level in range(depth):
        inner = b"](" + inner + b"q" + bytes([level]) + (b"h" + bytes([level])) * items + b"e"
    return inner


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        # 60 ^ 7 lists, one and the same in the end.
        (dictionary(a=nested(60, 7)), "over 10,000 values, or a name"),
        (dictionary(**{"a" * 2000: tensor()}), "over 10,000 values, or a name"),
        # A mark is looked for from above: under 200,000 values, as often.
        (PROTO + b"N" * 200_000 + b"(t" * 200_000 + STOP, "holds no tensors"),
        # Pairs of more than two parts.
        (
            PROTO
            + b"ccollections\nOrderedDict\n(("
            + b"("
            + b"N" * 3
            + b"lq\0"
            + b"h\0" * 9
            + b"ltR.",
            "cannot be read",
        ),
    ],
)
def test_little_bytes_that_ask_for_much_work(tmp_path, monkeypatch, pickled, said):
    monkeypatch.setattr("crnn_jax.importing.pth.MAX_VALUES", 10_000)
    with pytest.raises(UserError, match=said):
        read_pth(zipped(tmp_path / "x.pth", pickled))


def test_tensors_beyond_all_bounds(tmp_path, monkeypatch):
    tensors = {f"t{i}": tensor() for i in range(200)}  # of one storage of 24 bytes
    path = zipped(tmp_path / "x.pth", dictionary(**tensors))
    assert len(read_pth(path)) == 200
    monkeypatch.setattr("crnn_jax.importing.pth.MAX_TENSORS", 199)
    with pytest.raises(UserError, match="over 199 tensors"):
        read_pth(path)
    big = zipped(
        tmp_path / "y.pth",
        dictionary(**{f"t{i}": tensor(storage(length=6000), 0, (6000,), (1,)) for i in range(9)}),
        {"0": bytes(24_000)},
    )
    monkeypatch.setattr("crnn_jax.importing.pth.MAX_BYTES", 100_000)
    with pytest.raises(UserError, match="tensor t4: over 100,000 bytes with those before it"):
        read_pth(big)
    monkeypatch.setattr("crnn_jax.importing.pth.MAX_BYTES", 20_000)
    with pytest.raises(UserError, match=r"y\.pth: too large: over 20,000 bytes"):
        read_pth(big)


@pytest.mark.parametrize("name", ["../../data.pkl", "/etc/data.pkl", "a/../data.pkl"])
def test_names_that_lead_elsewhere_lead_nowhere(tmp_path, name):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:  # nothing is unpacked: a name is only a name
        archive.writestr(name, dictionary(a=tensor(storage(key="../../secret"))))
        archive.writestr(name.replace("data.pkl", "data/../../secret"), bytes(24))
    assert read_pth(path)["a"].shape == (2, 3)
    assert [p.name for p in tmp_path.rglob("*")] == ["x.pth"]


def test_a_zip_that_unpacks_to_more(tmp_path):
    path = zipped(tmp_path / "x.pth", dictionary(a=tensor()), method=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="compressed"):
        read_pth(path)
    with zipfile.ZipFile(tmp_path / "y.pth", "w") as archive:
        archive.writestr("letter.txt", "no weights")
    with pytest.raises(UserError, match="none of PyTorch's"):
        read_pth(tmp_path / "y.pth")


def _whole(path):
    """A network that imports, in the old format or the new."""
    torch = pytest.importorskip("torch", reason="makes the file to import")
    from tests.testdata.foreign_networks import torch_net

    new = path.name == "new.pth"
    torch.save(torch_net().state_dict(), path, _use_new_zipfile_serialization=new)
    import_weights(path, alphabet=ALPHABET)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["new.pth", "old.pth"])
def test_cut_short_anywhere(tmp_path, name):
    content = _whole(tmp_path / name)
    for share in (0, 0.001, 0.02, 0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut.pth").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UserError, match=r"cut\.pth: "):
            import_weights(tmp_path / "cut.pth", alphabet=ALPHABET)


@pytest.mark.parametrize("name", ["new.pth", "old.pth"])
def test_bytes_that_flipped_end_in_one_line_or_in_other_numbers(tmp_path, name):
    content = _whole(tmp_path / name)
    random = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(content)
        for place in random.integers(0, min(len(content), 6000), 3):
            broken[place] = random.integers(256)
        (tmp_path / "broken.pth").write_bytes(broken)
        with contextlib.suppress(UserError):
            import_weights(tmp_path / "broken.pth", alphabet=ALPHABET)


def test_safetensors_of_something_else(tmp_path):
    path = tmp_path / "other.safetensors"
    write_safetensors(path, {"model.embed.weight": np.zeros((2, 2), np.float32)}, {})
    with pytest.raises(UserError, match=r"no cnn\.conv0\.weight.*model\.embed\.weight"):
        import_weights(path, alphabet=ALPHABET)
    write_safetensors(path, {"a": np.zeros(2, np.float32)}, {"crnn_jax": json.dumps({})})
    with pytest.raises(UserError, match="is a model file already"):
        import_weights(path, alphabet=ALPHABET)


def test_what_is_no_weights_at_all(tmp_path):
    with pytest.raises(UserError, match=r"none\.pth: cannot be read"):
        import_weights(tmp_path / "none.pth", alphabet=ALPHABET)
    for content in (
        b"",
        b"hello, world",
        b"PK\x03\x04",
        b"\x80",
        b"\x80\x02.",
        b"\x89HDF\r\n\x1a\n",
    ):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"x\.pth: "):
            import_weights(tmp_path / "x.pth", alphabet=ALPHABET)
    with pytest.raises(UserError, match="no SavedModel"):
        import_weights(tmp_path, alphabet=ALPHABET)
