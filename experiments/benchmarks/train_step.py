"""Training steps a second, beside other frameworks: forward, CTC loss, gradient and Adam, float32.

    pip install torch tensorflow-cpu    # only for this; what is missing is skipped
    python experiments/benchmarks/train_step.py [--models crnn crnn_small] [--batches 64]

Batches of 32 x 100 grey pictures are random and in memory: data loading is not measured. Everybody
starts from the same weights, and that the first losses agree is checked. On a GPU, or a CPU that
multiplies bfloat16, everybody runs in bfloat16 too. Subjects take turns, each in its own process.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from experiments.benchmarks import flops, report, turns
from experiments.benchmarks.forward import (
    CLASSES,
    WIDTH,
    devices,
    low_precision_pays,
    random_model,
)

LABEL = 8
CLOSE = 1e-3  # of the first loss, relative

Batch = dict[str, np.ndarray]
Step = Callable[[Batch], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["crnn_small", "crnn"])
    parser.add_argument("--batches", nargs="+", type=int, default=[64])
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--json", help="also write the rows there")
    args = parser.parse_args()
    rows = []
    for name in args.models:
        for size in args.batches:
            steps = turns.start(args.subjects, SUBJECTS, *random_model(name))
            batch = random_batch(size)
            compare({subject: step(batch) for subject, step in steps.items()})
            seconds = turns.take_turns(steps, args.turns, f"{name}, batch {size}")
            found = turns.rows_of(seconds, size, model=name, batch=size)
            step, state = pure_step(*random_model(name), convolution="xla")
            flops.add(found, flops.of(step, state, batch) / size)
            rows += found
    packages = ["jax", "jaxlib", "optax", "tensorflow-cpu", "tensorflow", "keras", "torch"]
    note = f"32 x {WIDTH}, medians of {args.turns} turns; {devices()}"
    report.show(rows, args.json, packages, note)


def random_batch(size: int) -> Batch:
    """Noise, labelled at random."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (size, 32, WIDTH, 1), dtype=np.uint8),
        "width": np.full(size, WIDTH, np.int32),
        "label": rng.integers(0, CLASSES - 1, (size, LABEL), dtype=np.int32),
        "label_length": np.full(size, LABEL, np.int32),
        "mask": np.ones(size, bool),
    }


def compare(losses: dict[str, float]) -> None:
    """Ends the benchmark where a subject begins with another loss."""
    expected = losses.get("crnn_jax")
    for subject, loss in losses.items():
        if expected is None or "bfloat16" in subject:
            continue
        if not abs(loss - expected) < CLOSE * abs(expected):
            sys.exit(f"{subject}: begins with loss {loss:.5g}, ours with {expected:.5g}")


def pure_step(
    variables: dict, metadata: dict, convolution: str = "auto", **changes: object
) -> tuple[Callable, Any]:
    """(the step as a function of state and batch, the state it begins with)."""
    import optax

    from crnn_jax.models.config import ModelConfig
    from crnn_jax.models.crnn import CRNN
    from crnn_jax.training.state import create_state
    from crnn_jax.training.step import make_train_step

    config = dataclasses.replace(ModelConfig.from_metadata(metadata), **changes)
    model = CRNN(config, convolution=convolution)
    optimizer = optax.adam(1e-3)
    step = make_train_step(model, optimizer, blank_id=CLASSES - 1)
    return step, create_state(variables, optimizer, ema=False)


def ours(variables: dict, metadata: dict, **changes: object) -> Step:
    import jax

    from crnn_jax.training.parallel import Parallel

    parallel = Parallel("jit", jax.devices()[:1])
    pure, state = pure_step(variables, metadata, **changes)
    program = parallel.train_step(pure)
    held = [parallel.replicate(state)]

    def step(batch: Batch) -> float:
        held[0], metrics = program(held[0], parallel.shard(batch))
        jax.block_until_ready(held[0])
        return float(metrics["loss_sum"] / metrics["count"])

    return step


def ours_xla(variables: dict, metadata: dict) -> Step:
    return ours(variables, metadata, convolution="xla")


def ours_bfloat16(variables: dict, metadata: dict) -> Step | None:
    return ours(variables, metadata, dtype="bfloat16") if low_precision_pays() else None


def keras_bfloat16(variables: dict, metadata: dict) -> Step | None:
    return keras(variables, metadata, policy="mixed_bfloat16") if low_precision_pays() else None


def keras(variables: dict, metadata: dict, policy: str = "float32") -> Step:
    import keras as framework
    import tensorflow as tf

    from crnn_jax.exporting.keras import to_keras

    framework.config.set_dtype_policy(policy)
    twin = to_keras((variables, metadata))
    framework.config.set_dtype_policy("float32")
    optimizer = framework.optimizers.Adam(1e-3)
    optimizer.build(twin.trainable_variables)

    @tf.function
    def program(image: tf.Tensor, label: tf.Tensor, label_length: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = tf.cast(twin(image, training=True), tf.float32)
            frames = tf.fill([tf.shape(logits)[0]], tf.shape(logits)[1])
            each = tf.nn.ctc_loss(
                label, logits, label_length, frames, logits_time_major=False, blank_index=-1
            )
            loss = tf.reduce_mean(each)
        gradients = tape.gradient(loss, twin.trainable_variables)
        optimizer.apply_gradients(zip(gradients, twin.trainable_variables, strict=True))
        return loss

    def step(batch: Batch) -> float:
        arrays = (tf.constant(batch[key]) for key in ("image", "label", "label_length"))
        return float(program(*arrays))

    return step


def pytorch(
    variables: dict, metadata: dict, *, compiled: bool = False, amp: bool = False
) -> Step | None:
    import torch

    from experiments.benchmarks.torch_net import TorchCRNN

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if amp and not low_precision_pays():
        return None
    net = TorchCRNN(metadata)
    net.take(variables)
    net = net.train().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    # zero_infinity and the mean over samples, not over their lengths, as everybody else here.
    criterion = torch.nn.CTCLoss(CLASSES - 1, reduction="none", zero_infinity=True)
    program = torch.compile(net, dynamic=False) if compiled else net

    def step(batch: Batch) -> float:
        images, labels, lengths = (
            torch.from_numpy(batch[key]).to(device) for key in ("image", "label", "label_length")
        )
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            logits = program(images)
        log_probs = logits.float().log_softmax(2).transpose(0, 1)
        frames = torch.full((len(images),), log_probs.shape[0], dtype=torch.int32)
        loss = criterion(log_probs, labels, frames, lengths.cpu()).mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def pytorch_compiled(variables: dict, metadata: dict) -> Step | None:
    return pytorch(variables, metadata, compiled=True)


def pytorch_amp(variables: dict, metadata: dict) -> Step | None:
    return pytorch(variables, metadata, amp=True)


def pytorch_compiled_amp(variables: dict, metadata: dict) -> Step | None:
    return pytorch(variables, metadata, compiled=True, amp=True)


SUBJECTS: dict[str, Callable[[dict, dict], Step | None]] = {
    "crnn_jax": ours,
    "crnn_jax, XLA alone": ours_xla,
    "crnn_jax, bfloat16": ours_bfloat16,
    "keras, tf.function": keras,
    "pytorch, eager": pytorch,
    "pytorch, torch.compile": pytorch_compiled,
    "keras, mixed bfloat16": keras_bfloat16,
    "pytorch, autocast bfloat16": pytorch_amp,
    "pytorch, torch.compile, autocast bfloat16": pytorch_compiled_amp,
}

if __name__ == "__main__":
    main()
