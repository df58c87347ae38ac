"""Renders words into a labelled data set, or a contact sheet to look at a style.

    python -m crnn_jax.synthesize -o words --count 10000
    python -m crnn_jax.synthesize --sheet sheet.png --style plain --color rgb

The folder is laid out as MJSynth's: 1/1/2_Harbour_117.jpg, annotation.txt, labels.tsv, lexicon.txt.
The same seed, fonts and words give the same pictures, with any number of workers.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from crnn_jax import cli
from crnn_jax.core.errors import UserError

SHEET = 200  # pictures on a contact sheet
CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def main(argv: Sequence[str] | None = None) -> int:
    """Parses flags and renders."""
    parser = cli.Parser("synthesize", __doc__)
    parser.add_argument("-o", "--output", metavar="DIR", help="new folder for the pictures")
    parser.add_argument("--count", type=int, default=1000, help="number of pictures (1000)")
    parser.add_argument("--sheet", metavar="PNG", help=f"picture of the first {SHEET} samples")
    parser.add_argument("--style", default="scene", help="plain, scene, or a JSON file of changes")
    parser.add_argument("--fonts", default="auto", help="folder or files; auto: the system's")
    parser.add_argument("--words", default="auto", help="file of words; auto: the system's")
    parser.add_argument("-t", "--table", help="character table; default: 0-9, a-z, A-Z")
    parser.add_argument("--color", default="grey", help="grey or rgb")
    parser.add_argument("--heights", default="31", help="pixels, H or LOW-HIGH (31, as MJSynth)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other words (0)")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    args = parser.parse_args(argv)
    if not args.output and not args.sheet:
        parser.error("nothing to make: -o DIR, --sheet PNG, or both")
    if args.count < 1:
        parser.error(f"--count {args.count}: at least 1 is expected")

    source = _source(args)
    if args.sheet:
        from crnn_jax.synthetic.output import contact_sheet, save_image

        save_image(Path(args.sheet), contact_sheet(source, range(min(args.count, SHEET))))
        print(args.sheet)
    if args.output:
        from crnn_jax.synthetic.output import write_folder

        done = 0
        for done in write_folder(source, Path(args.output), args.count, args.workers):
            if sys.stderr.isatty():
                print(f"\r{done:,} of {args.count:,}", end="", file=sys.stderr)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        print(f"{args.output}: {done:,} pictures")
    return 0


def _source(args):
    from types import SimpleNamespace

    from crnn_jax.core.charset import Charset
    from crnn_jax.synthetic.source import SyntheticSource

    low, _, high = args.heights.partition("-")
    if not (low.isdigit() and (high or low).isdigit() and 8 <= int(low) <= int(high or low)):
        raise UserError(f"--heights {args.heights}: H or LOW-HIGH in pixels is expected, from 8 up")
    table = Charset.read(args.table) if args.table else Charset.from_characters(CHARACTERS)
    config = SimpleNamespace(
        style=args.style,
        words=args.words,
        fonts=args.fonts,
        count=args.count,
        heights=(int(low), int(high or low)),
        max_aspect=16.0,  # a file may be as wide as its word
        color=args.color,
        cache="auto",
    )
    return SyntheticSource(config, table, args.seed)


if __name__ == "__main__":
    cli.run(main)
