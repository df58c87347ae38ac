"""CTC beam searches side by side: ours, TensorFlow's, fast-ctc-decode and flashlight-text.

    pip install fast-ctc-decode flashlight-text   # only for this; what is missing is left out
    python experiments/benchmarks/decoding.py [--models width_10 width_100] [--batches 256]

`width_10` and `width_100`: 24 frames of 37 classes, sharp peaks between blanks as a trained network
gives them. `classes_6625`: 80 frames of 6,625 classes (Chinese), width 10, ours alone: on 32 such
pictures the others together took more than 20 GB of memory. All start from the same
log-probabilities in memory and end with class ids on the host. The searches take turns, so that a
busy moment hits all of them; the median over the turns is printed, and the share of pictures whose
text is ours.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

CASES = {  # name -> (frames, classes, width)
    "width_10": (24, 37, 10),
    "width_100": (24, 37, 100),
    "classes_6625": (80, 6625, 10),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--batches", nargs="+", type=int, default=[256])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", help="also write the rows there")
    args = parser.parse_args()
    rows = []
    for name in args.models:
        for batch in args.batches:
            rows += compare(name, batch, args.turns)
    print("| subject | model | batch | images/s | ms an image | same text |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{os.cpu_count()} cores, medians of {args.turns} turns{load}")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


def compare(name: str, batch: int, turns: int) -> list[dict]:
    frames, classes, width = CASES[name]
    many = classes > 1000
    batch = min(batch, 32) if many else batch  # 32 pictures are 68 MB
    log_probs = network_output(batch, frames, classes)
    searches = {}
    for subject, make in SUBJECTS.items():
        if many and not subject.startswith("crnn_jax"):
            continue
        try:
            searches[subject] = make(log_probs, width)
        except ImportError as error:
            print(f"{subject}: not installed ({error.name})", file=sys.stderr)
    texts = {subject: search() for subject, search in searches.items()}  # and warm
    seconds: dict = {subject: [] for subject in searches}
    for turn in range(turns):
        for subject, search in searches.items():
            start = time.perf_counter()
            search()
            seconds[subject].append(time.perf_counter() - start)
        print(f"{name}: turn {turn + 1} of {turns}", file=sys.stderr)
    rows = []
    for subject, times in seconds.items():
        second = statistics.median(times)
        same = sum(a == b for a, b in zip(texts[subject], texts["crnn_jax"], strict=True))
        rows.append(
            {
                "subject": subject,
                "model": name,
                "batch": batch,
                "images_per_second": round(batch / second, 1),
                "ms": round(second / batch * 1e3, 3),
                "same": round(same / batch, 4),
            }
        )
    return rows


def network_output(batch: int, frames: int, classes: int) -> np.ndarray:
    """Log-probabilities float32 [b, t, k], the blank last: over half the frames are blanks."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(batch, frames, classes)).astype(np.float32)
    best = random.integers(0, classes - 1, (batch, frames, 1))
    best[random.random((batch, frames, 1)) < 0.55] = classes - 1
    # A peak as sure among 6,625 classes as among 37 stands higher.
    height = random.uniform(4, 12, (batch, frames, 1)) + np.log(classes / 37)
    peak = np.take_along_axis(logits, best, 2) + height.astype(np.float32)
    np.put_along_axis(logits, best, peak, 2)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def ours(log_probs: np.ndarray, width: int, prune: float | None = None):
    from crnn_jax.decoding.beam_search import PRUNE, beam_search

    lengths, blank_id = np.full(len(log_probs), log_probs.shape[1]), log_probs.shape[2] - 1
    prune = PRUNE if prune is None else prune

    def search():
        found = beam_search(log_probs, lengths, width=width, blank_id=blank_id, prune=prune)
        return [row[0].ids.tolist() for row in found]

    return search


def ours_unpruned(log_probs: np.ndarray, width: int):
    return ours(log_probs, width, prune=0)


def tensorflow(log_probs: np.ndarray, width: int):
    import tensorflow as tf

    inputs = tf.constant(log_probs.transpose(1, 0, 2))
    lengths = tf.constant(np.full(len(log_probs), log_probs.shape[1], np.int32))

    def search():
        (best,), _ = tf.nn.ctc_beam_search_decoder(inputs, lengths, beam_width=width)
        dense = tf.sparse.to_dense(best, default_value=-1).numpy()
        return [[c for c in row if c >= 0] for row in dense.tolist()]

    return search


def fast_ctc_decode(log_probs: np.ndarray, width: int, threshold: float = 1e-3):
    import fast_ctc_decode

    classes = log_probs.shape[2]
    alphabet = [chr(0x4E00 + i) for i in range(classes)]  # the blank is its first class
    probs = np.roll(np.exp(log_probs), 1, axis=2)
    threshold = min(threshold, 0.5 / classes)

    def search():
        texts = []
        for picture in probs:
            text, _ = fast_ctc_decode.beam_search(
                picture, alphabet, beam_size=width, beam_cut_threshold=threshold
            )
            texts.append([ord(c) - 0x4E00 - 1 for c in text])
        return texts

    return search


def fast_ctc_decode_unpruned(log_probs: np.ndarray, width: int):
    return fast_ctc_decode(log_probs, width, threshold=0.0)


def flashlight(log_probs: np.ndarray, width: int):
    from flashlight.lib.text.decoder import (
        CriterionType,
        LexiconFreeDecoder,
        LexiconFreeDecoderOptions,
        ZeroLM,
    )

    frames, classes = log_probs.shape[1:]
    blank_id = classes - 1
    options = LexiconFreeDecoderOptions(
        beam_size=width,
        beam_size_token=classes,
        beam_threshold=1000.0,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    # A class that never occurs is its "silence".
    decoder = LexiconFreeDecoder(options, ZeroLM(), -1, blank_id, [])

    def search():
        texts = []
        for picture in log_probs:
            path = decoder.decode(picture.ctypes.data, frames, classes)[0].tokens
            pairs = zip([-1, *path], path, strict=False)
            texts.append([c for before, c in pairs if c not in (before, blank_id) and c >= 0])
        return texts

    return search


SUBJECTS = {
    "crnn_jax": ours,
    "crnn_jax, unpruned": ours_unpruned,
    "tensorflow": tensorflow,
    "fast-ctc-decode": fast_ctc_decode,
    "fast-ctc-decode, unpruned": fast_ctc_decode_unpruned,
    "flashlight-text": flashlight,
}

if __name__ == "__main__":
    main()
