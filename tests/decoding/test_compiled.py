import os
import pathlib
import subprocess
import sys
import tempfile
import threading

import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.decoding import compiled
from tests.testdata.full_disk import room

ROOT = pathlib.Path(__file__).parents[2]
CODE = """
import sys, numpy as np
from crnn_jax.decoding.beam_search import beam_search
assert "numba" not in sys.modules
beam_search(np.zeros((1, 2, 3)), np.array([2]), width=2, blank_id=0)
import numba
print(repr(numba.config.CACHE_DIR))
"""


def run(**changes):
    env = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | changes
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip(), done.stderr.splitlines()


def test_compiled_once_and_kept_in_the_users_cache(tmp_path):
    setting, told = run(XDG_CACHE_HOME=str(tmp_path))
    assert setting == "''"  # other users of numba keep their own
    assert len(told) == 1
    assert "compiling" in told[0]
    kept = sorted((tmp_path / "crnn_jax" / "numba").rglob("*.nbc"))
    assert kept
    assert run(XDG_CACHE_HOME=str(tmp_path)) == ("''", [])
    assert sorted((tmp_path / "crnn_jax" / "numba").rglob("*.nbc")) == kept


def test_a_folder_the_user_named(tmp_path):
    named = str(tmp_path / "named")
    assert run(NUMBA_CACHE_DIR=named, XDG_CACHE_HOME=str(tmp_path))[0] == repr(named)
    assert list(pathlib.Path(named).rglob("*.nbc"))
    assert not (tmp_path / "crnn_jax").exists()


def test_without_a_place_to_write_it_works_all_the_same(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    _, told = run(XDG_CACHE_HOME=str(tmp_path / "file"))
    assert "compiling" in told[0]


@pytest.mark.skipif(not compiled.available(), reason="numba is an extra")
def test_full_disks_are_told_before_the_search(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("numba.config.CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        room(1000),
        pytest.raises(UserError, match="no room for the compiled beam search: File too large"),
    ):
        compiled.kernels.__wrapped__("beam_kernel")
    kept = tmp_path / "crnn_jax" / "numba" / compiled._digest() / "decoding"
    kept.mkdir(parents=True)
    (kept / "beam_kernel.search_rows-1.py311.nbc").touch()
    with room(1000):  # what is there already needs none
        assert compiled.kernels.__wrapped__("beam_kernel").search_rows


def test_every_row_is_visited_once(monkeypatch):
    for cores, count in ((1, 5), (3, 0), (3, 1), (3, 2), (3, 100)):
        monkeypatch.setattr(compiled, "_cores", lambda cores=cores: cores)
        lock, seen = threading.Lock(), []

        def visit(start, stop, lock=lock, seen=seen):
            with lock:
                seen.extend(range(start, stop))

        compiled.in_threads(visit, count)
        assert sorted(seen) == list(range(count))
