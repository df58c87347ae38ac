import dataclasses
from collections import Counter
from types import SimpleNamespace

import pytest

from crnn_jax.core.charset import Charset, nfc
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data import sources
from crnn_jax.data.files import CHANGED_LABEL, FileSource
from crnn_jax.data.sources import charset_from, charset_of, mixed, open_sources, parse_names
from crnn_jax.training.experiment import fit_widths
from tests.data.conftest import EndlessSource, write_picture

RULE = Preprocessing(width=100)


def config_of(train, charset=None, **data):
    keys = {
        'train': str(train), 'validation': '', 'images': '', 'format': 'auto', 'split': '',
        'unknown': 'unusable', 'synthetic_ratio': 0.0, 'bucket_boundaries': (),
        'max_label_length': 0, 'cache': False,
    }  # fmt: skip
    return SimpleNamespace(
        seed=0, synthetic=None, charset=charset, data=SimpleNamespace(**(keys | data))
    )


def opened(words, train, **data):
    config = config_of(train, **data)
    sources, weights, validation = open_sources(config, words.charset, 1)
    return mixed(config, sources, weights, RULE, "keras"), validation


def names_of(source):
    return [source.identity(i).rsplit("/")[-1] for i in range(len(source))]


def test_one_file(words):
    train, validation = opened(words, words.path)
    assert isinstance(train, FileSource)
    assert validation == []
    train, validation = opened(words, words.path, validation=f"{words.path},{words.path}")
    assert [len(source) for source in validation] == [100, 100]
    train, validation = opened(words, words.path, split="0/5", validation=str(words.path))
    assert (len(train), len(validation[0])) == (100, 100)  # a file comes before a split


@pytest.mark.parametrize("boundaries", [(), (80, 96)])
@pytest.mark.parametrize("max_width", [0, 96])
def test_widths_left_open_follow_from_the_images(words, boundaries, max_width):
    config = config_of(words.path, bucket_boundaries=boundaries)
    config.preprocessing = SimpleNamespace(max_width=max_width)
    rule = Preprocessing(min_width=64, max_width=max_width or 100)
    train, *_ = open_sources(config, words.charset, 1)
    widest = max((2 * w * 32 + h) // (2 * h) for h, w in words.sizes)
    assert widest > 100
    fitted, found = fit_widths(config, train, rule)
    if max_width:
        assert fitted == rule
    else:
        assert widest <= fitted.max_width < widest + 16
    if boundaries:
        assert found == boundaries
    else:
        assert min(found) >= 64
        assert max(found) < fitted.max_width
        assert len(found) <= 12
    roomy = dataclasses.replace(rule, max_width=1000)
    rendered = EndlessSource(["abc"] * 9, [(32, 600)] * 9)
    fitted, found = fit_widths(config, [*train, rendered], roomy)
    assert fitted == roomy
    if not (boundaries or max_width):  # rendered words, which are wider here, get a bucket
        assert max(found) == 600
    fixed = dataclasses.replace(rule, width=100)
    assert fit_widths(config, train, fixed) == (fixed, boundaries)


@pytest.mark.parametrize("fold", [0, 3])
def test_folds_by_sorted_file_name(words, fold):
    train, (held_out,) = opened(words, words.path, split=f"{fold}/5")
    everything = sorted(f"{i}.png" for i in range(100))
    assert sorted(names_of(held_out)) == sorted(everything[fold::5])
    assert sorted(names_of(train) + names_of(held_out)) == everything
    assert [train.text(i) for i in range(3)] == [
        words.labels[int(name[:-4])] for name in names_of(train)[:3]
    ]


def test_a_split_by_hash_is_stable(words, tmp_path):
    train, (held_out,) = opened(words, words.path, split="10%")
    assert 2 <= len(held_out) <= 20
    assert len(train) + len(held_out) == 100
    # Another order, other lines, another place, paths with ./: each picture stays on its side.
    lines = words.path.read_text().splitlines()[50:][::-1]
    moved = tmp_path / "other.tsv"
    moved.write_text("".join(f"./{line}\n" for line in lines))
    source = FileSource(moved, words.charset, images=str(words.path.parent))
    assert set(names_of(source.split("hash")[1])) <= set(names_of(held_out))
    _, half = FileSource(words.path, words.charset).split("50%")
    assert set(names_of(held_out)) < set(names_of(half))


def test_a_split_keeps_groups_together(tmp_path):
    lines = [f"p{k % 10}_{k}.png\t{'aA'[k % 2]}{k % 7}\n" for k in range(140)]
    (path := tmp_path / "lines.tsv").write_text("".join(lines))
    charset = Charset.from_characters("aA0123456789")
    source = FileSource(path, charset, cache=False)

    def parts(how):
        found = [[part.line(i) for i in range(len(part))] for part in source.split(how)]
        assert sorted(found[0] + found[1]) == sorted(tuple(x.strip().split("\t")) for x in lines)
        return found

    for how in ("50% by ^(p[0-9]+)_", "50% by ^p[0-9]+"):
        pages = [{name.split("_")[0] for name, _ in part} for part in parts(how)]
        assert not pages[0] & pages[1]
    assert parts("50% by ^(p[0-9]+)_") == parts("50% by ^p[0-9]+")
    accented = "é", "e\u0301"
    lines += [f"{k}.png\t{accented[k // 20]}{k % 20}\n" for k in range(40)]
    path.write_text("".join(lines))
    source = FileSource(path, charset, unknown="strip", cache=False)
    labels = [{nfc(label).lower() for _, label in part} for part in parts("50% by label")]
    assert not labels[0] & labels[1]
    assert parts("30% by nothing") == parts("30%")


def test_a_mixture_repeats_only_what_can_be_trained_on(words, tmp_path):
    write_picture(tmp_path / "a.png", 20, 30)
    path = tmp_path / "other.tsv"
    path.write_text("a.png\tab\na.png\tA?\na.png\t\na.png\t" + "abc" * 9 + "\n")
    train, _ = opened(words, f"{words.path},{path}*3")
    assert len(train) == 103
    assert {train.identity(i) for i in range(100, 103)} == {str(tmp_path / "a.png")}
    assert {train.text(i) for i in range(100, 103)} == {"ab"}
    assert train.reasons.counts == {
        'no label': 1, 'unknown character': 1, 'too long for its width': 1
    }  # fmt: skip
    train, _ = opened(words, f"{words.path},{path}*3", unknown="strip")
    assert train.notes.counts == {CHANGED_LABEL["strip"]: 1}


def test_greek_and_turkish_capitals_have_their_small_letters(words):
    table = charset_from(Counter("ΟΔΟΣİI"), ignore_case=True)
    for label, lowered in (("ΟΔΟΣ", "οδος"), ("ΣΟ", "σο"), ("İI", "ii")):
        ids, unknown = table.encode(label)
        assert (table.decode(ids), unknown) == (lowered, "")


def test_parts_of_several_files(words):
    train, validation = opened(words, f"{words.path}*2,{words.path}", split="1/4")
    assert len(train) == 3 * 75
    assert [len(source) for source in validation] == [25, 25]


def test_names_with_weights(tmp_path):
    assert parse_names("a.txt", "k") == [("a.txt", 1.0)]
    assert parse_names('a.txt, b.txt*2,synthetic*0.5', 'k') == [
        ('a.txt', 1.0), ('b.txt', 2.0), ('synthetic', 0.5)
    ]  # fmt: skip
    assert parse_names("", "k") == []
    odd = tmp_path / "a,b*2"
    odd.touch()
    assert parse_names(str(odd), "k") == [(str(odd), 1.0)]
    for wrong in ("a.txt*0", "a.txt*-1", "a.txt*1e999", "a.txt*1.1.1"):
        with pytest.raises(UserError, match=r"k: 'a\.txt\*"):
            parse_names(wrong, "k")


@pytest.mark.parametrize(
    ("train", "options", "what"),
    [
        ("", {}, "data.train=''"),
        ("nowhere.txt*2,x", {}, "nowhere.txt: no annotation file"),
        ("WORDS", {"validation": "WORDS*2"}, "every sample counts once"),
        ("WORDS*0.001,WORDS", {}, r"WORDS\*0.001 gives no sample"),
        ("WORDS", {"unknown": "guess"}, r"data\.unknown='guess'"),
        ("ONE", {}, "ignore_case=True"),
        ("FOLDER", {"split": "0/5"}, "too few"),
        ("WORDS", {"split": "5/5"}, r"data\.split='5/5': must be"),
        ("WORDS", {"split": "0%"}, r"data\.split='0%': must be"),
        ("WORDS", {"split": "10% by ("}, "not a regular expression"),
        ("MISSING", {}, r"missing\.tsv:1: no image .*nowhere\.png"),
        ("WORDS", {"validation": "MISSING"}, r"missing\.tsv:1: no image"),
    ],
)
def test_mistakes(words, tmp_path, train, options, what):
    write_picture(tmp_path / "folder/a.png", 20, 30)
    (tmp_path / "one.tsv").write_text("a.png\tABC\n")
    (tmp_path / "missing.tsv").write_text("nowhere.png\tab\n")
    known = {"WORDS": words.path, "ONE": tmp_path / "one.tsv", "FOLDER": tmp_path / "folder"}
    known["MISSING"] = tmp_path / "missing.tsv"

    def named(text):
        for name, path in known.items():
            text = text.replace(name, str(path))
        return text

    changes = {k: named(v) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(UserError, match=named(what)):
        opened(words, named(train), **changes)


class Rendered(EndlessSource):
    def __init__(self, config, charset, seed):
        super().__init__([[0]] * 10, [(32, 40)] * 10, name=f"rendered:{seed}")


def test_rendered_words_by_name(words, monkeypatch):
    monkeypatch.setattr(sources, "RENDERED", f"{__name__}:Rendered")
    train, (held_out,) = opened(words, "synthetic", validation="synthetic*0.5")
    assert (train.name, len(train)) == ("rendered:0", 10)
    assert held_out.name == "rendered:1000003*0.5"
    assert (len(held_out), held_out.windowed) == (5, True)
    mixed, _ = opened(words, f"synthetic*2,{words.path}")
    assert len(mixed) == 120
    with pytest.raises(UserError, match="no file to split"):
        opened(words, "synthetic", split="10%")


def test_without_a_table_the_characters_are_those_of_the_labels(tmp_path):
    one, two = tmp_path / "one.tsv", tmp_path / "two.tsv"
    one.write_text("a.png\tBad\nb.png\tcab\n")
    two.write_text("c.png\t\u00e9\n")
    wanted = SimpleNamespace(table="", characters="", ignore_case=False, keep=False)
    config = config_of(f"{one},{two}*3,synthetic", wanted)
    assert charset_of(config).characters == tuple("Babcd\u00e9")
    assert charset_of(config, "xyza").characters == tuple("Babcd\u00e9")
    wanted.keep = True
    assert charset_of(config, "xyza").characters == tuple("Babcdxyz\u00e9")
    wanted.keep, wanted.ignore_case = False, True
    assert charset_of(config).characters == tuple("abcd\u00e9")
    wanted.characters = "xyz"
    assert charset_of(config).characters == tuple("xyz")
    wanted.table = "table.txt"
    with pytest.raises(UserError, match="set one of the two"):
        charset_of(config)
    with pytest.raises(UserError, match="no labels to take the characters from"):
        charset_of(config_of("synthetic", SimpleNamespace(table="", characters="")))
