"""Checkpoints are whole or not there; any damage is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.reading.checkpoint import read_variables
from crnn_jax.training.checkpoints import Checkpoints


def _state(value):
    return {
        "step": jnp.asarray(value, jnp.int32),
        "params": {"a": jnp.full((3, 4), value, jnp.float32)},
        "batch_stats": {"b": jnp.full((2,), value, jnp.float32)},
        "ema": {},
    }


@pytest.fixture
def folder(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints" / "latest", keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, _state(step), {"of": step, "model": {"name": step}})
    return tmp_path


def _open(folder, said=None):
    say = print if said is None else said.append
    return Checkpoints(folder / "checkpoints" / "latest", keep=2, say=say)


def test_round_trip_keeps_the_newest_two(folder):
    checkpoints = _open(folder)
    assert checkpoints.steps() == [2, 3]
    state, meta = checkpoints.restore(_state(0))
    jax.tree.map(np.testing.assert_array_equal, state, _state(3))
    assert meta["of"] == 3


def _largest(step):
    return max(step.glob("state/params*/*"), key=lambda p: p.stat().st_size)


def _flip(step):
    path = _largest(step)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(step):
    path = _largest(step)
    path.write_bytes(path.read_bytes()[:-1])


def _lose(step):
    _largest(step).unlink()


@pytest.mark.parametrize(
    "damage",
    [_flip, _cut, _lose, lambda s: (s / "sha256.json").write_text("{")],
    ids=["flipped bit", "cut short", "missing file", "broken sums"],
)
def test_damaged_newest_falls_back_with_a_line(folder, damage):
    damage(folder / "checkpoints" / "latest" / "3")
    said = []
    state, meta = _open(folder, said).restore(_state(0))
    assert int(state["step"]) == meta["of"] == 2
    assert len(said) == 1
    assert "damaged" in said[0]


def test_what_was_not_written_to_its_end_does_not_count(folder):
    latest = folder / "checkpoints" / "latest"
    (latest / "9").mkdir()
    (latest / "7.partial").mkdir()
    said = []
    checkpoints = _open(folder, said)
    assert checkpoints.restore(_state(0))[1]["of"] == 3
    assert "sha256.json" in said[0]
    checkpoints.save(4, _state(4), {})
    assert not (latest / "7.partial").exists()
    assert checkpoints.steps() == [3, 4]


def test_all_damaged_is_a_mistake_to_tell_not_a_fresh_start(folder):
    for step in (2, 3):
        _flip(folder / "checkpoints" / "latest" / str(step))
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        _open(folder, []).restore(_state(0))


def test_saving_again_replaces_a_damaged_step(folder):
    _flip(folder / "checkpoints" / "latest" / "3")
    checkpoints = _open(folder, [])
    checkpoints.save(3, _state(30), {"of": 30})
    assert checkpoints.restore(_state(0))[1]["of"] == 30


def test_failed_save_leaves_the_earlier_ones(folder, monkeypatch):
    checkpoints = _open(folder)
    with pytest.raises(TypeError):
        checkpoints.save(4, _state(4), {"not": {"json", "values"}})
    assert checkpoints.steps() == [2, 3]
    assert not list((folder / "checkpoints" / "latest").glob("*.partial"))


def test_variables_of_a_workdir(folder):
    variables, metadata = read_variables(folder)
    assert metadata == {"name": 3}
    np.testing.assert_array_equal(variables["params"]["a"], np.full((3, 4), 3))
    with pytest.raises(UserError, match="no sound checkpoint"):
        read_variables(folder / "checkpoints")


def test_a_path_that_reads_as_a_pattern(tmp_path):
    checkpoints = Checkpoints(tmp_path / "labels[1].tsv", keep=2)
    checkpoints.save(1, _state(1), {"of": 1})
    state, _ = checkpoints.restore(_state(0))
    jax.tree.map(np.testing.assert_array_equal, state, _state(1))


def test_the_first_checkpoint_is_read_back(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=2)
    restore = ocp.StandardCheckpointHandler.restore

    def other_values(*args, **more):
        return jax.tree.map(lambda a: a + 1, restore(*args, **more))

    monkeypatch.setattr(ocp.StandardCheckpointHandler, "restore", other_values)
    with pytest.raises(RuntimeError, match="other values"):
        checkpoints.save(1, _state(1), {})
    assert checkpoints.steps() == []
    monkeypatch.undo()
    checkpoints.save(1, _state(1), {})
    assert checkpoints.steps() == [1]
