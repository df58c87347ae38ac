"""Checkpoints are whole or not there; any damage is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.reading.checkpoint import read_variables, steps
from crnn_jax.training.checkpoints import Checkpoints


def _state(value):
    return {
        "step": jnp.asarray(value, jnp.int32),
        "params": {"a": jnp.full((3, 4), value, jnp.float32)},
        "batch_stats": {"b": jnp.full((2,), value, jnp.float32)},
        "ema": {},
    }


@pytest.fixture
def said():
    return []


@pytest.fixture
def checkpoints(tmp_path, said):
    """Three saved, two kept, in a folder whose name reads as a pattern."""
    folder = tmp_path / "labels[1].tsv" / "checkpoints" / "latest"
    checkpoints = Checkpoints(folder, keep=2, say=said.append)
    for step in (1, 2, 3):
        checkpoints.save(step, _state(step), {"of": step, "model": {"name": step}})
    return checkpoints


def test_round_trip_keeps_the_newest_two(checkpoints):
    assert steps(checkpoints.directory) == [2, 3]
    state, meta = checkpoints.restore(_state(0))
    jax.tree.map(np.testing.assert_array_equal, state, _state(3))
    assert meta["of"] == 3
    variables, metadata = read_variables(checkpoints.directory.parents[1])
    assert metadata == {"name": 3}
    np.testing.assert_array_equal(variables["params"]["a"], np.full((3, 4), 3))


def _largest(step):
    return max(step.glob("state/params*/*"), key=lambda p: p.stat().st_size)


def _flip(step):
    data = bytearray(_largest(step).read_bytes())
    data[len(data) // 2] ^= 1
    _largest(step).write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        _flip,
        lambda step: _largest(step).write_bytes(_largest(step).read_bytes()[:-1]),
        lambda step: _largest(step).unlink(),
        lambda step: (step / "sha256.json").write_text("{"),
    ],
    ids=["flipped bit", "cut short", "missing file", "broken sums"],
)
def test_damaged_newest_falls_back_with_a_line(checkpoints, said, damage):
    damage(checkpoints.directory / "3")
    state, meta = checkpoints.restore(_state(0))
    assert int(state["step"]) == meta["of"] == 2
    assert ["damaged" in line for line in said] == [True]
    checkpoints.save(3, _state(30), {"of": 30})  # takes its place
    assert checkpoints.restore(_state(0))[1]["of"] == 30


def test_what_was_not_written_to_its_end_does_not_count(checkpoints, said):
    latest = checkpoints.directory
    (latest / "9").mkdir()
    (latest / "7.partial").mkdir()
    assert checkpoints.restore(_state(0))[1]["of"] == 3
    assert "sha256.json" in said[0]
    checkpoints.save(4, _state(4), {})
    assert sorted(path.name for path in latest.iterdir()) == ["3", "4"]
    with pytest.raises(TypeError):
        checkpoints.save(5, _state(5), {"not": {"json", "values"}})
    assert sorted(path.name for path in latest.iterdir()) == ["3", "4"]


def test_all_damaged_is_a_mistake_to_name_not_a_fresh_start(checkpoints):
    for step in (2, 3):
        _flip(checkpoints.directory / str(step))
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        checkpoints.restore(_state(0))
    with pytest.raises(UserError, match="no sound checkpoint"):
        read_variables(checkpoints.directory.parents[1])
