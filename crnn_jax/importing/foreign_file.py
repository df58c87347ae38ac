"""What another program's file of weights holds, read in a process of its own.

    held = read_apart('crnn.h5')

The libraries that read these formats were made for files they wrote themselves. HDF5's may run on
for ever in a file whose inside was overwritten, TensorFlow's may end the process; and where sizes
lie, Python may ask for all memory that there is. Here that costs a minute or two and one line. The
arrays come back through a safetensors file, which can run no code.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.safetensors import DTYPES, read_safetensors, write_safetensors
from crnn_jax.core.strict_json import parse_json
from crnn_jax.core.user_files import open_file, read_bytes
from crnn_jax.importing.h5_file import read_h5, read_keras_archive
from crnn_jax.importing.pth import read_pth
from crnn_jax.importing.saved_model_variables import is_saved_model, read_variables

# 35 MB take 3 s on a busy machine; but a SavedModel takes TensorFlow's import, 54 s on the same.
SECONDS = 120
MEMORY = 8 << 30  # bytes; the largest file that is read and its copies
COMMAND = [sys.executable, "-P", "-m", __name__]
_HDF5 = b"\x89HDF"
_HELD = "held"


class Held(NamedTuple):
    """A file's arrays.

    Attributes:
        program: 'CRNN.tf2' or 'crnn.pytorch', by the format.
        arrays: name and array, in the file's order; empty ones stand for what holds no numbers.
        config: Keras's description of the network, None where the file has none.
    """

    program: str
    arrays: list[tuple[str, np.ndarray]]
    config: Any = None


def read_apart(path: str | os.PathLike[str], seconds: float = SECONDS) -> Held:
    """`read_weights` in a process that is ended where it takes too long or too much.

    Raises:
        UserError: as `read_weights`; or the process was ended, or ended itself.
    """
    name = os.fspath(path)
    searched = os.pathsep.join(map(os.path.abspath, sys.path))
    with tempfile.TemporaryDirectory(prefix="crnn_jax_import_") as folder:
        output = os.path.join(folder, "held.safetensors")
        try:
            done = subprocess.run(
                COMMAND,
                input=json.dumps([name, output, MEMORY, math.ceil(seconds) + 1]).encode(),
                env={"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ | {"PYTHONPATH": searched},
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"{name}: damaged: reading it had no end in {seconds} s") from None
        if done.returncode == 2:
            raise UserError(json.loads(done.stdout.splitlines()[-1]))
        if done.returncode < 0:
            what = signal.strsignal(-done.returncode)
            raise UserError(f"{name}: damaged: what reads it was ended: {what}")
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace"))
        try:
            arrays, strings = read_safetensors(output)
            told = parse_json(strings[_HELD])
        except (UserError, ValueError) as error:  # sizes and names that make sense nowhere
            raise UserError(f"{name}: {str(error).removeprefix(f'{output}: ')}") from error
    named = [(key, arrays[str(i)]) for i, key in enumerate(told["names"])]
    return Held(told["program"], named, told["config"])


def read_weights(path: str | os.PathLike[str]) -> Held:
    """Finds the format from the content and reads every array; no code of the file is run.

    Raises:
        UserError: there is no such file, it is damaged, or of no such format.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        if not is_saved_model(name):
            raise UserError(f"{name}: a folder without variables/variables.index: no SavedModel")
        return Held("CRNN.tf2", read_variables(name))
    with open_file(name) as file:
        start = read_bytes(file, name, 9)
    if start[:4] == _HDF5:
        return Held("CRNN.tf2", *read_h5(name))
    if name.endswith(".keras"):
        return Held("CRNN.tf2", *read_keras_archive(name))
    if start[8:9] == b"{":
        tensors, metadata = read_safetensors(name)
        if "crnn_jax" in metadata:
            raise UserError(f"{name}: is a model file already")
    elif start[:2] == b"PK" or start[:1] == b"\x80":
        tensors = read_pth(name)
    else:
        raise UserError(f"{name}: neither HDF5, .keras, .pth nor .safetensors")
    return Held("crnn.pytorch", list(tensors.items()))


def _main() -> int:
    """The process: the job as JSON on stdin; the one line of a mistake as JSON on stdout."""
    name, output, memory, seconds = json.load(sys.stdin)
    memory = _limit("DATA", memory)
    _limit("CPU", seconds)  # whoever waits for this process may have been killed
    _limit("CORE", 0)
    try:
        _write(read_weights(name), output)
    except UserError as error:
        print(json.dumps(str(error)))
    except MemoryError:
        print(json.dumps(f"{name}: damaged, or too large: it asks for over {memory:,} bytes"))
    else:
        return 0
    return 2


def _limit(kind: str, most: int) -> int:
    """Sets one of the process's limits, the user's own where that is lower, and tells which."""
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        number = getattr(resource, f"RLIMIT_{kind}")
        allowed = resource.getrlimit(number)[1]
        most = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(number, (most, most))
    return most


def _write(held: Held, output: str) -> None:
    known = set(DTYPES.values())
    arrays = {
        str(i): array if array.dtype.newbyteorder("<") in known else np.zeros(0, bool)
        for i, (_, array) in enumerate(held.arrays)
    }
    names = [key for key, _ in held.arrays]
    told = {"program": held.program, "names": names, "config": held.config}
    write_safetensors(output, arrays, {_HELD: json.dumps(told)})


if __name__ == "__main__":
    sys.exit(_main())
