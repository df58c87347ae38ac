"""Reads images of one word or text line each.

  python -m crnn_jax.demo IMAGE_OR_FOLDER... [-m MODEL] [--decoder greedy|beam|both] [--json]

Prints one line per image: `Path: P, greedy: X, beam search: Y, probability: 0.998`, with the
decoders selected and, with --top-paths, alternatives. The probability is that of the last text.
Each image that cannot be read gets one line on stderr; the exit code is then 2.

  python -m crnn_jax.demo FOLDER --write-annotations labels.tsv --min-confidence 0.95

also writes the confident readings as an annotation file, to review instead of typing labels.
"""

import math
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from crnn_jax import cli
from crnn_jax.core.errors import UserError, shown_path

AT_ONCE = 256  # images read together: more are not faster, and lines would come later


def main(argv: Sequence[str] | None = None) -> int:
    """Reads what the flags name; returns the exit code."""
    parser = cli.Parser("demo", __doc__)
    parser.add_argument("image", nargs="*", help="image or folder of images")
    parser.add_argument("-i", "--images", nargs="+", default=[], help="the same, as a flag")
    parser.add_model()
    parser.add_decoder(default="both")
    parser.add_views()
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("-o", "--output", help="file to write to instead of stdout")
    about = "also write the last texts as an annotation file, PATH TAB TEXT"
    parser.add_argument("--write-annotations", metavar="FILE", help=about)
    about = "with --write-annotations: leave out readings with a lower confidence (0)"
    parser.add_argument("--min-confidence", type=float, metavar="P", help=about)
    parser.add_settled_by_model()
    parser.add_settled("-b", "--batch_size", answer="a reading does not depend on it")
    args = parser.parse_intermixed_args(argv)  # flags may stand between images
    if not args.image + args.images:
        parser.error("which images? name files or folders")
    if args.min_confidence is not None and args.write_annotations is None:
        parser.error("--min-confidence goes with --write-annotations")

    cli.set_up_jax()
    from crnn_jax.reading.decoder import Decoder, open_decoder
    from crnn_jax.reading.labelling import Labels
    from crnn_jax.reading.pictures import PhotoWarning, list_images
    from crnn_jax.reading.recognizer import Recognizer

    Decoder(args.decoder)  # a wrong name is told before anything is read
    paths = [path for named in args.image + args.images for path in list_images(named)]
    recognizer = Recognizer.load(args.model)
    decoder = open_decoder(recognizer.charset, args.decoder, **cli.decoder_options(args))
    cli.tell_left_out(args, decoder)
    labels = None
    if args.write_annotations is not None:
        labels = Labels(args.write_annotations, args.min_confidence or 0.0)
    failed = False
    try:
        with cli.output(args.output) as stream, warnings.catch_warnings():
            warnings.filterwarnings("always", category=PhotoWarning)
            warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
            for start in range(0, len(paths), AT_ONCE):
                some = paths[start : start + AT_ONCE]
                readings = recognizer.read(some, decoder, errors="return", views=args.views)
                for path, reading in zip(some, readings, strict=True):
                    if labels is not None:
                        labels.add(path, reading)
                    if isinstance(reading, UserError):
                        failed = True
                        _say(f"error: {reading}")
                    elif args.json:
                        line = cli.json_line({"path": path, **reading.to_json()})
                        print(line, file=stream, flush=True)
                    else:
                        print(_line(path, reading), file=stream, flush=True)
    finally:
        # Ctrl-C, or a reader that goes away, loses nothing that was read.
        if labels is not None and (labels.lines or labels.left_out):
            labels.write()
            _say(str(labels))
    return cli.EXIT_MISTAKE if failed else 0


def _line(path: str, reading: Any) -> str:
    texts = [] if reading.greedy is None else [f"greedy: {reading.greedy}"]
    name = {"beam": "beam search"}.get(reading.decoder, reading.decoder)
    texts.append(f"{name}: {reading.text}")
    texts.append(f"probability: {reading.confidence:.3f}")
    if reading.alternatives:
        others = (f"{text} {math.exp(log_prob):.3f}" for text, log_prob in reading.alternatives)
        texts.append(f"alternatives: {', '.join(others)}")
    return ", ".join([f"Path: {shown_path(path)}", *texts])


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
