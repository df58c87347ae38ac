import os
import subprocess
import sys

import pytest

from crnn_jax.reading import compilation_cache

PROGRAM = (
    "from crnn_jax.reading import compilation_cache; compilation_cache.enable();"
    "import jax; print(jax.jit(lambda x: x + 1)(1))"
)


@pytest.fixture
def compile_something(root):
    """In a process without the tests' own cache."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMP", "JAX_PERS"))}

    def compile_something(**more):
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(
            command, env=env | more, cwd=root, capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr) == ("2\n", "")

    return compile_something


def test_small_programs_are_kept_and_made_anew_where_a_kill_cut_them(compile_something, tmp_path):
    compile_something(XDG_CACHE_HOME=str(tmp_path))
    kept = tmp_path / "crnn_jax" / "xla" / compilation_cache.machine()
    sizes = {path: path.stat().st_size for path in kept.glob("*-cache")}
    assert sizes
    for path, size in sizes.items():
        path.write_bytes(path.read_bytes()[: size // 2])
    compile_something(XDG_CACHE_HOME=str(tmp_path))  # says nothing
    assert all(path.stat().st_size > size // 2 for path, size in sizes.items())
