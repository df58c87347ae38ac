import math

import numpy as np
import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.scoring.evaluation import Prediction, evaluate_batches

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
    """Reads every label right, also where no picture was: that must not count."""
    ids = np.full((len(batch["id"]), 4), -1, np.int32)
    lengths = np.zeros(len(batch["id"]), np.int32)
    for row, sample in enumerate(batch["id"]):
        label, _ = CHARSET.encode(LABELS[max(sample, 0)])
        ids[row, : len(label)] = label
        lengths[row] = len(label)
    return Prediction(ids, lengths, np.full(len(ids), math.log(0.5), np.float32))


def test_every_sample_counts_once():
    batches = [make_batch([3, 0, -1]), make_batch([4, 1, 2], [(1, "missing file")])]
    result = evaluate_batches(perfect, batches, ListSource(), CHARSET)
    assert [row.id for row in result.rows] == [0, 1, 2, 3, 4]
    assert result.rows[1]._replace(confidence=0) == (
        1,
        "1.png",
        "list",
        "c",
        None,
        0,
        "missing file",
    )
    assert [row.text for row in result.rows] == ["ab", None, "", "abc", "b"]
    assert result.rows[0].confidence == pytest.approx(0.5)
    sums = result.sets["list"]
    assert (sums.count, sums.exact, sums.unreadable) == (5, 4, 1)
    assert sums.reasons == {"missing file": 1}


def test_a_batch_is_sent_before_the_one_before_is_counted():
    order = []

    class Late:
        """An array of a device: it is waited for when it is looked at."""

        def __init__(self, number, array):
            self.number, self.array = number, array

        def __array__(self, dtype=None, copy=None):
            order.append(f"wait {self.number}")
            return self.array

    def predict(batch):
        number = int(batch["id"][0])
        order.append(f"send {number}")
        got = perfect(batch)
        return Late(number, got.ids), got.id_lengths, got.log_prob

    evaluate_batches(predict, [make_batch([i]) for i in range(3)], ListSource(), CHARSET)
    assert order == ["send 0", "send 1", "wait 0", "send 2", "wait 1", "wait 2"]


def test_losses_are_averaged_over_those_that_have_one():
    def predict(batch):
        return perfect(batch)._replace(loss=np.array([1.0, np.nan, 3.0, 8.0], np.float32))

    batch = make_batch([0, 1, 2, -1])
    assert evaluate_batches(predict, [batch], ListSource(), CHARSET).metrics()["loss"] == 2


def test_a_sample_that_comes_twice_is_a_bug():
    for batches in ([make_batch([0, 1]), make_batch([1])], [make_batch([2, 2])]):
        with pytest.raises(ValueError, match="came twice"):
            evaluate_batches(perfect, batches, ListSource(), CHARSET)
