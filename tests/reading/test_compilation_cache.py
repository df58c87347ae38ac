import os
import pathlib
import subprocess
import sys
import zlib

import pytest

from crnn_jax.reading import compilation_cache

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = (
    "from crnn_jax.reading import compilation_cache; compilation_cache.enable();"
    "import jax; print(jax.jit(lambda x: x + 1)(1))"
)


def compile_something(**environment):
    """In a process without the tests' own cache."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMP", "JAX_PERS"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=env | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_even_small_programs_are_kept_apart_by_machine(tmp_path):
    compile_something(XDG_CACHE_HOME=str(tmp_path))
    kept = tmp_path / "crnn_jax" / "xla" / compilation_cache.machine()
    assert list(kept.iterdir())


def test_what_was_cut_short_is_compiled_anew_and_kept(tmp_path):
    compile_something(XDG_CACHE_HOME=str(tmp_path))
    kept = tmp_path / "crnn_jax" / "xla" / compilation_cache.machine()
    entries = {path: path.read_bytes() for path in kept.glob("*-cache")}
    for path, content in entries.items():
        path.write_bytes(content[: len(content) // 2])
    compile_something(XDG_CACHE_HOME=str(tmp_path))  # says nothing
    for path, content in entries.items():
        assert len(path.read_bytes()) > len(content) // 2


def test_entries_are_looked_at_once(tmp_path):
    whole, cut, later = (tmp_path / f"{name}-cache" for name in ("whole", "cut", "later"))
    packed = zlib.compress(bytes(range(256)))
    whole.write_bytes(packed)
    cut.write_bytes(packed[:-1])
    compilation_cache.drop_damaged(tmp_path)
    assert whole.exists()
    assert not cut.exists()
    whole.write_bytes(b"damaged long ago")
    os.utime(whole, (0, 0))
    later.write_bytes(b"")
    compilation_cache.drop_damaged(tmp_path)
    assert whole.exists()
    assert not later.exists()
    compilation_cache.drop_damaged(tmp_path / "nowhere")


def test_a_folder_the_user_named_stays(tmp_path):
    named = tmp_path / "named"
    compile_something(
        XDG_CACHE_HOME=str(tmp_path),
        JAX_COMPILATION_CACHE_DIR=str(named),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    assert not (tmp_path / "crnn_jax").exists()
    assert list(named.iterdir())


def test_without_a_place_to_write_there_is_no_cache(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    compile_something(XDG_CACHE_HOME=str(tmp_path / "file"))


def test_another_processor_has_another_name(monkeypatch):
    here = compilation_cache.machine()
    assert here == compilation_cache.machine()
    monkeypatch.setattr("jaxlib.__version__", "0.0.1")
    assert compilation_cache.machine() != here


@pytest.mark.parametrize(
    ("system", "variable", "value", "want"),
    [
        ("linux", "XDG_CACHE_HOME", "/c", "/c/crnn_jax"),
        ("linux", "XDG_CACHE_HOME", "", "/home/me/.cache/crnn_jax"),
        ("darwin", "XDG_CACHE_HOME", "/c", "/home/me/Library/Caches/crnn_jax"),
        ("win32", "LOCALAPPDATA", "/c", "/c/crnn_jax"),
    ],
)
def test_caches_lie_where_the_system_wants_them(monkeypatch, system, variable, value, want):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv(variable, value)
    assert compilation_cache.user_cache() == want
