"""How long a run is and how often it looks."""

import pytest

from crnn_jax.training.experiment import make_experiment


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
