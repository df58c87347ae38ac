"""Writes an annotation file's images to ArrayRecord shards: a few large files, as in TFDS.

  python -m crnn_jax.shards -a labels.txt -o shards
  python -m crnn_jax.main --config=configs/words.py --config.data.train=shards/words/1.0.0

Use it on disks where a million small files are slow. Reading the shards needs neither TensorFlow
nor TFDS; training gets the same batches as from the files.
"""

import sys
from collections.abc import Sequence

from crnn_jax import cli
from crnn_jax.core.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Writes as the flags say; returns the exit code."""
    parser = cli.Parser("shards", __doc__)
    parser.add_annotation("annotation file, or folder labelled by its file names", required=True)
    about = "the data set is written to DIR/words/1.0.0"
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help=about)
    about = "number of files; 0: chosen by size (default)"
    parser.add_argument("--shards", type=cli.number(0), default=0, help=about)
    args = parser.parse_args(argv)

    try:
        from crnn_jax.data.shards import write_shards
    except ImportError as error:
        raise UserError(
            f"writing shards needs TensorFlow Datasets ({error}): pip install '.[array_record]'"
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
