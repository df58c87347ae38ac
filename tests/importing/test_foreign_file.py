"""Files of weights are read in a process of their own: whatever becomes of it is one line."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.core.safetensors import write_safetensors
from crnn_jax.importing import foreign_file
from crnn_jax.importing.foreign_file import read_apart, read_weights
from tests.testdata.foreign_networks import write_keras2_saved_model
from tests.testdata.pth_files import dictionary, tensor, zipped


@pytest.fixture
def sound(tmp_path):
    return zipped(tmp_path / "sound.pth", dictionary(a=tensor(), b=tensor(stride=(1, 2))))


def assert_same(path):
    there, here = read_apart(path), read_weights(path)
    assert there.program == here.program
    assert there.config == here.config
    assert [name for name, _ in there.arrays] == [name for name, _ in here.arrays]
    for (_, a), (_, b) in zip(there.arrays, here.arrays, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype.newbyteorder("=")


def test_the_same_is_read_there_as_here(sound, monkeypatch, tmp_path):
    assert_same(sound)
    monkeypatch.chdir(tmp_path)  # away from the package, and by a relative name
    assert_same("sound.pth")


def test_keras_files_too(tmp_path):
    h5py = pytest.importorskip("h5py", reason="makes the file to read")
    with h5py.File(tmp_path / "ä x.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"name": "né"})
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = ["b", "a"]
        for layer in "ba":
            group.create_group(layer).attrs["weight_names"] = [f"{layer}/kernel:0"]
            kernel = np.arange(3, dtype=">f4" if layer == "a" else "<f8")
            group[layer].create_dataset(f"{layer}/kernel:0", data=kernel)
    assert_same(tmp_path / "ä x.h5")


def test_saved_models_too(tmp_path):
    pytest.importorskip("tensorflow", reason="makes the file to read")
    write_keras2_saved_model(_Net(), tmp_path / "saved")
    assert_same(tmp_path / "saved")


class _Layer:
    name = "dense"

    def __init__(self):
        self.weights = [_Weight()]


class _Weight:
    path = "dense/kernel"

    def __array__(self, *_, **__):
        return np.arange(6, dtype=np.float32).reshape(2, 3)


class _Net:
    def __init__(self):
        self.layers = [_Layer()]


def test_a_mistake_is_told_as_it_is_here(tmp_path):
    for name, content in (("é\n.pth", b"PK\x03\x04"), ("x.h5", b"\x89HDF"), ("x", b"hello")):
        (path := tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as here:
            read_weights(path)
        with pytest.raises(UserError) as there:
            read_apart(path)
        assert str(there.value) == str(here.value)


def test_what_has_no_end_is_ended(sound):
    with pytest.raises(UserError, match=r"sound\.pth: damaged: reading it had no end in 0\.01 s"):
        read_apart(sound, seconds=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes have no such limits")
def test_what_has_no_end_ends_by_itself_where_nobody_waits_any_more(sound):
    """Whoever waits may have been killed."""
    code = "def spin(_):\n  while True: pass\n"
    code += "import crnn_jax.importing.foreign_file as file; file.read_weights = spin; file._main()"
    job = json.dumps([str(sound), "out", 1 << 30, 1]).encode()
    done = subprocess.run([sys.executable, "-c", code], input=job, timeout=60, check=False)
    assert -done.returncode in (signal.SIGXCPU, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes have no such limits")
def test_limits_of_the_users_own_that_are_lower_stay(sound):
    code = "import sys, resource as r; r.setrlimit(r.RLIMIT_DATA, (4 << 30, 4 << 30));"
    code += "from crnn_jax.importing.foreign_file import read_apart; print(read_apart(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, sound], check=True, timeout=120)


def test_what_ends_the_process_is_told(sound, monkeypatch):
    monkeypatch.setattr(foreign_file, "COMMAND", [sys.executable, "-c", "import os; os.abort()"])
    with pytest.raises(UserError, match=r"sound\.pth: damaged: what reads it was ended: Abort"):
        read_apart(sound)


def test_a_bug_there_keeps_its_traceback(sound, monkeypatch):
    monkeypatch.setattr(foreign_file, "COMMAND", [sys.executable, "-c", "1 / 0"])
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        read_apart(sound)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory has no such limit")
def test_what_asks_for_all_memory_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign_file, "MEMORY", 600 << 20)
    path = tmp_path / "holes.safetensors"
    size = 1 << 30
    entry = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"cnn.conv0.weight": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, path.stat().st_size + size)
    with pytest.raises(UserError, match=r"holes\.safetensors: .* it asks for over 629,145,600 by"):
        read_apart(path)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"\ud800": np.zeros(2, np.float32)}, "surrogates"),
        ({"a": np.zeros((1,) * 9, np.float32)}, "a wrong entry in its header"),
    ],
)
def test_what_does_not_come_back(tmp_path, monkeypatch, tensors, told):
    # The process writes it, and this one reads it as warily as any file.
    held = foreign_file.Held("crnn.pytorch", list(tensors.items()))

    def run(command, **given):
        foreign_file._write(held, json.loads(given["input"])[1])
        return foreign_file.subprocess.CompletedProcess(command, 0, b"", b"")

    monkeypatch.setattr(foreign_file.subprocess, "run", run)
    with pytest.raises(UserError, match=rf"^some\.pth: .*{told}") as error:
        read_apart("some.pth")
    assert str(tmp_path) not in str(error.value)


def test_what_holds_no_numbers_comes_back_empty(tmp_path):
    held = foreign_file.Held("CRNN.tf2", [("text", np.array(["a"])), ("half", np.zeros(1, "f2"))])
    foreign_file._write(held, tmp_path / "x")
    arrays, _ = foreign_file.read_safetensors(tmp_path / "x")
    assert (arrays["0"].size, arrays["1"].dtype) == (0, np.float16)
    write_safetensors(tmp_path / "y", {"a": np.zeros(1, np.float32)}, {})
    assert foreign_file.read_weights(tmp_path / "y").program == "crnn.pytorch"
