"""Training steps a second: forward, CTC loss, gradient and Adam on pictures of 32 x 100, float32.

    python experiments/benchmarks/train_step.py [--models crnn crnn_small] [--batches 64]

Batches are random and in memory: data loading is not measured. The configurations take turns, one
step each, so that a busy moment hits all of them; the median over the turns is printed.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from crnn_jax import xla_flags

CLASSES = 37
LABEL = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["crnn_small", "crnn"])
    parser.add_argument("--batches", nargs="+", type=int, default=[64])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--json", help="also write the rows there")
    args = parser.parse_args()
    xla_flags.set_for_cpu()
    cases = {(m, b): make_case(m, b) for m in args.models for b in args.batches}
    seconds: dict = {case: [] for case in cases}
    for turn in range(args.turns):
        for case, run in cases.items():
            start = time.perf_counter()
            run()
            seconds[case].append(time.perf_counter() - start)
        print(f"turn {turn + 1} of {args.turns}", file=sys.stderr)
    rows = [
        {
            "subject": "crnn_jax",
            "model": model,
            "batch": batch,
            "images_per_second": round(batch / statistics.median(times), 1),
        }
        for (model, batch), times in seconds.items()
    ]
    print("| subject | model | batch | images/s |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    print(f"{os.cpu_count()} cores, medians of {args.turns} turns")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


def make_case(name: str, batch_size: int):
    """A function that takes one step and waits for it; compiled and warm."""
    import jax
    import numpy as np
    import optax

    from crnn_jax.models.config import get_model_config
    from crnn_jax.models.crnn import CRNN
    from crnn_jax.training.parallel import Parallel
    from crnn_jax.training.state import create_state, init_variables
    from crnn_jax.training.step import make_train_step

    parallel = Parallel("jit", jax.devices()[:1])
    model = CRNN(get_model_config(name, num_classes=CLASSES), parallel.axis_name)
    optimizer = optax.adam(1e-3)
    step = parallel.train_step(make_train_step(model, optimizer, blank_id=CLASSES - 1))
    rng = np.random.default_rng(0)
    batch = parallel.shard(
        {
            "image": rng.integers(0, 256, (batch_size, 32, 100, 1), dtype=np.uint8),
            "width": np.full(batch_size, 100, np.int32),
            "label": rng.integers(0, CLASSES - 1, (batch_size, LABEL), dtype=np.int32),
            "label_length": np.full(batch_size, LABEL, np.int32),
            "mask": np.ones(batch_size, bool),
        }
    )
    state = create_state(init_variables(model, 0), optimizer, ema=False)
    held = [parallel.replicate(state)]

    def run() -> None:
        held[0], metrics = step(held[0], batch)
        jax.block_until_ready((held[0], metrics))

    run()
    run()
    return run


if __name__ == "__main__":
    main()
