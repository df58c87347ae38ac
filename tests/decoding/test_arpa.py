import math

import pytest

from crnn_jax.decoding.arpa import arpa_lines, read_arpa
from crnn_jax.decoding.ngram import BEGIN, NGram
from crnn_jax.spec.charset import Charset
from crnn_jax.spec.errors import UserError

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
    ],
)
def test_a_file_that_is_none_is_told(lines, told):
    with pytest.raises(UserError, match=told):
        read_arpa(lines, "lm.arpa")


def test_a_model_of_words_is_told():
    lines = [x.replace("a", "an") if x[:1] == "-" else x for x in KENLM]
    lines = [x.replace("|", "the") for x in lines]
    with pytest.raises(UserError, match="its tokens are words"):
        read_arpa(lines, "lm.arpa")
