"""Scores a model on annotated pictures: every sample counts, what cannot be read counts as wrong.

  python -m crnn_jax.evaluate -a ANNOTATION... [-m MODEL] [--json] [-o FILE]

Prints, for each annotation file and for all together, the shares read exactly, ignoring case, and
by letters and digits alone, with 95 % intervals; edits per character (CER) and the mean of 1 -
normalised edit distance (1-NED).
"""

from collections.abc import Sequence

from crnn_jax import cli, xla_flags


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates as the flags say; returns the exit code."""
    parser = cli.Parser("evaluate", __doc__)
    parser.add_argument(
        "-a",
        "--annotation",
        "--annotation_paths",
        nargs="+",
        required=True,
        metavar="ANNOTATION",
        help="annotation file, or folder labelled by its file names",
    )
    parser.add_argument("-m", "--model", help="model file or workdir (default: the one that ships)")
    parser.add_argument("--images", default="", help="folder at which the paths start")
    parser.add_argument("--format", default="auto", help="of the annotation files")
    parser.add_argument(
        "--split",
        default="",
        help="as data.split in training ('10%%', '0/5'): only what that keeps for validation",
    )
    parser.add_argument("--decoder", default="greedy", help="greedy")
    parser.add_argument(
        "-b", "--batch_size", type=int, default=64, help="pictures at once, for speed or memory"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument(
        "-o", "--output", help="every sample with its reading: TSV, or JSON lines for .json(l)"
    )
    answer = "the model file holds its characters"
    parser.add_settled("-t", "--table_path", "--table", answer=answer)
    parser.add_settled("-w", "--img_width", answer="the model file knows how to resize")
    parser.add_settled("--img_channels", answer="the model file knows how many there are")
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error(f"-b {args.batch_size}: at least 1")

    xla_flags.set_for_cpu()
    from crnn_jax.deploy import compilation_cache
    from crnn_jax.deploy.evaluation import evaluate_source, open_annotation
    from crnn_jax.deploy.recognizer import Recognizer, check_decoder
    from crnn_jax.scoring.result import EvaluationResult

    check_decoder(args.decoder)
    compilation_cache.enable()
    recognizer = Recognizer.load(args.model)
    # All files are looked at before the first is read: a wrong name is told at once.
    sources = [
        open_annotation(recognizer, path, form=args.format, images=args.images, split=args.split)
        for path in args.annotation
    ]
    result = EvaluationResult()
    for source in sources:
        result += evaluate_source(recognizer, source, args.batch_size)
    if args.output is not None:
        with cli.output(args.output) as stream:
            result.write_rows(stream, as_json=args.output.endswith((".json", ".jsonl")))
    if args.json:
        for record in result.to_json():
            print(cli.json_line(record))
    else:
        print(result.table())
    return 0


if __name__ == "__main__":
    cli.run(main)
