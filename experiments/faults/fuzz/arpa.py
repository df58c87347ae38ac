"""Fuzzes the reader of ARPA files, and the automaton that a search walks; see target.py."""

from target import fuzz, scratch_file


def one_input(data):
    from crnn_jax.core.charset import Charset
    from crnn_jax.reading.decoder import read_language_model

    with scratch_file(data, ".arpa") as path:
        model = read_language_model(path)
    charset = Charset.from_characters("ab é")
    automaton = model.for_charset(charset)
    assert (automaton.log_prob <= 1000 * 2.31).all()
    for states in (automaton.next_state, automaton.shorter):
        assert ((states >= 0) & (states < len(automaton.end))).all()


def seeds():
    from crnn_jax.decoding.language_model import NGram, arpa_lines

    for order in (1, 2, 4):
        yield "\n".join(arpa_lines(NGram.estimate(["ab", "a b", "bé"], order))).encode()


if __name__ == "__main__":
    fuzz("arpa", one_input, seeds)
