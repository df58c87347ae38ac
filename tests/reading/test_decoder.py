import contextlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.decoding.beam_search import beam_search
from crnn_jax.decoding.language_model import NGram
from crnn_jax.reading.decoder import Decoder, open_decoder, read_lexicon, read_lines
from crnn_jax.reading.recognizer import Recognizer
from tests.decoding.test_lexicon import words_of
from tests.testdata.brute_force import log_softmax
from tests.testdata.tiny_model import CHARSET, noise_pictures, tiny_metadata, tiny_variables

BLANK = CHARSET.blank_id
TABLE = Charset.from_characters("abc", ignore_case=True)


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer(tiny_variables()[0], tiny_metadata())


@pytest.fixture(scope="module")
def pictures():
    return noise_pictures(9, seed=3)


@pytest.fixture(scope="module")
def log_probs(recognizer, pictures):
    """One picture's own log-probabilities [1, t, k] each."""
    rows = []
    for picture in pictures:
        resized = recognizer.preprocessing.resize(picture[..., None])
        rows.append(log_softmax(recognizer.logits(resized[None])))
    return rows


def test_beam_search_of_the_networks_output(recognizer, pictures, log_probs):
    readings = recognizer.read(pictures, "beam", beam_width=12, top_paths=4)
    for reading, row in zip(readings, log_probs, strict=True):
        (want,) = beam_search(row, np.array([row.shape[1]]), width=12, blank_id=BLANK, top_paths=4)
        texts = [reading.text, *(text for text, _ in reading.alternatives)]
        assert texts == [CHARSET.decode(h.ids) for h in want]
        assert reading.decoder == "beam"
        assert reading.greedy is None
        assert "".join(c.text for c in reading.characters) == reading.text
        # The search has missed some alignments; what is told is the whole sum.
        assert math.log(reading.confidence) >= want[0].log_prob - 1e-3
        for (_, log_prob), h in zip(reading.alternatives, want[1:], strict=True):
            assert log_prob >= h.log_prob - 1e-3


def test_alone_as_in_a_batch(recognizer, pictures):
    together = recognizer.read(pictures, "beam", top_paths=3)
    order = np.random.default_rng(0).permutation(len(pictures))
    moved = recognizer.read([pictures[i] for i in order], "beam", top_paths=3)
    for i, reading in zip(order, moved, strict=True):
        assert reading.text == together[i].text
        assert [t for t, _ in reading.alternatives] == [t for t, _ in together[i].alternatives]
        assert reading.confidence == pytest.approx(together[i].confidence, rel=1e-3)
    (alone,) = recognizer.read(pictures[0], "beam", top_paths=3)
    assert alone.text == together[0].text


def test_both_is_beam_search_with_the_greedy_text_beside_it(recognizer, pictures):
    greedy, beam = recognizer.read(pictures), recognizer.read(pictures, "beam")
    for g, b, both in zip(greedy, beam, recognizer.read(pictures, "both"), strict=True):
        assert both.greedy == g.text
        assert (both.text, both.decoder) == (b.text, "beam")
        assert both.to_json()["greedy"] == g.text
        assert "greedy" not in b.to_json()


def test_temperature_changes_confidences_but_no_text(recognizer, pictures):
    cool = Recognizer(tiny_variables()[0], tiny_metadata(temperature=3.0))
    for a, b in zip(
        recognizer.read(pictures, "beam", top_paths=2),
        cool.read(pictures, "beam", top_paths=2),
        strict=True,
    ):
        assert (a.text, a.alternatives[0][0]) == (b.text, b.alternatives[0][0])
        assert b.confidence < a.confidence
        assert b.alternatives[0][1] != pytest.approx(a.alternatives[0][1], rel=0.01)


def test_only_words_of_the_lexicon(recognizer, pictures):
    greedy = [reading.text for reading in recognizer.read(pictures)]
    words = [text[:-1] + "q" for text in greedy if len(text) > 2]
    readings = recognizer.read(pictures, "beam", lexicon=words, beam_width=200)
    for text, reading in zip(greedy, readings, strict=True):
        assert reading.text in words or reading.text == text  # nothing found: greedy stands
        if len(text) > 2:
            assert reading.text in words


def test_a_language_model_is_listened_to(recognizer, pictures):
    lm = NGram.estimate(["aaa"] * 1000, 3)
    plain = recognizer.read(pictures, "beam")
    helped = recognizer.read(pictures, "beam", lm=lm, lm_weight=20, length_bonus=0)
    assert [r.text for r in helped] != [r.text for r in plain]
    unheard = recognizer.read(pictures, "beam", lm=lm, lm_weight=0, length_bonus=0)
    assert [r.text for r in unheard] == [r.text for r in plain]


def test_a_decoder_opened_once(recognizer, pictures):
    decoder = open_decoder(CHARSET, "beam", beam_width=3, lexicon=["a", "b"])
    readings = recognizer.read(pictures, decoder)
    assert [r.text for r in readings] == [
        r.text for r in recognizer.read(pictures, "beam", beam_width=3, lexicon=["a", "b"])
    ]


def test_without_numba(recognizer, pictures, monkeypatch):
    want = recognizer.read(pictures[:3], "both", top_paths=2)
    monkeypatch.setattr("crnn_jax.decoding.beam_search.has_numba", lambda: False)
    for a, b in zip(recognizer.read(pictures[:3], "both", top_paths=2), want, strict=True):
        assert (a.text, a.greedy) == (b.text, b.greedy)
        assert a.alternatives[0][0] == b.alternatives[0][0]
    with pytest.raises(UserError, match="needs numba"):
        recognizer.read(pictures[:3], "beam", lexicon=["a"])


@pytest.mark.parametrize(
    ("name", "numbers", "told"),
    [
        ("magic", {}, "--decoder magic: there is greedy, beam, both"),
        ("beam", {"beam_width": 0}, "--beam_width 0: a whole number, at least 1"),
        ("beam", {"beam_width": 2.5}, r"--beam_width 2\.5: a whole number"),
        ("beam", {"top_paths": 0}, "--top_paths 0"),
        ("beam", {"top_paths": 1.5}, r"--top_paths 1\.5"),
        ("beam", {"top_paths": 11}, "--top_paths 11: 1 to the width of the beam, 10"),
        ("beam", {"lm_weight": -1}, "--lm_weight -1"),
        ("beam", {"lm_weight": float("nan")}, "--lm_weight nan"),
        ("beam", {"length_bonus": float("nan")}, "--length_bonus nan: a finite number"),
        ("greedy", {"lm": NGram.estimate(["a"])}, "--lm: greedy decoding takes no"),
        ("greedy", {"lexicon": ["a"]}, "--lexicon: greedy decoding takes no words"),
    ],
)
def test_what_makes_no_sense_is_told(name, numbers, told):
    with pytest.raises(UserError, match=told):
        open_decoder(CHARSET, name, **numbers)


def test_nothing_to_read(recognizer):
    assert recognizer.read([], "both") == []
    logits, lengths = np.zeros((2, 3, 37), np.float32), np.zeros(2, np.int32)
    decoded = Decoder("both").decode(logits, lengths, 1.0, blank_id=BLANK)
    assert decoded.id_lengths.tolist() == [[0], [0]]
    assert decoded.log_prob.tolist() == [[0.0], [0.0]]


def test_a_list_of_words(tmp_path):
    (path := tmp_path / "words.txt").write_bytes(b"\xef\xbb\xbfCab\r\nba\r\n\r\nxyz\r\nab")
    lexicon = read_lexicon(path, TABLE)
    assert words_of(lexicon, TABLE) == {"ab": 0, "ba": 0, "cab": 0}
    assert lexicon.left_out == 1


def test_counts_are_priors(tmp_path):
    (path := tmp_path / "words.txt").write_text("ab\t30\nba\t10\n")
    lexicon = read_lexicon(path, TABLE)
    want = {"ab": math.log(0.75), "ba": math.log(0.25)}
    assert words_of(lexicon, TABLE) == pytest.approx(want)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"ab\t3\nba\n", r"words\.txt:2: a count on some lines only"),
        (b"ab\nba\t3\n", r"words\.txt:2: a count on some lines only"),
        (b"ab\t3\nba\tmany\n", r"words\.txt:2: 'many' is no count"),
        (b"ab\t3\nba\t0\n", r"words\.txt:2: '0' is no count"),
        (b"ab\t3\nba\tnan\n", r"words\.txt:2: 'nan' is no count"),
        (b"ab\nb\xff\n", r"words\.txt:2: not UTF-8"),
        (b"xyz\n", r"words\.txt: lexicon: none of 1 words"),
        (b"", r"words\.txt: lexicon: none of 0 words"),
        (b"ab\t1e300\n", r"words\.txt:1: '1e300' is no count"),
        (b"ab\t" + b"9" * 4000, r"words\.txt:1: '9+' is no count"),
        (b"ab\n" + b"a" * 10**6, r"words\.txt:2: a line of over 4,096 bytes"),
        (b"\0" * 10**6, r"words\.txt:1: a line of over 4,096 bytes"),
    ],
)
def test_a_list_that_is_none_is_told(tmp_path, content, told):
    (path := tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_lexicon(path, TABLE)


@pytest.mark.parametrize(("limit", "value"), [("MAX_WORDS", 100), ("MAX_CHARACTERS", 200)])
def test_a_list_of_any_size_is_told(tmp_path, monkeypatch, limit, value):
    monkeypatch.setattr(f"crnn_jax.reading.decoder.{limit}", value)
    (path := tmp_path / "words.txt").write_text("ab\n" * 100)
    assert len(read_lines(path)) == 100
    path.write_text("ab\n" * 101)
    with pytest.raises(UserError, match=r"words\.txt: over .* words or .* characters; keep"):
        read_lines(path)


def test_counts_however_far_apart(tmp_path):
    (path := tmp_path / "words.txt").write_text("ab\t9e299\nba\t5e-324\n")
    assert np.isfinite(list(words_of(read_lexicon(path, TABLE), TABLE).values())).all()


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.text("abcé\0 \r"), st.sampled_from(["", "\t", "\t3", "\tnan", "\t1e-320"])),
        max_size=4,
    ),
    st.binary(max_size=3),
)
def test_any_list_is_taken_or_told(tmp_path_factory, lines, behind):
    path = tmp_path_factory.mktemp("any") / "words.txt"
    path.write_bytes("\n".join(map("".join, lines)).encode() + behind)
    with contextlib.suppress(UserError):
        lexicon = read_lexicon(path, TABLE)
        assert len(lexicon) > 0
        assert lexicon.trie.best[0] <= 1e-6
