import contextlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.decoding.arpa import arpa_lines, read_arpa
from crnn_jax.decoding.language_model import NEVER, checked
from crnn_jax.decoding.ngram import BEGIN, NGram
from crnn_jax.reading.decoder_files import read_language_model

# As KenLM's `lmplz -o 2` writes it.
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


def test_what_is_written_is_read():
    model = NGram.estimate(["a b", "no-break\u00a0space", "ab", "#x"], 4)
    read = read_arpa(arpa_lines(model), "lm")
    assert read.order == 4
    assert read.entries.keys() == model.entries.keys()
    for text in ("a b", "bab", "zz", "x#", "no"):
        assert read.log_prob(text) == pytest.approx(model.log_prob(text), rel=1e-5)


def test_the_head_counts_the_lines():
    lines = list(arpa_lines(NGram.estimate(["ab", "b"], 2)))
    counts = dict(line.removeprefix("ngram ").split("=") for line in lines if line[:6] == "ngram ")
    for n in ("1", "2"):
        start = lines.index(f"\\{n}-grams:") + 1
        assert lines[start : start + int(counts[n]) + 1].index("") == int(counts[n])


def test_a_file_of_kenlm():
    model = read_arpa(KENLM, "lm.arpa")
    ten = math.log(10)
    assert model.log_prob("aa") == pytest.approx((-0.1 - 0.3 - 0.4) * ten)
    # Neither "<s> |" nor "| </s>" is listed.
    assert model.log_prob("|") == pytest.approx((-0.30103 - 0.6 - 0.1 - 0.7) * ten)
    assert model.log_prob("x") == pytest.approx((-0.30103 - 1.0 - 0.7) * ten)


@pytest.mark.parametrize("token", ["<SPACE>", "<space>", "\u2581"])
def test_a_space_by_its_names(token):
    lines = [line.replace("|", token) for line in KENLM]
    model = read_arpa(lines, "lm.arpa")
    assert " " in model.entries
    lm = model.for_charset(Charset.from_characters("a "))
    assert len(lm.end) == 4  # nothing, begin, "a", " "


def test_spaces_for_tabs_and_other_line_ends():
    lines = [line.replace("\t", "  ") + "\r\n" for line in KENLM]
    assert read_arpa(lines, "lm").entries == read_arpa(KENLM, "lm").entries


def test_words_among_the_characters_are_left_out():
    lines = [line.replace("|", "word") for line in KENLM]
    model = read_arpa(lines, "lm")
    assert sorted(model.entries) == sorted(
        g for g in read_arpa(KENLM, "lm").entries if "|" not in g
    )
    assert BEGIN + "a" in model.entries


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (KENLM[:-1], r"lm\.arpa: .*cut short"),
        (["hello"], r"lm\.arpa: no ARPA language model"),
        ([x.replace("-0.3\t", "much\t") for x in KENLM], r"lm\.arpa:15: want log10 p, 2 tokens"),
        ([x.replace("a a", "a") for x in KENLM], r"lm\.arpa:15: want log10 p, 2 tokens"),
        ([x.replace("-0.3\t", "nan\t") for x in KENLM], r"lm\.arpa:15: "),
        ([x.replace("-0.3\t", "inf\t") for x in KENLM], r"lm\.arpa:15: "),
        ([x.replace("-0.3\t", "1e6\t") for x in KENLM], r"lm\.arpa:15: "),
        ([x.replace("\t-0.2", "\tinf") for x in KENLM], r"lm\.arpa:9: "),
        (
            [x.replace("1=5", "1=1000000000000") for x in KENLM],
            "5 1-grams where its head says 10000",
        ),
        ([x.replace("2=4", "2=3") for x in KENLM], "4 2-grams where its head says 3"),
        ([x.replace("\\2-", "\\1000000-") for x in KENLM], r"lm\.arpa:12: .*1 to 100 tokens"),
        ([x.replace("\\2-", "\\" + "9" * 5000 + "-") for x in KENLM], r"lm\.arpa:12: .*1 to 100"),
        ([x.replace("\\2-", "\\0-") for x in KENLM], r"lm\.arpa:12: .*1 to 100 tokens"),
        (["\\" * 100_000, "\\end\\"], "its tokens are words"),
        (["\0" * 100_000], "no ARPA language model"),
    ],
)
def test_a_file_that_is_none_is_told(lines, told):
    with pytest.raises(UserError, match=told):
        read_arpa(lines, "lm.arpa")


def test_minus_infinity_is_impossible_and_no_mistake():
    lines = [x.replace("-0.3\t", "-inf\t") for x in KENLM]
    lm = read_arpa(lines, "lm").for_charset(Charset.from_characters("a|"))
    assert checked(lm, 3).log_prob.min() == np.float32(NEVER)


def test_a_file_without_end_is_left_where_it_is_too_much(monkeypatch):
    monkeypatch.setattr("crnn_jax.decoding.arpa.MAX_NGRAMS", 100)
    endless = (f"-1 {chr(0x4E00 + i)}" for i in itertools.count())
    with pytest.raises(UserError, match=r"lm\.arpa: over 100 n-grams; prune the model"):
        read_arpa(itertools.chain(["\\1-grams:"], endless), "lm.arpa")


def test_words_are_told_before_the_rest_is_read():
    endless = (f"-1 word{i} word" for i in itertools.count())
    lines = itertools.chain(["\\1-grams:", "-1 word", "\\2-grams:"], endless)
    with pytest.raises(UserError, match="its tokens are words"):
        read_arpa(lines, "lm.arpa")


@pytest.mark.parametrize(
    "content", [b"\\1-grams:\n" + b"-1 a " * 10**6, b"\0" * 10**6, b"\\data\\\n\xff\n"]
)
def test_lines_of_any_length_in_a_file(tmp_path, content):
    (path := tmp_path / "lm.arpa").write_bytes(content)
    with pytest.raises(UserError, match=r"lm\.arpa:[12]: (a line of over 65,536 bytes|not UTF-8)"):
        read_language_model(path)


cells = st.sampled_from(
    ["-1", "0", "nan", "-inf", "1e400", "a", "b", "ab", "<s>", "</s>", "<unk>", "\u2581", "\t", ""]
)
odd_lines = st.sampled_from(
    ["\\data\\", "ngram 1=2", "\\1-grams:", "\\2-grams:", "\\3-grams:", "\\end\\", "\\", ""]
) | st.lists(cells, max_size=5).map(" ".join)


@settings(max_examples=100)
@given(st.data())
def test_any_lines_are_a_model_or_told(data):
    lines = list(KENLM)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(lines)))
        lines[place : place + data.draw(st.integers(0, 2))] = [data.draw(odd_lines)]
    with contextlib.suppress(UserError):
        lm = read_arpa(lines, "lm").for_charset(Charset.from_characters("ab "))
        checked(lm, 4)


def test_a_model_of_words_is_told():
    lines = [x.replace("a", "an") if x[:1] == "-" else x for x in KENLM]
    lines = [x.replace("|", "the") for x in lines]
    with pytest.raises(UserError, match="its tokens are words"):
        read_arpa(lines, "lm.arpa")
