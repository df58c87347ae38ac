import json
import math

import numpy as np
import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.scoring.evaluation import EvaluationResult, Prediction, Row, evaluate_batches

CHARSET = Charset.from_characters("abc")
LABELS = ["ab", "c", "", "abc", "b"]


class ListSource:
    name = "list"

    def text(self, index):
        return LABELS[index]

    def identity(self, index):
        return f"{index}.png"


def make_batch(ids, failed=()):
    return {"id": np.array(ids), "failed": list(failed)}


def perfect(batch):
    """Reads every label right, also where no image was: that must not count."""
    ids = np.full((len(batch["id"]), 4), -1, np.int32)
    lengths = np.zeros(len(batch["id"]), np.int32)
    for row, sample in enumerate(batch["id"]):
        label, _ = CHARSET.encode(LABELS[max(sample, 0)])
        ids[row, : len(label)] = label
        lengths[row] = len(label)
    loss = np.array([1, np.nan, 3, 8, 8], np.float32)[: len(ids)]
    return Prediction(ids, lengths, np.full(len(ids), math.log(0.5), np.float32), loss)


def test_every_sample_counts_once():
    batches = [make_batch([3, 0, -1]), make_batch([4, 1, 2], [(1, "missing file")])]
    result = evaluate_batches(perfect, batches, ListSource(), CHARSET)
    assert [row.id for row in result.rows] == [0, 1, 2, 3, 4]
    assert result.rows[1][:5] == (1, "1.png", "list", "c", None)
    assert [row.text for row in result.rows] == ["ab", None, "", "abc", "b"]
    assert result.rows[0].confidence == pytest.approx(0.5)
    sums = result.sets["list"]
    assert (sums.count, sums.exact, sums.unreadable) == (5, 4, 1)
    assert sums.reasons == {"missing file": 1}
    assert sums.metrics()["loss"] == (1 + 1 + 3) / 3  # neither the filling row's nor NaN
    for batches in ([make_batch([0, 1]), make_batch([1])], [make_batch([2, 2])]):
        with pytest.raises(ValueError, match="came twice"):
            evaluate_batches(perfect, batches, ListSource(), CHARSET)


@pytest.fixture
def result():
    result = EvaluationResult()
    result.add(Row(0, "a.png", "one", "cat", "cat", 0.9), loss=0.5)
    result.add(Row(1, "b.png", "one", "dog", "dot", 0.25))
    result.add(Row(0, "c.png", "two", "a\tb", None, math.nan, "missing file"))
    return result


def test_results_of_parts_add_up(result):
    both = EvaluationResult()
    for row in result.rows:
        part = EvaluationResult()
        part.add(row, loss=0.5 if row.path == "a.png" else math.nan)
        both = both + part
    assert both == result
    assert result.metrics().items() >= {"count": 3, "accuracy": 1 / 3, "loss": 0.5}.items()
    message = EvaluationResult.from_message(json.loads(json.dumps(result.to_message())))
    assert message.sets == result.sets
    assert [row.path for row in message.rows] == ["c.png"]


def test_unseen_labels_are_counted_apart(result):
    parts = [EvaluationResult(), EvaluationResult()]  # of two processes
    for part, row in zip(parts, result.rows, strict=False):
        part.add(row)
        part.note_seen("one", np.array([False, True]))
    parts[1].add(Row(2, "d.png", "one", "cow", "cat", 0.5))
    parts[1].note_seen("one", np.array([False, True, False]))
    messages = (json.loads(json.dumps(part.to_message())) for part in parts)
    both = sum(map(EvaluationResult.from_message, messages), EvaluationResult())
    metrics = both.metrics()
    assert (metrics["accuracy_unseen_labels"], metrics["unseen_labels_count"]) == (1 / 2, 2)
    for seen in (True, False):  # of none or of all there is nothing to say
        both.rows = result.rows[:2] + parts[1].rows[1:]
        both.note_seen("one", np.full(3, seen))
        assert "accuracy_unseen_labels" not in both.metrics()
    assert "accuracy_unseen_labels" not in result.metrics()


def test_json_has_every_set_and_all_together(result):
    result.note_reasons("two", {"missing file": 1, "unknown character": 1})
    result.note_reasons("one", {"too long for its width": 2})
    records = list(result.to_json())
    assert [(r["set"], r["count"]) for r in records] == [("one", 2), ("two", 1), ("combined", 3)]
    assert records[0]["accuracy"] == 0.5
    low, high = records[2]["accuracy_interval"]
    assert 0 < low < 1 / 3 < high < 1
    # What could not be read is not counted twice.
    assert records[1]["reasons"] == {"missing file": 1, "unknown character": 1}
    assert records[2]["reasons"] == records[0]["reasons"] | records[1]["reasons"]
    json.dumps(records, allow_nan=False)
