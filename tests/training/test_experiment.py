"""How long a run is and how often it looks."""

import math

import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.training.experiment import make_experiment
from crnn_jax.training.limits import LIMITS, require_limits


def lengths(config, **changes):
    """(steps, steps between evaluations) with keys changed; an epoch is 5 batches."""
    with config.unlocked():
        config.steps = 0
        config.evaluation.every_steps = 0
        config.update(changes)
    experiment = make_experiment(config)
    return experiment.total_steps, experiment.evaluate_every


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"epochs": 3.0}, (15, 5)),
        ({"epochs": 3.0, "least_steps": 12}, (15, 5)),
        ({"epochs": 3.0, "least_steps": 60}, (60, 5)),
        ({"epochs": 40.0}, (200, 10)),  # twenty evaluations, not forty
        ({"steps": 101, "epochs": 0.0, "least_steps": 1_000}, (101, 6)),
    ],
)
def test_small_sets_get_enough_steps_and_not_too_many_evaluations(config, changes, expected):
    assert lengths(config, **changes) == expected


def test_a_named_interval_of_evaluations_stays(config):
    with config.unlocked():
        config.evaluation.every_steps = 7
    assert make_experiment(config).evaluate_every == 7


@pytest.mark.parametrize(("unknown", "read"), [("unusable", 0), ("strip", 0), ("map", -1)])
def test_the_unknown_class_is_read_only_where_it_is_trained(config, root, unknown, read):
    with config.unlocked():
        config.charset.table = str(root / "example" / "table.txt")  # <UNK> is its first line
        config.charset.characters = ""
        config.data.unknown = unknown
    assert make_experiment(config).unknown_id == read


@pytest.mark.parametrize("key", LIMITS)
def test_numbers_outside_their_limits_are_told(config, key):
    least, most = LIMITS[key]
    part, _, name = key.rpartition(".")
    holder = config[part] if part else config
    kind = type(holder[name])
    for value in (least - 1, most + 1 if most < math.inf else least - 1):
        with config.unlocked():
            holder[name] = kind(value)
        with pytest.raises(UserError, match=rf"^config\.{key}=-?[\d.]+: want a number"):
            make_experiment(config)


def test_the_limits_themselves_are_inside(config):
    for end in (0, 1):
        with config.unlocked():
            for key, limits in LIMITS.items():
                part, _, name = key.rpartition(".")
                holder = config[part] if part else config
                if limits[end] < math.inf:
                    holder[name] = type(holder[name])(limits[end])
        require_limits(config)


def test_a_rate_that_is_no_number(config):
    with config.unlocked():
        config.optimizer.learning_rate = float("nan")
    with pytest.raises(UserError, match=r"learning_rate=nan: want a number, at least 0"):
        make_experiment(config)
