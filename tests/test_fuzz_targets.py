"""Every fuzz target without its fuzzer: sound inputs are taken, hundreds of changed ones told."""

import importlib
import random
import sys

import pytest

FOLDER = "experiments/faults/fuzz"
TARGETS = ("annotations", "arpa", "model_file", "pth")
MUTATIONS = 300


@pytest.fixture(params=TARGETS)
def target(request, monkeypatch, root):
    """(the target's module, `attempt`)."""
    monkeypatch.syspath_prepend(root / FOLDER)
    monkeypatch.setattr(sys, "path", sys.path.copy())  # what target.py adds to it
    return importlib.import_module(request.param), importlib.import_module("target").attempt


def changed(data, dice):
    """A few of libFuzzer's own changes."""
    data = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8))):
        place = dice.randrange(len(data) + 1)
        size = min(dice.choice((1, 1, 2, 8, 64)), len(data) - place)
        new = bytes(dice.choice((0, 9, 32, 255, dice.randrange(256))) for _ in range(size))
        kind = dice.choice(("overwrite", "overwrite", "insert", "remove", "repeat", "cut"))
        if kind == "overwrite":
            data[place : place + size] = new
        elif kind == "insert":
            data[place:place] = new
        elif kind == "remove":
            del data[place : place + size]
        elif kind == "repeat":
            data[place:place] = data[place : place + size] * dice.choice((1, 50))
        elif dice.random() < 0.2:
            del data[place:]
    return bytes(data)


def test_sound_inputs_are_taken_and_changed_ones_told(target):
    module, attempt = target
    seeds = list(module.seeds())
    assert [attempt(module.one_input, seed) for seed in seeds] == [None] * len(seeds)
    dice = random.Random(0)
    told = [attempt(module.one_input, changed(dice.choice(seeds), dice)) for _ in range(MUTATIONS)]
    assert sum(line is not None for line in told) > MUTATIONS / 4
