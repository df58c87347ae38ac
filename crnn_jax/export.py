"""Converts a model to formats that run without this package.

  python -m crnn_jax.export -o OUT [-m MODEL] --format saved_model|tflite|keras|stablehlo|onnx
      [--post none|softmax|greedy|beam_search] [--verify ANNOTATION...]

A SavedModel is laid out for TF Serving (OUT/1/). With --verify the file is run in a process of its
own, by its own runtime, over real pictures, and compared with the model; the comparison is printed
and written to OUT.parity.txt, and the exit code is 1 where too few texts are the same.
docs/deployment.md describes every format.
"""

import sys
from collections.abc import Sequence

from crnn_jax import cli, cpu_settings

FORMATS = ("saved_model", "tflite", "keras", "stablehlo", "onnx")


def main(argv: Sequence[str] | None = None) -> int:
    """Exports what the flags name; returns the exit code."""
    parser = cli.Parser("export", __doc__)
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="file or folder")
    parser.add_argument("-m", "--model", help="model file or workdir (default: the one that ships)")
    parser.add_argument("--format", choices=FORMATS, default="saved_model")
    parser.add_argument(
        "-p",
        "--post",
        choices=("none", "softmax", "greedy", "beam_search"),
        help="what is made of the network's output inside (greedy; keras and onnx: none)",
    )
    parser.add_argument("--beam_width", type=int, default=10, help="of --post beam_search (10)")
    parser.add_argument(
        "--quantize",
        choices=("none", "float16", "dynamic"),
        default="none",
        help="tflite: weights as float16, or as 8-bit integers (dynamic)",
    )
    parser.add_argument("--batch", type=int, default=0, help="tflite: fixed number of pictures")
    parser.add_argument("--width", type=int, default=0, help="tflite: fixed width in pixels")
    parser.add_argument(
        "--layout",
        choices=("standard", "opencv"),
        default="standard",
        help="onnx: 'opencv' for cv2.dnn.TextRecognitionModel",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT where it exists")
    parser.add_argument(
        "--verify",
        nargs="+",
        metavar="ANNOTATION",
        default=[],
        help="compare on these annotation files, folders labelled by their file names, LMDB or "
        "ArrayRecord",
    )
    parser.add_argument("--limit", type=int, default=0, help="pictures of each, evenly spread")
    parser.add_argument("--images", default="", help="folder at which the annotations' paths start")
    parser.add_argument("--annotation_format", default="auto", help="of the annotation files")
    answer = "the model file holds its characters"
    parser.add_settled("-t", "--table_path", "--table", answer=answer)
    parser.add_settled("-w", "--img_width", answer="the model file knows how to resize")
    parser.add_settled("--img_channels", answer="the model file knows how many there are")
    args = parser.parse_args(argv)
    if min(args.batch, args.width, args.limit) < 0 or args.beam_width < 1:
        parser.error("--batch, --width and --limit are at least 0, --beam_width at least 1")

    cpu_settings.apply()
    from crnn_jax.core.files import whole_file
    from crnn_jax.exporting.plan import ExportPlan
    from crnn_jax.exporting.verify import open_sources, verify
    from crnn_jax.reading import compilation_cache
    from crnn_jax.reading.loaded_model import LoadedModel

    plan = ExportPlan(
        args.output,
        args.format,
        post=args.post or "",
        beam_width=args.beam_width,
        quantize=args.quantize,
        batch=args.batch,
        width=args.width,
        layout=args.layout,
    )
    plan.require_room(overwrite=args.overwrite)
    compilation_cache.enable()
    model = LoadedModel.open(args.model)
    # Before the export: a wrong name is told before half a minute of work.
    sources = open_sources(
        model, args.verify, images=args.images, annotation_format=args.annotation_format
    )
    print(f"writing {plan.output}, up to half a minute", file=sys.stderr)
    for path in plan.write(model, overwrite=args.overwrite):
        print(path)
    if not args.verify:
        return 0
    report = verify(model, plan, sources, limit=args.limit)
    with whole_file(f"{plan.output}.parity.txt") as file:
        file.write(report.text() + "\n")
    print(report.text(most=20))
    return 0 if report.passed else 1


if __name__ == "__main__":
    cli.run(main)
