"""Estimates a character language model from texts, for `--lm` of demo and evaluate.

  python -m crnn_jax.language_model TEXT... -o LM.arpa [-m MODEL] [--order 6] [--unit word|line]

TEXT are UTF-8 files. The model is an n-gram with Witten-Bell smoothing, in the ARPA format.
"""

import sys
from collections.abc import Callable, Iterator, Sequence

from crnn_jax import cli

MAX_LINE = 1 << 28  # bytes; some texts are one line, text8's has 100 MB
_BLANKS = {ord("\t"): " ", ord("\r"): " "}  # an ARPA file cannot hold them, nor can an image


def main(argv: Sequence[str] | None = None) -> int:
    """Estimates as the flags say; returns the exit code."""
    parser = cli.Parser("language_model", __doc__)
    parser.add_argument("text", nargs="+", help="text file")
    parser.add_argument("-o", "--output", required=True, help="the ARPA file to write")
    about = "model file or workdir: texts are folded to its characters' case"
    parser.add_argument("-m", "--model", help=about)
    about = "characters of an n-gram (6)"
    parser.add_argument("--order", type=cli.number(1, 10), default=6, help=about)
    about = "what an image shows: a word or a line of the text (word)"
    parser.add_argument("--unit", choices=("word", "line"), default="word", help=about)
    args = parser.parse_args(argv)

    from crnn_jax.core.charset import Charset, nfc
    from crnn_jax.core.files import whole_file
    from crnn_jax.decoding.language_model import NGram, arpa_lines

    normalize = nfc
    if args.model is not None:
        from crnn_jax.reading.loaded_model import open_model

        normalize = Charset.from_metadata(open_model(args.model)[1]).normalize
    texts = (text for path in args.text for text in _texts(path, args.unit, normalize))
    with whole_file(args.output) as file:  # first: estimating may take long
        model = NGram.estimate(texts, args.order)
        file.writelines(f"{line}\n" for line in arpa_lines(model))
    print(f"{args.output}: {len(model.entries)} n-grams", file=sys.stderr)
    return 0


def _texts(path: str, unit: str, normalize: Callable[[str], str]) -> Iterator[str]:
    """A file's words or lines, one line of it in memory at a time."""
    from crnn_jax.core.files import text_lines

    for line in text_lines(path, MAX_LINE):
        line = normalize(line)
        if unit == "line":
            yield line.translate(_BLANKS)
        else:
            yield from line.split()


if __name__ == "__main__":
    cli.run(main)
