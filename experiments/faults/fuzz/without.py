"""Every fuzz target without its fuzzer: sound inputs are taken, hundreds of changed ones told.

.venv/bin/python experiments/faults/fuzz/without.py
"""

import importlib
import random

from target import attempt

TARGETS = ("annotations", "arpa", "model_file", "pth")
MUTATIONS = 300


def changed(data: bytes, rng: random.Random) -> bytes:
    """A few of libFuzzer's own changes."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(found) + 1)
        size = min(rng.choice((1, 1, 2, 8, 64)), len(found) - place)
        new = bytes(rng.choice((0, 9, 32, 255, rng.randrange(256))) for _ in range(size))
        kind = rng.choice(("overwrite", "overwrite", "insert", "remove", "repeat", "cut"))
        if kind == "overwrite":
            found[place : place + size] = new
        elif kind == "insert":
            found[place:place] = new
        elif kind == "remove":
            del found[place : place + size]
        elif kind == "repeat":
            found[place:place] = found[place : place + size] * rng.choice((1, 50))
        elif rng.random() < 0.2:
            del found[place:]
    return bytes(found)


def main() -> None:
    for name in TARGETS:
        module = importlib.import_module(name)
        seeds = list(module.seeds())
        assert [attempt(module.one_input, seed) for seed in seeds] == [None] * len(seeds), name
        rng = random.Random(0)
        inputs = [changed(rng.choice(seeds), rng) for _ in range(MUTATIONS)]
        errors = sum(attempt(module.one_input, data) is not None for data in inputs)
        assert errors > MUTATIONS / 4, name
        print(f"{name}: {len(seeds)} seeds taken, {errors} of {MUTATIONS} changed ones told")


if __name__ == "__main__":
    main()
