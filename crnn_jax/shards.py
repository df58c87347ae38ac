"""Writes an annotation file's pictures into ArrayRecord shards: a few large files, a TFDS data set.

  python -m crnn_jax.shards -a labels.txt -o shards
  python -m crnn_jax.main --config=configs/words.py --config.data.train=shards/words/1.0.0

For disks on which a million small files are slow. Reading needs neither TensorFlow nor TFDS;
training gets the same batches as from the files.
"""

import sys
from collections.abc import Sequence

from crnn_jax import cli
from crnn_jax.core.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Writes as the flags say; returns the exit code."""
    parser = cli.Parser("shards", __doc__)
    parser.add_argument(
        "-a", "--annotation", required=True, help="file, or folder labelled by its file names"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="the set comes to DIR/words/1.0.0"
    )
    parser.add_argument("--images", default="", help="folder at which the paths start")
    parser.add_argument("--format", default="auto", help="as data.format in training")
    parser.add_argument("--shards", type=int, default=0, help="files; 0: by size (default)")
    args = parser.parse_args(argv)
    if args.shards < 0:
        parser.error(f"--shards {args.shards}: at least 1, or 0 for a number by size")

    try:
        from crnn_jax.data.shards import write_shards
    except ImportError as error:
        raise UserError(
            f"writing shards needs TensorFlow Datasets ({error}): "
            f"pip install crnn_jax[array_record]"
        ) from None

    path, written, left_out = write_shards(
        args.annotation, args.output, format=args.format, images=args.images, shards=args.shards
    )
    for line in left_out.lines():
        print(f"left out: {line}", file=sys.stderr)
    print(f"{path}: {written:,} records")
    return 0


if __name__ == "__main__":
    cli.run(main)
