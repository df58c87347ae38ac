import functools

import pytest

from crnn_jax import language_model
from crnn_jax.decoding.language_model import NGram
from crnn_jax.reading.decoder import read_language_model


@pytest.fixture
def call(run):
    return functools.partial(run, language_model)


@pytest.fixture
def text(tmp_path):
    (path := tmp_path / "text.txt").write_text("The cat\n\nthe DOG sat\n")
    return path


def test_the_words_of_a_text(call, text, tmp_path):
    code, out, err = call(text, text, "-o", tmp_path / "lm.arpa", "--order", 3)
    assert (code, out) == (0, [])
    want = NGram.estimate(["The", "cat", "the", "DOG", "sat"] * 2, 3)
    got = read_language_model(tmp_path / "lm.arpa")
    assert got.entries.keys() == want.entries.keys()
    assert got.log_prob("The") == pytest.approx(want.log_prob("The"), rel=1e-5)
    assert err == [f"{tmp_path / 'lm.arpa'}: {len(want.entries)} n-grams"]


def test_an_accent_is_part_of_its_letter(call, tmp_path):
    (tmp_path / "nfd.txt").write_text("cafe\u0301\n")
    call(tmp_path / "nfd.txt", "-o", tmp_path / "lm.arpa")
    assert "é" in read_language_model(tmp_path / "lm.arpa").entries


def test_lines_and_the_models_case(call, model, text, tmp_path):
    call(text, "-o", tmp_path / "lm.arpa", "-m", model, "--unit", "line")
    want = NGram.estimate(["the cat", "", "the dog sat"], 6)
    assert read_language_model(tmp_path / "lm.arpa").entries.keys() == want.entries.keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["text.txt"], "--output"),
        (["none.txt", "-o", "no/lm"], "cannot be written"),  # before anything is read
        (["none.txt", "-o", "lm"], "none.txt: cannot be read"),
        (["text.txt", "-o", "lm", "--order", "0"], "--order: 0: must be"),
        (["empty.txt", "-o", "lm"], "texts without characters"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(call, text, monkeypatch, words, message):
    monkeypatch.chdir(text.parent)
    (text.parent / "empty.txt").write_text("\n")
    code, out, (line,) = call(*words)
    assert (code, out) == (2, [])
    assert message in line
