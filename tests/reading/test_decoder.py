import math

import jax.numpy as jnp
import numpy as np
import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.decoding.beam_search import beam_search
from crnn_jax.decoding.greedy import FORBIDDEN
from crnn_jax.decoding.language_model import NGram
from crnn_jax.reading.decoder import allowed_classes, open_decoder, read_lexicon
from crnn_jax.reading.recognizer import Recognizer
from tests.decoding.test_lexicon import words_of
from tests.testdata.brute_force import log_softmax
from tests.testdata.tiny_model import CHARSET, noise_pictures, tiny_metadata, tiny_variables

TABLE = Charset.from_characters("abc", ignore_case=True)


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer(tiny_variables()[0], tiny_metadata())


@pytest.fixture(scope="module")
def images():
    return [p[:, :90] for p in noise_pictures(6, seed=3)]


@pytest.fixture(scope="module")
def beam(recognizer, images):
    return recognizer.read(images, "beam", top_paths=3)


def texts_of(reading):
    return [reading.text, *(text for text, _ in reading.alternatives)]


def test_beam_search_of_the_networks_output(recognizer, images, beam):
    for reading, image in zip(beam, images, strict=True):
        resized = recognizer.preprocessing.resize(image[..., None])
        row = log_softmax(recognizer.logits(resized[None]))
        (want,) = beam_search(
            row, np.array([row.shape[1]]), width=10, blank_id=CHARSET.blank_id, top_paths=3
        )
        assert texts_of(reading) == [CHARSET.decode(h.ids) for h in want]
        assert (reading.decoder, reading.greedy) == ("beam", None)
        assert "".join(c.text for c in reading.characters) == reading.text
        # The search has missed some alignments; what is told is the whole sum.
        found = [math.log(reading.confidence), *(p for _, p in reading.alternatives)]
        assert all(p >= h.log_prob - 1e-3 for p, h in zip(found, want, strict=True))


def test_both_is_beam_search_with_the_greedy_text_beside_it(recognizer, images, beam):
    greedy = recognizer.read(images)
    for g, b, both in zip(greedy, beam, recognizer.read(images, "both"), strict=True):
        assert (both.text, both.decoder) == (b.text, "beam")
        assert both.greedy == both.to_json()["greedy"] == g.text
        assert "greedy" not in b.to_json()


def test_words_and_a_language_model_are_listened_to(recognizer, images, beam):
    texts = [reading.text for reading in beam]
    words = [text[:-1] + "q" for text in texts]
    decoder = open_decoder(CHARSET, "beam", lexicon=words, beam_width=200)
    readings = recognizer.read(images, decoder)
    assert {reading.text for reading in readings} <= set(words)
    narrow = open_decoder(CHARSET, "beam", lexicon=["qqq", "q" * 60], beam_width=1)
    for reading in recognizer.read(images, narrow):
        assert (reading.text, reading.confidence > 0) == ("qqq", True)
    too_long = open_decoder(CHARSET, "beam", lexicon=["q" * 60], top_paths=2)
    for reading in recognizer.read(images, too_long, views=True):
        assert (texts_of(reading), reading.confidence) == ([""], 0)
    lm = NGram.estimate(["aaa"] * 1000, 3)
    helped = recognizer.read(images, "beam", lm=lm, lm_weight=20, length_bonus=0)
    assert [r.text for r in helped] != texts
    unheard = recognizer.read(images, "beam", lm=lm, lm_weight=0, length_bonus=0)
    assert [r.text for r in unheard] == texts


def test_only_some_characters_are_read(recognizer, images, beam):
    characters = "0123456789ABC"  # the table ignores case
    free = [reading.text for reading in recognizer.read(images)]
    assert any(set(text) - set(characters.lower()) for text in free)
    classes = [i for i, c in enumerate(CHARSET.symbols) if c in characters.lower()]
    for name in ("greedy", "beam"):
        readings = recognizer.read(images, name, characters=characters)
        assert any(reading.text for reading in readings)
        for reading, image in zip(readings, images, strict=True):
            resized = recognizer.preprocessing.resize(image[..., None])
            logits = np.full_like(recognizer.logits(resized[None]), -1e9)
            some = [*classes, CHARSET.blank_id]
            logits[..., some] = recognizer.logits(resized[None])[..., some]
            decoded = open_decoder(CHARSET, name).decode(
                jnp.asarray(logits), np.array([logits.shape[1]]), 1.0, blank_id=CHARSET.blank_id
            )
            n = decoded.id_lengths[0, 0]
            assert reading.text == CHARSET.decode(decoded.ids[0, 0, :n])
            assert math.log(reading.confidence) == pytest.approx(decoded.log_prob[0, 0], abs=1e-3)
    words = {"lexicon": ["dog", "1" * 60], "characters": "12"}
    assert {reading.text for reading in recognizer.read(images, "beam", **words)} == {""}
    everything = recognizer.read(images, characters="".join(CHARSET.characters))
    assert [reading.text for reading in everything] == free


@pytest.mark.parametrize(
    ("name", "numbers", "flag"),
    [
        ("magic", {}, "--decoder magic: there is greedy, beam, both"),
        ("beam", {"beam_width": 0}, "--beam-width 0"),
        ("beam", {"top_paths": 11}, "--top-paths 11: .*10"),
        ("beam", {"lm_weight": -1}, "--lm-weight -1"),
        ("greedy", {"lm": NGram.estimate(["a"])}, "--lm: "),
        ("greedy", {"lexicon": ["a"]}, "--lexicon: "),
        ("greedy", {"top_paths": 2}, "--top-paths: greedy decoding takes none"),
        ("beam", {"lexicon": ["ab"], "characters": "a"}, "none of 1 words is of the characters to"),
        ("greedy", {"characters": "12€"}, "--characters: .*€"),
        ("greedy", {"characters": ""}, "--characters: "),
    ],
)
def test_what_makes_no_sense_is_told(name, numbers, flag):
    with pytest.raises(UserError, match=flag):
        open_decoder(CHARSET, name, **numbers)


def test_characters_as_decomposed_text():
    allowed = allowed_classes("e\u0301b", Charset.from_characters("abé"))
    assert allowed.tolist() == [False, True, True, True]  # the blank last


def test_a_lexicon_tells_letters_that_look_alike():
    table = Charset.from_characters("abcdeoабсдео")  # Latin, then Cyrillic
    reader = Recognizer(tiny_variables(table.num_classes)[0], tiny_metadata(table))
    noise = np.random.default_rng(0).integers(0, 256, (8, 32, 96, 1), np.uint8)
    batch = {"image": noise, "width": np.full(8, 96)}
    lexicon = open_decoder(table, "beam", lexicon=["abc", "абс"])
    least = [reader.emitted(batch, d)[0].min() for d in (open_decoder(table, "beam"), lexicon)]
    assert [score > FORBIDDEN for score in least] == [False, True]


def test_lists_of_words(tmp_path):
    (path := tmp_path / "words.txt").write_bytes(b"\xef\xbb\xbfCab \r\nba\r\n\r\nxyz\r\nab")
    lexicon = read_lexicon(path, TABLE)
    assert words_of(lexicon, TABLE) == {"ab": 0, "ba": 0, "cab": 0}
    assert (lexicon.left_out, lexicon.given) == (1, 4)
    path.write_text("ab \t30\nba\t10\n")  # counts are priors
    want = {"ab": math.log(0.75), "ba": math.log(0.25)}
    assert words_of(read_lexicon(path, TABLE), TABLE) == pytest.approx(want)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"ab\t3\nba\n", "words.txt:2: a count on some lines only"),
        (b"ab\t3\nba\tmany\n", "words.txt:2: 'many'"),
        (b"ab\nb\xff\n", "words.txt:2: not UTF-8"),
        (b"xyz\n", "words.txt: lexicon: none of 1 words"),
        (b"ab\n" + b"a" * 10**6, "words.txt:2: a line of over 4,096 bytes"),
    ],
)
def test_a_list_that_is_none_is_told(tmp_path, content, where):
    (path := tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(UserError, match=where):
        read_lexicon(path, TABLE)
