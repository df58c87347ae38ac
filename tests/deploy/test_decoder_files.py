import math

import pytest

from crnn_jax.decoding.ngram import NGram
from crnn_jax.deploy.decoder_files import (
    read_language_model,
    read_lexicon,
    read_lines,
    write_language_model,
)
from crnn_jax.spec.charset import Charset
from crnn_jax.spec.errors import UserError

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
    ],
)
def test_a_list_that_is_none_is_told(tmp_path, content, told):
    (path := tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_lexicon(path, TABLE)


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
