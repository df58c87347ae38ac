"""Writes an annotation file's images into ArrayRecord shards: a few large files.

  python -m crnn_jax.shards -a labels.txt -o shards
  python -m crnn_jax.main --config=configs/words.py --config.data.train=shards

For disks on which a million small files are slow: training gets the same batches as from the files.
"""

import sys
from collections.abc import Sequence

from crnn_jax import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Writes as the flags say; returns the exit code."""
    parser = cli.Parser("shards", __doc__)
    parser.add_annotation("file, or folder labelled by its file names", required=True)
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="new folder")
    about = "files; 0: one for every 100,000 images (default)"
    parser.add_argument("--shards", type=cli.number(0), default=0, help=about)
    args = parser.parse_args(argv)

    from crnn_jax.data.shards import write_shards

    written, left_out = write_shards(
        args.annotation, args.output, format=args.format, images=args.images, shards=args.shards
    )
    for line in left_out.lines():
        print(f"left out: {line}", file=sys.stderr)
    print(f"{args.output}: {written:,} records")
    return 0


if __name__ == "__main__":
    cli.run(main)
