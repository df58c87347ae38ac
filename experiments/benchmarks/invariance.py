"""Of 3,000 pictures, how many are read as another text when only their company changes.

    python experiments/benchmarks/invariance.py [FOLDER] [-m MODEL] [--count 3000] [--json FILE]

Every picture is read alone; then all of them again in batches of several sizes, in the order given
and in a random one, and each beside a picture of the greatest width. Ours through `Recognizer`.
The same weights in Keras and PyTorch as these are used without masks: a batch is padded to its
widest picture with grey, which is 0 behind the normalising, or with the picture's last column.
Counted are texts (greedy) that differ from the picture's own alone. The weights never saw padding:
a network trained with it is less thrown off by it. Without FOLDER words are rendered by the project
itself.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from crnn_jax import cpu_settings
from experiments.benchmarks import report
from experiments.benchmarks.read import rendered

Texts = list[str]
Network = Callable[[np.ndarray], np.ndarray]  # levels float32 [b, h, w, c] --> logits [b, t, k]
GREY = 127.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="of pictures; default: rendered words")
    parser.add_argument("-m", "--model", help="model file or workdir (default: the shipped one)")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--batches", nargs="+", type=int, default=[7, 64])
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--json", help="also write the rows there")
    args = parser.parse_args()
    cpu_settings.apply()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or rendered(Path(scratch) / "words", args.count)
        rows = measure(str(folder), args)
    packages = ["jax", "jaxlib", "tensorflow-cpu", "tensorflow", "keras", "torch"]
    report.show(rows, args.json, packages)


def measure(folder: str, args: argparse.Namespace) -> list[dict]:
    """A row a subject and kind of company."""
    from crnn_jax.reading.loaded_model import open_model
    from crnn_jax.reading.pictures import list_images, prepare_all
    from crnn_jax.reading.recognizer import Recognizer

    recognizer = Recognizer.load(args.model)
    prepared = prepare_all(list_images(folder)[: args.count], recognizer.preprocessing)
    images = [p.image for p in prepared if not isinstance(p, Exception)]
    widest = np.random.default_rng(0).integers(
        0, 256, (recognizer.preprocessing.height, recognizer.preprocessing.max_width, 1), np.uint8
    )

    def read(group: list[np.ndarray]) -> Texts:
        return [reading.text for reading in recognizer.read(group, views=False)]

    rows = count_changes("crnn_jax", read, images, widest, args.batches)
    model = open_model(args.model or recognizer.name)
    for peer in args.peers:
        try:
            network = PEERS[peer](*model)
        except ImportError as error:
            print(f"{peer}: not installed ({error.name})", file=sys.stderr)
            continue
        for padding in ("grey", "last column"):
            subject = f"{peer}, padded with {padding}"
            read_padded = reader(network, recognizer.charset, grey=padding == "grey")
            rows += count_changes(subject, read_padded, images, widest, args.batches)
    return rows


def count_changes(
    subject: str,
    read: Callable[[list[np.ndarray]], Texts],
    images: list[np.ndarray],
    widest: np.ndarray,
    batches: list[int],
) -> list[dict]:
    """Rows: how many texts differ from those of the pictures alone."""
    alone = [read([image])[0] for image in images]
    print(f"{subject}: {len(images)} pictures read alone", file=sys.stderr)
    order = np.random.default_rng(1).permutation(len(images))
    found: dict[str, Texts] = {}
    for size in batches:
        found[f"batches of {size}"] = in_batches(read, images, range(len(images)), size)
        found[f"batches of {size}, random order"] = in_batches(read, images, order, size)
    found["beside the widest"] = [read([image, widest])[0] for image in images]
    rows = []
    for company, texts in found.items():
        changed = [i for i, (a, b) in enumerate(zip(alone, texts, strict=True)) if a != b]
        row = {"subject": subject, "company": company, "pictures": len(images)}
        row["changed"] = len(changed)
        row["example"] = f"{alone[changed[0]]!r} -> {texts[changed[0]]!r}" if changed else ""
        rows.append(row)
        print(row, file=sys.stderr)
    return rows


def in_batches(read, images: list[np.ndarray], order, size: int) -> Texts:
    """Texts in the pictures' own order."""
    texts = [""] * len(images)
    order = list(order)
    for begin in range(0, len(order), size):
        own = order[begin : begin + size]
        for i, text in zip(own, read([images[i] for i in own]), strict=True):
            texts[i] = text
    return texts


def reader(network: Network, charset, *, grey: bool):
    """Reads as networks without masks are used: all frames of a padded batch are decoded."""

    def read(group: list[np.ndarray]) -> Texts:
        width = max(image.shape[1] for image in group)
        batch = np.full((len(group), group[0].shape[0], width, group[0].shape[2]), GREY, np.float32)
        for row, image in zip(batch, group, strict=True):
            row[:, : image.shape[1]] = image
            if not grey:
                row[:, image.shape[1] :] = image[:, -1:]
        return [greedy(frames, charset) for frames in network(batch)]

    return read


def greedy(logits: np.ndarray, charset) -> str:
    """Best class a frame, repetitions and blanks taken out."""
    scores = logits.copy()
    if charset.unknown_id >= 0:
        scores[:, charset.unknown_id] = -np.inf
    best = scores.argmax(axis=1)
    kept = best[np.concatenate(([True], best[1:] != best[:-1]))]
    return charset.decode(kept[kept != charset.blank_id])


def keras(variables: dict, metadata: dict) -> Network:
    import tensorflow as tf

    from crnn_jax.exporting.keras import to_keras

    twin = to_keras((variables, metadata))
    channels = metadata["model"]["channels"]
    height = metadata["preprocessing"]["height"]
    signature = tf.TensorSpec([None, height, None, channels], tf.float32)
    program = tf.function(lambda x: twin(x, training=False), input_signature=[signature])
    return lambda images: program(tf.constant(images)).numpy()


def pytorch(variables: dict, metadata: dict) -> Network:
    import torch

    from experiments.benchmarks.torch_net import TorchCRNN

    net = TorchCRNN(metadata)
    net.take(variables)
    net.eval()

    def network(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return net(torch.from_numpy(images)).numpy()

    return network


PEERS = {"keras": keras, "pytorch": pytorch}

if __name__ == "__main__":
    main()
