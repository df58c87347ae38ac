"""Converts a model to formats that run without this package.

  python -m crnn_jax.export -o OUT [-m MODEL] --format saved_model|tflite|keras|stablehlo|onnx|web
      [--post none|softmax|greedy|beam_search] [--verify ANNOTATION...]

A SavedModel is laid out for TF Serving (OUT/1/). --verify runs the export in its own process and
runtime on real images and compares it with the model. The comparison is printed and written to
OUT.parity.txt; the exit code is 1 if too few texts agree. docs/deployment.md describes every
format.
"""

import dataclasses
import sys
from collections.abc import Sequence

from crnn_jax import cli

LIMIT = 10_000  # images to compare, unless asked otherwise: about 400 MB of pixels and scores


def main(argv: Sequence[str] | None = None) -> int:
    """Exports what the flags name; returns the exit code."""
    parser = cli.Parser("export", __doc__)
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="file or folder")
    parser.add_model()
    formats = ("saved_model", "tflite", "keras", "stablehlo", "onnx", "web")
    parser.add_argument("--format", choices=formats, default="saved_model")
    posts = ("none", "softmax", "greedy", "beam_search")
    about = "decoder inside the export (greedy; keras and onnx: none)"
    parser.add_argument("-p", "--post", choices=posts, default="", help=about)
    about = "with --post beam_search (10)"
    parser.add_argument("--beam_width", type=cli.number(1), default=0, help=about)
    kinds, about = ("none", "float16", "dynamic"), "tflite: float16 or (dynamic) 8-bit weights"
    parser.add_argument("--quantize", choices=kinds, default="none", help=about)
    about = "tflite: fixed batch size"
    parser.add_argument("--batch", type=cli.number(0), default=0, help=about)
    about = "tflite, layout opencv: fixed width in pixels (opencv: the model's, or 100)"
    parser.add_argument("-w", "--width", "--img_width", type=cli.number(0), default=0, help=about)
    layouts, about = ("standard", "opencv"), "onnx: 'opencv' for cv2.dnn.TextRecognitionModel"
    parser.add_argument("--layout", choices=layouts, default="standard", help=about)
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    about = "compare on annotation files, folders labelled by file names, LMDB or ArrayRecord"
    parser.add_argument("--verify", nargs="+", metavar="ANNOTATION", default=[], help=about)
    about = f"with --verify: images of each annotation, evenly spread ({LIMIT:,}; 0: all)"
    parser.add_argument("--limit", type=cli.number(0), help=about)
    parser.add_argument("--images", default="", help="folder that annotated paths are relative to")
    parser.add_settled("-t", "--table_path", "--table")
    parser.add_settled("--img_channels")
    args = parser.parse_args(argv)
    if args.verify and args.format == "web":
        parser.error("--verify does not support --format web; --format onnx is the same network")
    if (args.limit is not None or args.images) and not args.verify:
        parser.error("--limit and --images need --verify")

    cli.set_up_jax()
    from crnn_jax.core.files import whole_file
    from crnn_jax.exporting.onnx import OPENCV_WIDTH
    from crnn_jax.exporting.plan import ExportPlan
    from crnn_jax.exporting.verify import open_sources, verify
    from crnn_jax.reading.loaded_model import LoadedModel

    plan = ExportPlan(**{f.name: getattr(args, f.name) for f in dataclasses.fields(ExportPlan)})
    plan.require_room(overwrite=args.overwrite)
    model = LoadedModel.open(args.model)
    # Before the export, which takes half a minute: a wrong name ends the command here.
    sources = open_sources(model, args.verify, images=args.images)
    rule, unasked = model.preprocessing, plan.layout == "opencv" and not plan.width
    if unasked and rule.free_width and rule.max_width > 2 * OPENCV_WIDTH:
        about = f"{OPENCV_WIDTH} px, the model alone reads up to {rule.max_width}: see --width"
        print(f"note: images will be squeezed or stretched to {about}", file=sys.stderr)
    print(f"writing {plan.output}, up to half a minute", file=sys.stderr)
    for path in plan.write(model, overwrite=args.overwrite):
        print(path)
    if not args.verify:
        return 0
    limit = LIMIT if args.limit is None else args.limit
    report = verify(model, plan, sources, limit=limit)
    with whole_file(f"{plan.output}.parity.txt") as file:
        file.write(report.text() + "\n")
    print(report.text(most=20))
    return 0 if report.passed else 1


if __name__ == "__main__":
    cli.run(main)
