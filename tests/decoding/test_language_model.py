import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.decoding.language_model import (
    BEGIN,
    END,
    UNKNOWN,
    Automaton,
    NGram,
    arpa_lines,
    read_arpa,
)

TABLE = Charset.from_characters("abc")  # the blank is class 3

texts = st.lists(st.text("abd", min_size=1, max_size=6), min_size=1, max_size=8)


def witten_bell(texts, order, context, c):
    """The formula of the module's head, by counting anew for every term."""
    strings = [BEGIN + t + END for t in texts]
    alphabet = {x for s in strings for x in s[1:]} | {UNKNOWN}

    def p(h):
        after = [
            s[i + len(h)] for s in strings for i in range(len(s) - len(h)) if s[i:].startswith(h)
        ]
        after = [x for x in after if x != BEGIN]
        lower = p(h[1:]) if h else 1 / len(alphabet)
        if not after:
            return lower
        kinds = len(set(after))
        return (after.count(c) + kinds * lower) / (len(after) + kinds)

    return p(context[max(0, len(context) - order + 1) :])


def walk(model: Automaton, ids):
    """log p of a text by the definition of a back-off automaton, in plain Python."""
    state, total = model.start, 0.0
    for c in ids:
        while True:
            arcs = range(model.first[state], model.first[state + 1])
            arc = next((a for a in arcs if model.label[a] == c), None)
            if arc is not None:
                break
            total += model.back_off[state]
            state = model.shorter[state]
        total += model.log_prob[arc]
        state = model.next_state[arc]
    return total + model.end[state]


def assert_sound(model: Automaton, num_classes: int):
    """What compiled code, which checks no index, relies on."""
    states, arcs = len(model.end), len(model.label)
    sizes = [states + 1, arcs, arcs, arcs, states, states, states]
    assert [len(array) for array in model[1:]] == sizes
    assert (model.first[0], model.first[-1]) == (0, arcs)
    assert (np.diff(model.first) >= 0).all()
    assert 0 <= model.start < states
    assert ((model.next_state >= 0) & (model.next_state < states)).all()
    assert ((model.shorter >= 0) & (model.shorter < np.maximum(np.arange(states), 1))).all()
    assert model.label[: model.first[1]].tolist() == list(range(num_classes))
    for state in range(states):
        assert (np.diff(model.label[model.first[state] : model.first[state + 1]]) > 0).all()
    assert all(np.isfinite(x).all() for x in (model.log_prob, model.back_off, model.end))


@settings(max_examples=40)
@given(
    texts, st.integers(1, 4), st.text("abdx", max_size=4), st.sampled_from("abd" + END + UNKNOWN)
)
def test_equals_the_formula(texts, order, context, c):
    model = NGram.estimate(texts, order)
    for h in (context, BEGIN + context):
        h = h[max(0, len(h) - order + 1) :]
        characters = {x for t in texts for x in t} | {END, UNKNOWN}
        if c in characters:
            want = witten_bell(texts, order, h, c)
            assert math.exp(model._log_prob(h + c)) == pytest.approx(want, rel=1e-9)
        if "x" not in h:
            assert sum(math.exp(model._log_prob(h + x)) for x in characters) == pytest.approx(1)


@settings(max_examples=40)
@given(texts, st.integers(1, 4), st.text("abc", max_size=6))
def test_the_automaton_is_the_same_model(texts, order, text):
    model = NGram.estimate([*texts, "ab"], order)
    automaton = model.for_charset(TABLE)
    assert_sound(automaton, 4)
    ids, _ = TABLE.encode(text)
    assert walk(automaton, ids) == pytest.approx(model.log_prob(text), rel=1e-5)


def test_what_was_never_seen():
    model = NGram.estimate(["ab", "ba"], 2)
    lm = model.for_charset(TABLE)  # the model has not seen "c"
    assert walk(lm, [2]) == pytest.approx(model.log_prob("c"), rel=1e-6)
    with pytest.raises(UserError, match="seen none of the model's characters"):
        model.for_charset(Charset.from_characters("xyz"))
    private = NGram.estimate(["a\ue002b", "\ue000"], 2)  # of a PDF, perhaps
    assert {"\ue000", "\ue002"} < private.entries.keys()
    with pytest.raises(UserError, match="without characters"):
        NGram.estimate(["", ""])


KENLM = """\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-1.0	<unk>	0
0	<s>	-0.30103
-0.7	</s>	0
-0.5	a	-0.2
-0.6	|	-0.1

\\2-grams:
-0.1	<s> a
-0.4	a </s>
-0.3	a a
-0.2	| a

\\end\\
""".splitlines()


def changed(old, new):
    return [line.replace(old, new) for line in KENLM]


def test_what_is_written_is_read():
    model = NGram.estimate(["a b", "no-break\u00a0space", "ab", "#x"], 4)
    read = read_arpa(arpa_lines(model), "lm")
    assert read.order == 4
    assert read.entries.keys() == model.entries.keys()
    for text in ("a b", "bab", "zz", "x#", "no"):
        assert read.log_prob(text) == pytest.approx(model.log_prob(text), rel=1e-5)


def test_a_file_of_kenlm():
    model = read_arpa(KENLM, "lm.arpa")
    ten = math.log(10)
    assert model.log_prob("aa") == pytest.approx((-0.1 - 0.3 - 0.4) * ten)
    # Neither "<s> |" nor "| </s>" is listed.
    assert model.log_prob("|") == pytest.approx((-0.30103 - 0.6 - 0.1 - 0.7) * ten)
    assert model.log_prob("x") == pytest.approx((-0.30103 - 1.0 - 0.7) * ten)
    lines = [line.replace("\t", "  ") + "\r\n" for line in KENLM]
    assert read_arpa(lines, "lm").entries == model.entries


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (KENLM[:-1], r"lm\.arpa: .*cut short"),
        (["hello"], r"lm\.arpa: no ARPA language model"),
        (changed("-0.3\t", "much\t"), r"lm\.arpa:15: want log10 p, 2 tokens"),
        (changed("a a", "a"), r"lm\.arpa:15: want log10 p, 2 tokens"),
        (changed("-0.3\t", "nan\t"), r"lm\.arpa:15: "),
        (
            [x.replace("a", "an").replace("|", "the") if x[:1] in "-0" else x for x in KENLM],
            "its tokens are words",
        ),
        # What follows is not read: there may be gigabytes of it.
        (
            itertools.chain(
                ["\\1-grams:", "-1 word", "\\2-grams:"], itertools.repeat("-1 word word")
            ),
            "its tokens are words",
        ),
    ],
)
def test_a_file_that_is_none_is_told(lines, told):
    with pytest.raises(UserError, match=told):
        read_arpa(lines, "lm.arpa")
