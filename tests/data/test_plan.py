import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing, propose_boundaries
from crnn_jax.data import plan as plan_module
from crnn_jax.data.mixture import MixedSource
from crnn_jax.data.plan import Plan, bucket_widths
from crnn_jax.data.source import TOO_LONG, TOO_LONG_FOR_WIDTH
from tests.data.conftest import EndlessSource, FakeSource

FREE = Preprocessing(max_width=160)


def make_plan(source, batch_size=4, preprocessing=FREE, **options):
    options = {"boundaries": (48, 80), "geometry": "keras", "seed": 3} | options
    return Plan(source, batch_size=batch_size, preprocessing=preprocessing, **options)


def epoch_ids(plan, epoch):
    first = epoch * plan.steps_per_epoch
    rows = [plan.row(first + i) for i in range(plan.steps_per_epoch)]
    return np.concatenate([row.ids for row in rows]), rows


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    sizes = np.stack([np.full(300, 32), rng.integers(10, 300, 300)], axis=1)
    return FakeSource([[1, 2]] * 300, sizes, rng.random(300) < 0.9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(10, 300), st.booleans()), min_size=1, max_size=70),
    st.integers(1, 9),
    st.integers(1, 40),
    st.booleans(),
    st.integers(0, 2**40),
)
def test_each_usable_sample_comes_once_an_epoch(given_samples, b, window, all_, seed):
    widths, usable = zip(*given_samples, strict=True)
    if not all_ and not any(usable):
        return
    source = FakeSource([[0]] * len(widths), [(32, w) for w in widths], usable)
    plan = make_plan(source, b, window=window, seed=seed, all=all_)
    wanted = range(len(widths)) if all_ else np.flatnonzero(usable).tolist()
    assert plan.num_samples == len(wanted)
    assert plan.steps_per_epoch == -(-len(wanted) // b)
    for epoch in range(3):
        ids, rows = epoch_ids(plan, epoch)
        assert sorted(ids[ids >= 0].tolist()) == list(wanted)
        for row in rows:
            assert row.epoch == epoch
            assert row.ids.shape == (b,)
            held = [min(max(widths[i], 32), 160) for i in row.ids if i >= 0]
            assert 0 < max(held) <= row.width  # no row of filler alone
            assert row.width in (48, 80, 160)
            smaller = [w for w in (48, 80, 160) if w >= max(held)]
            assert row.width == smaller[0]
            assert row.usable.tolist() == [bool(i >= 0 and usable[i]) for i in row.ids]


def test_rows_are_a_pure_function_of_the_step(samples):
    forward, backward = make_plan(samples), make_plan(samples)
    steps = list(range(0, 3 * forward.steps_per_epoch, 7))
    seen = {step: forward.row(step) for step in steps}
    for step in reversed(steps):
        row = backward.row(step)
        np.testing.assert_array_equal(row.ids, seen[step].ids)
        assert (row.width, row.epoch) == (seen[step].width, seen[step].epoch)
    with pytest.raises(dataclasses.FrozenInstanceError):  # loaders hand rows to several threads
        forward.row(0).width = 1


def test_epochs_and_seeds_differ(samples):
    plan = make_plan(samples)
    first, second = epoch_ids(plan, 0)[0], epoch_ids(plan, 1)[0]
    assert (first != second).mean() > 0.9
    assert (first != epoch_ids(make_plan(samples, seed=4), 0)[0]).mean() > 0.9
    # Neighbours in the file are no neighbours in a batch, widths alternate, company changes.
    assert np.mean(np.abs(np.diff(first)) == 1) < 0.1
    widths = [row.width for row in epoch_ids(plan, 0)[1]]
    assert np.count_nonzero(np.diff(widths)) > len(widths) / 4
    groups = [{frozenset(row.ids.tolist()) for row in epoch_ids(plan, e)[1]} for e in (0, 1)]
    assert len(groups[0] & groups[1]) < 3


def test_leftovers_are_sorted_by_width():
    source = FakeSource([[0]] * 9, [(32, w) for w in (40, 70, 150, 41, 71, 151, 42, 72, 152)])
    plan = make_plan(source, 3, shuffle=False)
    assert epoch_ids(plan, 0)[0].tolist() == [0, 3, 6, 1, 4, 7, 2, 5, 8]
    source = FakeSource([[0]] * 5, [(32, w) for w in (150, 70, 40, 71, 41)])
    plan = make_plan(source, 3, shuffle=False)
    assert epoch_ids(plan, 0)[0].tolist() == [2, 4, 1, 3, 0, -1]
    assert [row.width for row in epoch_ids(plan, 0)[1]] == [80, 160]
    real = 40 + 41 + 70 + 71 + 150
    assert plan.padding_share() == pytest.approx(1 - real / (3 * 80 + 3 * 160))


def test_an_endless_source_has_new_samples_every_epoch():
    sizes = [(32, w) for w in np.random.default_rng(0).integers(10, 300, 500)]
    source = EndlessSource([[0]] * 500, sizes)
    asked = []
    sizes_of = source.sizes
    source.sizes = lambda ids: asked.append(len(ids)) or sizes_of(ids)
    plan = make_plan(source, 2)
    ids, _ = epoch_ids(plan, 3)
    assert sorted(ids.tolist()) == list(range(1500, 2000))
    assert max(asked) <= plan_module.RENDERED_BATCHES * 2  # never a whole epoch's
    assert [plan.label_axis(width) for width in plan.widths] == [11, 19, 39]


def test_labels_that_do_not_fit_are_counted_by_reason():
    labels = [[1], [1] * 6, [1, 2] * 6, [1, 2] * 30, [3] * 21]
    sizes = [(32, 32), (32, 32), (32, 160), (32, 160), (32, 160)]
    plan = make_plan(FakeSource(labels, sizes), 1, max_label_length=20)
    assert plan.num_samples == 2  # 32 px are 7 frames: six equal characters need eleven
    assert plan.reasons.counts == {TOO_LONG: 2, TOO_LONG_FOR_WIDTH: 1}
    assert plan.reasons.examples[TOO_LONG_FOR_WIDTH] == ["fake/1 'bbbbbb'"]
    fixed = make_plan(FakeSource(labels, sizes), 1, Preprocessing(width=100))
    assert fixed.num_samples == 3
    assert fixed.reasons.counts == {TOO_LONG_FOR_WIDTH: 2}
    assert {fixed.row(i).width for i in range(3)} == {100}
    # 7 frames just hold 7 characters, or 5 of which two repeat.
    labels = [[1, 2] * 3 + [1], [1, 2] * 4, [1, 1, 2, 2, 3], [1, 1, 2, 2, 3, 4]]
    plan = make_plan(FakeSource(labels, [(32, 32)] * 4), 1, shuffle=False)
    assert [plan.row(i).ids.tolist() for i in range(plan.num_samples)] == [[0], [2]]


def test_a_fixed_width_opens_no_header():
    source = FakeSource([[1]] * 9, [(32, 32)] * 9)
    source.sizes = lambda ids: pytest.fail("asked for sizes")
    plan = make_plan(source, 2, Preprocessing(width=100))
    assert len(epoch_ids(plan, 0)[1]) == 5
    assert (plan.widths, plan.label_axis(100)) == ((100,), 24)
    assert plan.padding_share() == pytest.approx(0.1)  # one row of ten is filler


def test_parts_of_hosts_are_the_whole(samples):
    plan = make_plan(samples, 16)
    for step in (0, plan.steps_per_epoch - 1):
        row = plan.row(step)
        for count in (1, 2, 8, 16):
            parts = [row.part(i, count) for i in range(count)]
            np.testing.assert_array_equal(np.concatenate([p.ids for p in parts]), row.ids)
            np.testing.assert_array_equal(np.concatenate([p.usable for p in parts]), row.usable)
            assert {(p.width, p.label_axis, p.epoch) for p in parts} == {
                (row.width, row.label_axis, row.epoch)
            }
    with pytest.raises(ValueError, match="3 hosts"):
        plan.row(0).part(0, 3)


def test_plans_without_samples():
    with pytest.raises(UserError, match=r"fake: no sample can be trained on \(1 marked\)"):
        make_plan(FakeSource([[1]], [(32, 32)], [False]))
    with pytest.raises(IndexError):
        make_plan(FakeSource([[1]], [(32, 32)])).row(-1)


def test_hosts_can_tell_that_their_data_differ():
    def of(labels=((1, 2), (3,)), widths=(40, 50), usable=(True, True), ink=0, mix=0, **options):
        source = FakeSource(labels, [(32, w) for w in widths], usable)
        source.read = lambda ids: [np.full((32, 40, 1), ink, np.uint8) for _ in ids]
        return make_plan(
            MixedSource([source], [mix]) if mix else source, 1, **options
        ).fingerprint()

    assert (of(), of(mix=1.5)) == (of(), of(mix=1.5))
    changes = [{"labels": ((1, 2), (4,))}, {"labels": ((1,), (2, 3))}, {"widths": (40, 51)}]
    changes += [{"usable": (True, False)}, {"ink": 1}, {"mix": 1.5}, {"mix": 1.5, "ink": 1}]
    changes += [{"seed": 4}, {"boundaries": (48,)}, {"shuffle": False}, {"window": 1}]
    assert len({of(), *(of(**change) for change in changes)}) == len(changes) + 1


def test_bucket_widths():
    free = Preprocessing(max_width=160)
    assert bucket_widths((), free) == (160,)
    assert bucket_widths((80, 48), free) == (48, 80, 160)
    assert bucket_widths((160, 48, 48), free) == (48, 160)
    assert bucket_widths((1, 2), Preprocessing(width=100)) == (100,)
    for wrong in (("wide",), (161,), (0,)):
        with pytest.raises(UserError, match=r"data\.bucket_boundaries: .*max_width=160"):
            bucket_widths(wrong, free)


def total(widths, boundaries):
    return sum(min(b for b in boundaries if b >= w) for w in widths)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=25), st.integers(1, 4))
def test_proposed_boundaries_are_the_best(widths, count):
    boundaries = propose_boundaries(np.array(widths), count)
    assert len(boundaries) <= count
    assert list(boundaries) == sorted(set(boundaries))
    assert all(b % 4 == 0 for b in boundaries)
    grid = range(4, max(widths) + 4, 4)
    best = min(
        total(widths, chosen)
        for k in range(1, count + 1)
        for chosen in itertools.combinations(grid, min(k, len(grid)))
        if chosen[-1] >= max(widths)
    )
    assert total(widths, boundaries) == best
