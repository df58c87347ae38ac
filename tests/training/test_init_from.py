"""Starting from another model: everything is carried, the last layer by symbol."""

import numpy as np
import pytest

from crnn_jax.spec.charset import Charset
from crnn_jax.spec.errors import UserError
from crnn_jax.training.init_from import carry


def _variables(classes, value, hidden=2):
    column = value + np.arange(classes, dtype=np.float32)
    return {
        "params": {
            "conv1": {"kernel": np.full((3, 3), value, np.float32)},
            "logits": {"kernel": np.tile(column, (hidden, 1)), "bias": column},
        },
        "batch_stats": {"bn3": {"mean": np.full((2,), value, np.float32)}},
    }


def test_columns_follow_their_symbols():
    old, new = Charset.from_characters("abc"), Charset.from_characters("cxa")
    carried, lines = carry(_variables(4, 100), new, _variables(4, 0), old)
    # c was 2, x is new and keeps its first value, a was 0, the blank was 3.
    np.testing.assert_array_equal(carried["params"]["logits"]["bias"], [2, 101, 0, 3])
    np.testing.assert_array_equal(carried["params"]["logits"]["kernel"], [[2, 101, 0, 3]] * 2)
    assert np.all(carried["params"]["conv1"]["kernel"] == 0)
    assert np.all(carried["batch_stats"]["bn3"]["mean"] == 0)
    assert lines == [
        "init_from: 3 of 4 classes carried",
        "init_from: new characters: 'x'",
        "init_from: left behind: 'b'",
    ]


def test_capitals_start_as_the_small_letters_of_a_model_that_ignores_case():
    folding, new = Charset.from_characters("ab", ignore_case=True), Charset.from_characters("AaX")
    assert new.symbols[:3] == ("A", "a", "X")
    carried, lines = carry(_variables(4, 100), new, _variables(3, 0), folding)
    np.testing.assert_array_equal(carried["params"]["logits"]["bias"], [0, 0, 102, 2])
    assert "init_from: 1 capitals start as their small letters" in lines
    assert "init_from: new characters: 'X'" in lines
    exact = Charset.from_characters("ab")
    carried, _ = carry(_variables(4, 100), new, _variables(3, 0), exact)
    assert carried["params"]["logits"]["bias"][0] == 100


def test_another_network_is_refused_by_name():
    charset = Charset.from_characters("abc")
    with pytest.raises(UserError, match=r"logits/kernel is \(3,\) there and \(2,\) here"):
        carry(_variables(4, 0), charset, _variables(4, 0, hidden=3), charset)
    more = _variables(4, 0)
    more["params"]["projection"] = {"kernel": np.zeros(1)}
    with pytest.raises(UserError, match="projection/kernel has no place"):
        carry(_variables(4, 0), charset, more, charset)
    with pytest.raises(UserError, match="has no params/projection/kernel"):
        carry(more, charset, _variables(4, 0), charset)
