"""Converts another CRNN's weights to a model file, for `-m` of the other commands.

  python -m crnn_jax.import_weights WEIGHTS --table table.txt -o model.safetensors
  python -m crnn_jax.import_weights crnn.pth --alphabet 0123456789abcdefghijklmnopqrstuvwxyz -o M

WEIGHTS is from CRNN.tf2: .h5 (weights or a whole model, named or numbered layers) or .weights.h5;
or from crnn.pytorch: .pth or .safetensors of its state_dict. No code in the file is run. The model
file keeps the source's preprocessing. For CRNN.tf2 this is RGB or grey (from the weights), x / 255,
free width; for crnn.pytorch 100 x 32, (x / 255 - 0.5) / 0.5.
"""

import sys
from collections.abc import Sequence

from crnn_jax import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Imports what the flags name; returns the exit code."""
    parser = cli.Parser("import_weights", __doc__)
    parser.add_argument("weights", help="file to import")
    about = "CRNN.tf2's table file: one character per line"
    parser.add_argument("-t", "--table", "--table_path", help=about)
    about = "instead of a table: the characters in the order of their classes, without the blank"
    parser.add_argument("--alphabet", help=about)
    parser.add_argument("-o", "--output", required=True, help="model file to write (.safetensors)")
    about = (
        "pixels that every image was stretched to, 0 for free width (default: the source's; 100 "
        "for CRNN.tf2 before version 0.1)"
    )
    parser.add_argument("-w", "--width", "--img_width", type=cli.number(0), help=about)
    about = "labels were converted to one case (default: yes if the characters have only one)"
    parser.add_argument("--ignore_case", choices=("yes", "no"), help=about)
    args = parser.parse_args(argv)

    from crnn_jax.core.model_file import save_model
    from crnn_jax.importing.import_weights import import_weights

    variables, metadata, network = import_weights(
        args.weights,
        table=args.table,
        alphabet=args.alphabet,
        ignore_case=None if args.ignore_case is None else args.ignore_case == "yes",
        width=args.width,
    )
    save_model(args.output, variables, metadata)
    for note in network.notes:
        print(f"note: {note}", file=sys.stderr)
    model, image = metadata["model"], metadata["preprocessing"]
    colour = "grey" if image["channels"] == 1 else "RGB"
    width = f"{image['width']} px wide" if image["width"] else "of free width"
    print(
        f"a network of {network.source}: {model['num_classes']} classes, {model['hidden']} units\n"
        f"reads {colour} images {width}, as (x - {image['mean']:g}) / {image['scale']:g}\n"
        f"used {len(network.used)} arrays: {', '.join(network.used)}\n"
        f"not used {len(network.unused)}: {', '.join(network.unused) or 'none'}\n"
        f"written: {args.output}"
    )
    return 0


if __name__ == "__main__":
    cli.run(main)
