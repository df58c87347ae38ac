"""Images a second through the network alone, beside the same network in other frameworks.

    pip install torch onnx onnxruntime tensorflow-cpu   # only for this; what is missing is skipped
    python experiments/benchmarks/forward.py [--models crnn crnn_small] [--batches 1 16 64 256]

All have the same weights and get the same uint8 pictures of 32 x 100 in host memory; the time ends
with the logits in host memory. That the logits are ours is checked first. On a GPU, or a CPU that
multiplies bfloat16, PyTorch and we run in bfloat16 too. Subjects take turns, each in a process of
its own.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from experiments.benchmarks import flops, report, turns

CLASSES = 37
WIDTH = 100
CLOSE = 2e-3  # logits of different frameworks in float32, of a network with random weights

Forward = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["crnn", "crnn_small"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64, 256])
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--json", help="also write the rows there")
    args = parser.parse_args()
    rows = []
    for name in args.models:
        model = random_model(name)
        forwards = turns.start(args.subjects, SUBJECTS, *model)
        for batch in args.batches:
            images = np.random.default_rng(0).integers(0, 256, (batch, 32, WIDTH, 1), np.uint8)
            compare(forwards, images)
            seconds = turns.take_turns(forwards, args.turns, f"{name}, batch {batch}")
            found = turns.rows_of(seconds, batch, model=name, batch=batch)
            flops.add(found, flops.of(logits_of(network_of(model[1], "xla")), model[0], images[:1]))
            rows += found
    packages = ["jax", "jaxlib", "tensorflow-cpu", "tensorflow", "keras", "torch", "onnxruntime"]
    note = f"32 x {WIDTH}, medians of {args.turns} turns; {devices()}"
    report.show(rows, args.json, packages, note)


def devices() -> str:
    """The device that JAX uses."""
    import jax

    return f"{jax.devices()[0].platform} {jax.devices()[0].device_kind}"


def low_precision_pays() -> bool:
    """Whether the device multiplies bfloat16."""
    import jax

    from crnn_jax.models import native_library

    return jax.default_backend() != "cpu" or native_library.supports_bfloat16()


def random_model(name: str) -> tuple[dict, dict]:
    """(variables, metadata) with fresh weights."""
    import jax

    from crnn_jax.core.charset import Charset
    from crnn_jax.core.preprocessing import Preprocessing
    from crnn_jax.models.config import get_model_config
    from crnn_jax.models.crnn import CRNN
    from crnn_jax.training.state import init_variables

    config = get_model_config(name, num_classes=CLASSES)
    charset = Charset.from_characters("abcdefghijklmnopqrstuvwxyz0123456789")
    metadata = {
        "format": 1,
        "model": config.to_dict(),
        **charset.to_metadata(),
        "preprocessing": Preprocessing(width=WIDTH).to_metadata(),
    }
    return jax.tree.map(np.asarray, init_variables(CRNN(config), 0)), metadata


def compare(forwards: dict[str, turns.Subject], images: np.ndarray) -> None:
    """Ends the benchmark where a subject computes something else."""
    expected = forwards["crnn_jax"](images) if "crnn_jax" in forwards else None
    for subject, forward in forwards.items():
        found = forward(images)
        if expected is None or "bfloat16" in subject:
            continue
        off = float(np.abs(found - expected).max())
        if found.shape != expected.shape or off > CLOSE:
            sys.exit(f"{subject}: logits differ from ours by {off:.2g}; nothing to compare")


def network_of(metadata: dict, convolution: str = "auto", **changes: object) -> Any:
    """The network in JAX."""
    from crnn_jax.models.config import ModelConfig
    from crnn_jax.models.crnn import CRNN

    config = dataclasses.replace(ModelConfig.from_metadata(metadata), **changes)
    return CRNN(config, convolution=convolution)


def logits_of(network: Any) -> Callable[[dict, np.ndarray], Any]:
    """(variables, images of one width) -> logits."""

    def apply(variables: dict, images: np.ndarray) -> Any:
        widths = np.full(images.shape[0], images.shape[2], np.int32)
        return network.apply(variables, images, widths, train=False)[0]

    return apply


def ours(variables: dict, metadata: dict, **changes: object) -> Forward:
    import jax

    from crnn_jax.models.crnn import prepare

    network = network_of(metadata, **changes)
    held = prepare(network, jax.device_put(variables))
    program = jax.jit(logits_of(network))

    def forward(images: np.ndarray) -> np.ndarray:
        return np.asarray(program(held, images))

    return forward


def ours_xla(variables: dict, metadata: dict) -> Forward:
    return ours(variables, metadata, convolution="xla")


def ours_bfloat16(variables: dict, metadata: dict) -> Forward | None:
    return ours(variables, metadata, dtype="bfloat16") if low_precision_pays() else None


def keras(variables: dict, metadata: dict) -> Forward:
    import tensorflow as tf

    from crnn_jax.exporting.keras import to_keras

    twin = to_keras((variables, metadata))
    signature = tf.TensorSpec([None, 32, WIDTH, 1], tf.uint8)
    program = tf.function(lambda x: twin(x, training=False), input_signature=[signature])
    return lambda images: program(tf.constant(images)).numpy()


def pytorch(
    variables: dict, metadata: dict, *, compiled: bool = False, amp: bool = False
) -> Forward | None:
    import torch

    from experiments.benchmarks.torch_net import TorchCRNN

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if amp and not low_precision_pays():
        return None
    net = TorchCRNN(metadata)
    net.take(variables)
    net = net.eval().to(device, memory_format=torch.channels_last)
    # A program for every batch size, as ours: a free one is slower.
    program = torch.compile(net, dynamic=False) if compiled else net

    def forward(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=amp):
            return program(torch.from_numpy(images).to(device)).float().cpu().numpy()

    return forward


def pytorch_compiled(variables: dict, metadata: dict) -> Forward | None:
    return pytorch(variables, metadata, compiled=True)


def pytorch_amp(variables: dict, metadata: dict) -> Forward | None:
    return pytorch(variables, metadata, compiled=True, amp=True)


def onnxruntime(variables: dict, metadata: dict) -> Forward:
    import onnx  # noqa: F401 (the exporter needs it)
    import onnxruntime as runtime

    from crnn_jax.exporting.onnx import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "crnn.onnx")
        export_onnx((variables, metadata), path)
        session = runtime.InferenceSession(path, providers=runtime.get_available_providers())
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


SUBJECTS: dict[str, Callable[[dict, dict], Forward | None]] = {
    "crnn_jax": ours,
    "crnn_jax, XLA alone": ours_xla,
    "crnn_jax, bfloat16": ours_bfloat16,
    "keras, tf.function": keras,
    "pytorch, eager": pytorch,
    "pytorch, torch.compile": pytorch_compiled,
    "pytorch, torch.compile, bfloat16": pytorch_amp,
    "onnxruntime": onnxruntime,
}

if __name__ == "__main__":
    main()
