from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.data.mixture import MixedSource
from crnn_jax.data.source import is_rendered, seen_labels
from tests.data.conftest import EndlessSource, FakeSource


def simple(count, name, source=FakeSource, label=0):
    labels = [[label] * (1 + i % 3) for i in range(count)]
    return source(labels, [(32, 40 + i) for i in range(count)], None, name)


def located(mixed, ids):
    """(name of the source, id there) of each."""
    names = [mixed.identity(i).rpartition("/") for i in np.asarray(ids).tolist()]
    return [(name, int(index)) for name, _, index in names]


counts = st.tuples(st.integers(1, 30), st.sampled_from([0.1, 0.5, 1, 1.7, 2, 3.3]))


@settings(max_examples=40, deadline=None)
@given(st.lists(counts, min_size=1, max_size=4))
def test_a_source_gives_its_share(parts):
    shares = [round(n * w) for n, w in parts]
    if not sum(shares):
        return
    sources = [simple(n, str(k)) for k, (n, _) in enumerate(parts)]
    mixed = MixedSource(sources, [weight for _, weight in parts], seed=1)
    assert len(mixed) == sum(shares)
    times = [Counter() for _ in parts]
    for epoch in range(3):
        ids = np.arange(len(mixed)) + (epoch * len(mixed) if mixed.windowed else 0)
        found = located(mixed, ids)
        for k, share in enumerate(shares):
            own = [local for name, local in found if name == str(k)]
            assert len(own) == share
            times[k].update(own)
    for (n, _), share, counted in zip(parts, shares, times, strict=True):
        assert set(counted) <= set(range(n))
        assert {counted[i] for i in range(n)} <= {3 * share // n, -(-3 * share // n)}


def test_the_seeded_part_goes_on_from_epoch_to_epoch():
    mixed = MixedSource([simple(10, "a")], [0.3], seed=0)
    local = [i for _, i in located(mixed, range(20))]
    assert mixed.windowed
    assert sorted(local[:10]) == sorted(local[10:]) == list(range(10))
    assert local[:10] != local[10:]
    other = MixedSource([simple(10, "a")], [0.3], seed=1)
    assert [i for _, i in located(other, range(20))] != local


def test_everything_is_asked_of_the_right_source():
    a, b = simple(3, "a", label=1), simple(4, "b", label=2)
    mixed = MixedSource([a, b], [2, 1])
    assert (mixed.windowed, mixed.name) == (False, "a*2,b")
    ids = np.array([9, 0, 4, 6, 3])
    assert located(mixed, ids) == [("b", 3), ("a", 0), ("a", 1), ("b", 0), ("a", 0)]
    assert mixed.sizes(ids)[:, 1].tolist() == [43, 40, 41, 40, 40]
    flat, offsets = mixed.labels_of(ids)
    assert np.diff(offsets).tolist() == [1, 1, 2, 1, 1]
    assert flat.tolist() == [2, 1, 1, 1, 2, 1]
    assert [p.shape[1] for p in mixed.read(ids)] == [43, 40, 41, 40, 40]
    assert [mixed.text(i) for i in ids.tolist()] == ["c", "b", "bb", "c", "b"]
    assert [array.tolist() for array in mixed.labels_of(ids[:0])] == [[], [0]]


def test_rendered_and_photographed_samples_are_told_apart():
    mixed = MixedSource([simple(3, "files"), simple(5, "words", EndlessSource)], [1, 1])
    assert is_rendered(mixed, np.arange(8)).tolist() == [False] * 3 + [True] * 5
    # Rendered words of later epochs are new ones, files the same.
    new = [("words", i) for i in range(5, 10)]
    assert located(mixed, range(8, 16)) == [("files", 0), ("files", 1), ("files", 2), *new]


def test_labels_that_are_trained_on_too(monkeypatch):
    monkeypatch.setattr("crnn_jax.data.source.CHUNK", 2)

    def source(*labels, kind=FakeSource):
        return kind(labels, [(32, 99)] * len(labels), name="some")

    one, other = source([1], [1, 2], [], [3]), source([4, 5], [1])
    rendered = source([7], [8], kind=EndlessSource)
    mixed = MixedSource([one, other, rendered], [1, 2.5, 1])
    asked = source([2, 1], [1, 2], [4, 5], [7], [], [1, 2]), rendered, source([9])
    found = [seen.tolist() for seen in seen_labels(mixed, asked)]
    assert found == [[False, True, True, False, False, True], [False, False], [False]]
    (alone,) = seen_labels(one, asked[:1])
    assert alone.tolist() == [False, True, False, False, False, True]
    assert not seen_labels(rendered, asked)[1].any()
