"""Labels in class ids, sizes of images, and the files that keep both."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.charset import BLANK, UNKNOWN, Charset
from crnn_jax.data import index
from crnn_jax.data.files import FileSource
from crnn_jax.data.source import (
    MISSING_LABEL,
    NO_LABEL,
    STATUS,
    UNKNOWN_CHARACTER,
    USABLE,
    Block,
)
from tests.data.conftest import write_picture

LOWER = Charset.from_characters("abc", ignore_case=True)

texts = st.lists(
    st.text(st.sampled_from("abcABCéÉe\u0301ΣσςİßﬀΩ1 ?"), max_size=8), min_size=1, max_size=20
)


@given(texts, st.booleans(), st.sampled_from(["unusable", "strip", "map"]))
def test_an_index_of_many_labels(labels, ignore_case, rule):
    table = Charset((UNKNOWN, *"abcEé1σς", BLANK), 9, 0, ignore_case)
    faults = [STATUS.index(MISSING_LABEL) * (label == "?") for label in labels]
    places = [7 * i for i in range(len(labels))]
    blocks = [Block(places, labels, faults, 9)] * 2
    built = index.build_index(SimpleNamespace(total=9, blocks=lambda: blocks), table, rule, "")
    assert built.places.tolist() == 2 * places
    met, others = [], 0
    for i, label in enumerate(2 * labels):
        ids, unknown = table.encode(label, rule)
        met.append(unknown)
        others += bool(unknown) and set(unknown) <= set("ABCeÉΣ")
        at = slice(*built.label_offsets[i : i + 2])
        assert built.flat[at].tolist() == ids.tolist()
        usable = USABLE if ids.size else NO_LABEL
        expected = UNKNOWN_CHARACTER if unknown and rule == "unusable" else usable
        assert STATUS[built.status[i]] == (MISSING_LABEL if label == "?" else expected)
    assert "".join(sorted(built.unknown.elements())) == "".join(sorted("".join(met)))
    assert (built.counts["unknown"], built.counts["case"]) == (sum(map(bool, met)), others)


@pytest.fixture
def keep(monkeypatch, tmp_path):
    """Everything is worth keeping, and the user's cache lies in a temporary folder."""
    monkeypatch.setattr(index, "WORTH_SECONDS", -1.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    folder = tmp_path / "data"
    for i in range(5):
        write_picture(folder / f"{i}.png", 20 + i, 30 + i)
    path = folder / "labels.tsv"
    path.write_text("".join(f"{i}.png\ta{'b' * i}\n" for i in range(4)) + "4.png\t?é\n")
    return path


@pytest.fixture
def built(monkeypatch):
    """How often an index was built."""
    times = []
    build = index.build_index
    monkeypatch.setattr("crnn_jax.data.files.build_index", lambda *a: times.append(1) or build(*a))
    return times


def opened(path, charset=LOWER, **options):
    return FileSource(path, charset, cache=True, **options)


def caches(folder):
    return sorted(p for p in folder.iterdir() if p.name.startswith("."))


def assert_same(left, right):
    for (name, one), other in zip(
        vars(left.index).items(), vars(right.index).values(), strict=True
    ):
        np.testing.assert_array_equal(one, other, name)
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)
    assert left.reasons.counts == right.reasons.counts


def test_the_second_start_reads_neither_labels_nor_headers(keep, built, monkeypatch):
    first = opened(keep)
    sizes = first.sizes(np.arange(5))
    assert len(caches(keep.parent)) == 2
    monkeypatch.setattr(index, "image_size", lambda _: pytest.fail("read again"))
    second = opened(keep)
    assert len(built) == 1
    assert_same(first, second)
    np.testing.assert_array_equal(second.sizes(np.arange(5)), sizes)
    assert second.read(np.array([2]))[0].shape == (22, 32, 1)


def test_what_changes_the_index_makes_a_new_one(keep, built):
    opened(keep)
    opened(keep, Charset.from_characters("ab", ignore_case=True))
    opened(keep, Charset.from_characters("abc"))
    opened(keep, unknown="strip")
    assert len(built) == 4
    keep.write_text(keep.read_text() + "0.png\tc\n")
    assert len(opened(keep)) == 6
    stat = os.stat(keep)
    os.utime(keep, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    opened(keep)
    assert len(built) == 6
    for folder_times in (7, 7, 8):  # a folder is known by its listing
        if folder_times == 8:
            write_picture(keep.parent / "new.png", 9, 9)
        opened(keep.parent, format="name")
        assert len(built) == folder_times


def test_an_image_mended_between_two_starts_is_looked_at_again(keep):
    (keep.parent / "2.png").write_text("no image")
    assert opened(keep).sizes(np.array([2]))[0, 0] == 0
    write_picture(keep.parent / "2.png", 22, 32)
    assert opened(keep).sizes(np.array([2])).tolist() == [[22, 32]]


@pytest.mark.parametrize("harm", ["cut", "bit", "text", "empty", "version"])
def test_a_damaged_cache_is_made_anew(keep, built, harm, monkeypatch):
    first = opened(keep)
    (path,) = caches(keep.parent)
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[data.index(first.index.flat.tobytes())] ^= 1
    damaged = {"cut": data[:-1], "bit": flipped, "text": b"text", "empty": b"", "version": data}
    path.write_bytes(damaged[harm])
    if harm == "version":
        monkeypatch.setattr(index, "VERSION", 99)
    assert_same(first, opened(keep))
    opened(keep)  # and it was mended
    assert len(built) == 2


def test_an_interrupted_scan_goes_on(keep, monkeypatch):
    monkeypatch.setattr(index, "TOGETHER", 1)
    monkeypatch.setattr(index, "THREADS", 1)
    asked = []
    size_of = index.image_size

    def interrupted(path):
        asked.append(path)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return size_of(path)

    monkeypatch.setattr(index, "image_size", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(keep).sizes(np.arange(5))
    first = set(asked[:3])
    asked[:] = ["", "", "", ""]  # no further interruption
    assert opened(keep).sizes(np.arange(5)).tolist() == [[20 + i, 30 + i] for i in range(5)]
    assert not first & set(asked)
