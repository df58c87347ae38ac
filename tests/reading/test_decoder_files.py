import contextlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.decoding.ngram import NGram
from crnn_jax.reading.decoder_files import (
    read_language_model,
    read_lexicon,
    read_lines,
    write_language_model,
)

TABLE = Charset.from_characters("abc", ignore_case=True)


def words_of(lexicon):
    cut = zip(lexicon.offsets, lexicon.offsets[1:], strict=False)
    return [TABLE.decode(lexicon.ids[a:b]) for a, b in cut]


def test_a_list_of_words(tmp_path):
    (path := tmp_path / "words.txt").write_bytes(b"\xef\xbb\xbfCab\r\nba\r\n\r\nxyz\r\nab")
    lexicon = read_lexicon(path, TABLE)
    assert sorted(words_of(lexicon)) == ["ab", "ba", "cab"]
    assert lexicon.left_out == 1
    assert lexicon.log_prior.tolist() == [0, 0, 0]


def test_counts_are_priors(tmp_path):
    (path := tmp_path / "words.txt").write_text("ab\t30\nba\t10\n")
    lexicon = read_lexicon(path, TABLE)
    priors = dict(zip(words_of(lexicon), lexicon.log_prior.tolist(), strict=True))
    assert priors == pytest.approx({"ab": math.log(0.75), "ba": math.log(0.25)})


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
        (b"a" + "\u0300".encode() * 2000, r"words\.txt: .*over 100 combining marks"),
    ],
)
def test_a_list_that_is_none_is_told(tmp_path, content, told):
    (path := tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_lexicon(path, TABLE)


@pytest.mark.parametrize(("limit", "value"), [("MAX_WORDS", 100), ("MAX_CHARACTERS", 200)])
def test_a_list_of_any_size_is_told(tmp_path, monkeypatch, limit, value):
    monkeypatch.setattr(f"crnn_jax.reading.decoder_files.{limit}", value)
    (path := tmp_path / "words.txt").write_text("ab\n" * 100)
    assert len(read_lines(path)) == 100
    path.write_text("ab\n" * 101)
    with pytest.raises(UserError, match=r"words\.txt: over .* words or .* characters; keep"):
        read_lines(path)


def test_counts_however_far_apart(tmp_path):
    (path := tmp_path / "words.txt").write_text("ab\t9e299\nba\t5e-324\n")
    assert np.isfinite(read_lexicon(path, TABLE).log_prior).all()


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
        assert (lexicon.log_prior <= 1e-6).all()


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="none: cannot be read: No such file"):
        read_lines(tmp_path / "none")
    with pytest.raises(UserError, match="cannot be written"):
        write_language_model(tmp_path / "no" / "lm", NGram.estimate(["a"]))


def test_a_language_model_is_read_as_written(tmp_path):
    model = NGram.estimate(["ab", "cab", "é a"], 3)
    write_language_model(tmp_path / "lm.arpa", model)
    read = read_language_model(tmp_path / "lm.arpa")
    assert read.log_prob("cé") == pytest.approx(model.log_prob("cé"), rel=1e-5)
