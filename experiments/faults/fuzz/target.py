"""Coverage-guided fuzzing of one reader, by atheris (https://github.com/google/atheris).

    python3.11 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris
    export PYTHONPATH=.venv/lib/python3.11/site-packages
    /tmp/fuzz/bin/python experiments/faults/fuzz/arpa.py -runs=1000000 [libFuzzer's other flags]

No requirements file has atheris: without.py runs every target without it, over its
seeds and mutations of them. A target is a file of two functions: `one_input(data)` gives bytes to a
reader and may raise UserError, nothing else; `seeds()` are sound inputs to start from.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from crnn_jax.core.errors import UserError  # noqa: E402


def fuzz(name: str, one_input: Callable[[bytes], None], seeds: Callable[[], Iterable[bytes]]):
    """Runs libFuzzer with the flags of the command line.

    Inputs that reach new code, and one that fails, are kept in /tmp/crnn_jax_fuzz_NAME: the next
    run starts from them. What `one_input` imports must be imported inside it, so that crnn_jax is
    instrumented here, and nothing else is (numba and JAX read bytecode themselves).
    """
    import atheris

    folder = Path(tempfile.gettempdir()) / f"crnn_jax_fuzz_{name}"
    (corpus := folder / "corpus").mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["crnn_jax"]):
        for number, seed in enumerate(list(seeds())):
            (corpus / f"seed{number}").write_bytes(seed)
            attempt(one_input, seed)
    flags = [f"-artifact_prefix={folder}/", *sys.argv[1:]]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], lambda data: attempt(one_input, data))
    atheris.Fuzz()


def attempt(one_input: Callable[[bytes], None], data: bytes) -> str | None:
    """What the reader's one line says, None where it took the input; all else is raised."""
    try:
        one_input(data)
    except UserError as error:
        return str(error)
    return None


@contextlib.contextmanager
def scratch_file(data: bytes, suffix: str = ""):
    """The path of a file that holds the bytes."""
    path = Path(tempfile.gettempdir()) / f"crnn_jax_fuzz.{os.getpid()}{suffix}"
    path.write_bytes(data)
    try:
        yield path
    finally:
        path.unlink()
