"""Estimates a character language model from texts, for `--lm` of demo and evaluate.

  python -m crnn_jax.language_model TEXT... -o LM.arpa [-m MODEL] [--order 6] [--unit word|line]

TEXT are UTF-8 files. The model is an n-gram with Witten-Bell's smoothing, written in the ARPA
format; KenLM's files over characters are read as well.
"""

import sys
from collections.abc import Sequence

from crnn_jax import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Estimates as the flags say; returns the exit code."""
    parser = cli.Parser("language_model", __doc__)
    parser.add_argument("text", nargs="+", help="text file")
    parser.add_argument("-o", "--output", required=True, help="the ARPA file to write")
    parser.add_argument(
        "-m", "--model", help="model file or workdir: texts are folded to its characters' case"
    )
    parser.add_argument("--order", type=int, default=6, help="characters of an n-gram (6)")
    parser.add_argument(
        "--unit", default="word", help="what a picture shows: a word or a line of the text (word)"
    )
    args = parser.parse_args(argv)
    if not 1 <= args.order <= 10:
        parser.error(f"--order {args.order}: 1 to 10")
    if args.unit not in ("word", "line"):
        parser.error(f"--unit {args.unit}: word or line")

    from crnn_jax.decoding.ngram import NGram
    from crnn_jax.deploy.decoder_files import read_lines, write_language_model
    from crnn_jax.spec.charset import Charset
    from crnn_jax.training.open_model import open_model

    lines = [line for path in args.text for line in read_lines(path)]
    if args.model is not None:
        charset = Charset.from_metadata(open_model(args.model)[1])
        lines = [charset.normalize(line) for line in lines]
    texts = lines if args.unit == "line" else [word for line in lines for word in line.split()]
    model = NGram.estimate(texts, args.order)
    write_language_model(args.output, model)
    print(f"{args.output}: {len(model.entries)} n-grams of {len(texts)} texts", file=sys.stderr)
    return 0


if __name__ == "__main__":
    cli.run(main)
