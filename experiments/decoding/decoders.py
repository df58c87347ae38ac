"""What each decoder makes of the same network output: accuracy and time, on real pictures.

    python experiments/decoding/decoders.py -m MODEL -a DATA/iiit5k_test/labels.tsv \
        --words /usr/share/dict/american-english-large
    python experiments/decoding/decoders.py -m MODEL -a VALIDATION... --words LIST --tune
    python experiments/decoding/decoders.py -m MODEL -a VALIDATION... --words LIST --tensorflow

The lexicons are the labels' own words, and those filled up from the word list to 50,000 and 90,000.
The language model is estimated from the word list without the labels. `--tune` tries weights and
bonuses of the language model instead (validation data only); `--tensorflow` counts the texts that
TensorFlow's search finds otherwise, and prints them with both probabilities.
"""

import argparse
import functools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from crnn_jax import cpu_settings

BATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-a", "--annotation", nargs="+", required=True)
    parser.add_argument("--words", required=True, help="word list")
    parser.add_argument("--order", type=int, default=6, help="of the language model")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--tensorflow", action="store_true")
    args = parser.parse_args()
    cpu_settings.apply()
    from crnn_jax.reading.recognizer import Recognizer

    recognizer = Recognizer.load(args.model)
    batches, labels = network_output(recognizer, args.annotation)
    print(f"{len(labels)} pictures")
    if args.tensorflow:
        tensorflow(recognizer.charset, batches)
    else:
        compare(recognizer.charset, batches, labels, args)


def network_output(recognizer, annotations):
    """Batches of (log-probs [b, t, k], frames [b]), narrow ones first, and the labels of all."""
    import numpy as np

    from crnn_jax.reading.decoder import tempered
    from crnn_jax.reading.evaluator import open_annotation, read_batches

    rows = []
    for annotation in annotations:
        source = open_annotation(recognizer, annotation)
        for batch in read_batches(recognizer, source)[1]:
            logits, lengths = recognizer.emitted(batch)
            log_probs = np.asarray(tempered(logits, 1.0))
            for i, (sample, n) in enumerate(zip(batch["id"], np.asarray(lengths), strict=True)):
                if sample >= 0:
                    rows.append((log_probs[i, :n], source.text(int(sample))))
    rows.sort(key=lambda row: len(row[0]))
    batches = []
    for start in range(0, len(rows), BATCH):
        some = [row[0] for row in rows[start : start + BATCH]]
        lengths = np.array([len(x) for x in some], np.int32)
        padded = [np.pad(x, ((0, lengths.max() - len(x)), (0, 0))) for x in some]
        batches.append((np.stack(padded), lengths))
    return batches, [row[1] for row in rows]


def compare(charset, batches, labels, args) -> None:
    from crnn_jax.core.files import text_lines
    from crnn_jax.decoding.language_model import NGram
    from crnn_jax.decoding.lexicon import Lexicon
    from crnn_jax.reading.decoder import LEXICON_LINE, Decoder

    listed = [charset.normalize(word) for word in text_lines(args.words, LEXICON_LINE)]
    listed = [word for word in dict.fromkeys(listed) if len(charset.encode(word)[0])]
    lm = NGram.estimate(listed, args.order).for_charset(charset)
    print("| decoder | exact % | ms an image |\n|---|---|---|")
    if args.tune:
        for weight in (0.0, 0.1, 0.2, 0.3, 0.4, 0.6):
            for bonus in (0.0, 0.5, 1.0, 1.5):
                decoder = Decoder("beam", lm=lm, lm_weight=weight, length_bonus=bonus)
                report(f"weight {weight}, bonus {bonus}", decoder, charset, batches, labels)
        return
    report("greedy", Decoder("greedy"), charset, batches, labels)
    for width in (10, 100):
        wide = functools.partial(Decoder, "beam", beam_width=width)
        report(f"beam {width}", wide(), charset, batches, labels)
        report(f"beam {width} + language model", wide(lm=lm), charset, batches, labels)
    own = list(dict.fromkeys(labels))
    for size in (len(own), 50_000, 90_000):
        words = list(dict.fromkeys([*own, *listed]))[:size]
        lexicon = Lexicon.from_words(words, charset)
        name = f"lexicon of {len(lexicon):,}"
        for width in (10, 100):
            decoder = Decoder("beam", beam_width=width, lexicon=lexicon)
            report(f"beam {width}, {name}", decoder, charset, batches, labels)
        decoder = Decoder("beam", beam_width=100, lexicon=lexicon, lm=lm)
        report(f"beam 100 + language model, {name}", decoder, charset, batches, labels)


def report(name, decoder, charset, batches, labels) -> None:
    texts, seconds = [], 0.0
    search = functools.partial(decoder.texts, blank_id=charset.blank_id)
    for log_probs, lengths in batches:
        search(log_probs, lengths)  # compiles, builds what is built once
        start = time.perf_counter()
        ids, id_lengths = search(log_probs, lengths)
        seconds += time.perf_counter() - start
        texts += [charset.decode(row[0, : n[0]]) for row, n in zip(ids, id_lengths, strict=True)]
    right = sum(a == b for a, b in zip(texts, labels, strict=True))
    share, time_each = 100 * right / len(labels), seconds / len(labels) * 1e3
    print(f"| {name} | {share:.2f} | {time_each:.3f} |", flush=True)


def tensorflow(charset, batches) -> None:
    """TensorFlow's blank is the last class: the others move up by one behind ours."""
    import numpy as np
    import tensorflow as tf

    from crnn_jax.decoding.beam_search import beam_search
    from crnn_jax.decoding.greedy import sequence_log_prob

    blank_id = charset.blank_id
    for width in (10, 100):
        differing = count = 0
        for log_probs, lengths in batches:
            count += len(lengths)
            found = beam_search(log_probs, lengths, width=width, blank_id=blank_id)
            others = [i for i in range(log_probs.shape[2]) if i != blank_id]
            moved = log_probs[:, :, [*others, blank_id]].transpose(1, 0, 2)
            (best,), _ = tf.nn.ctc_beam_search_decoder(moved, lengths, beam_width=width)
            dense = tf.sparse.to_dense(best, default_value=-1).numpy()
            for i, row in enumerate(dense.tolist()):
                theirs = [others[c] for c in row if c >= 0]
                ours = found[i][0].ids.tolist()
                if theirs == ours:
                    continue
                differing += 1
                n = max(len(theirs), len(ours), 1)
                pair = np.array([x + [0] * (n - len(x)) for x in (ours, theirs)], np.int32)
                p, q = sequence_log_prob(
                    log_probs[[i, i]],
                    lengths[[i, i]],
                    pair,
                    np.array([len(ours), len(theirs)], np.int32),
                    blank_id=blank_id,
                )
                ours, theirs = charset.decode(ours), charset.decode(theirs)
                print(f"width {width}: ours {ours!r} log p {p:.3f}, theirs {theirs!r} {q:.3f}")
        print(f"width {width}: {differing} of {count} texts differ", flush=True)


if __name__ == "__main__":
    main()
