"""Which evaluation is kept, and when a run has waited long enough."""

from crnn_jax.training.metrics import BestEvaluation
from crnn_jax.training.workdir import Workdir


def offer_all(tmp_path, *rows):
    best = BestSoFar(Workdir(str(tmp_path)))
    for step, (accuracy, cer) in enumerate(rows, 1):
        best.offer(step, {"accuracy": accuracy, "cer": cer})
    return best


def test_accuracy_counts_then_the_error_rate(tmp_path):
    assert offer_all(tmp_path, (0.5, 0.2), (0.6, 0.3), (0.6, 0.4), (0.55, 0.0)).step == 2
    assert offer_all(tmp_path, (0.6, 0.3), (0.6, 0.2), (0.6, 0.25)).step == 2


def test_of_equals_the_later_one_is_kept_and_patience_runs_on(tmp_path):
    best = offer_all(tmp_path, (0.9, 0.1), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0))
    assert best.step == 4
    assert best.since == 2
    assert best.exhausted(2)
    assert not best.exhausted(3)
    assert not best.exhausted(0)
