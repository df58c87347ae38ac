"""Scores a model on annotated pictures: every sample counts, what cannot be read counts as wrong.

  python -m crnn_jax.evaluate -a ANNOTATION... [-m MODEL] [--decoder greedy|beam|both] [--json]
      [-o FILE] [--calibrate MODEL]

Prints, for each annotation file and for all together, the shares read exactly, ignoring case, and
by letters and digits alone, with 95 % intervals; edits per character (CER) and the mean of 1 -
normalised edit distance (1-NED); and how far confidences are from the share that is right.
With --calibrate, confidences are first brought as near to it as one temperature can.
"""

import sys
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
    cli.add_decoder_flags(parser, default="greedy")
    parser.add_argument(
        "-b", "--batch_size", type=int, default=64, help="pictures at once, for speed or memory"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument(
        "-o",
        "--output",
        help="every sample with its reading (of both: beam search's): TSV, JSON lines for .json(l)",
    )
    parser.add_argument(
        "--calibrate",
        metavar="MODEL",
        help="find the temperature of confidences on these annotation files (validation data, "
        "never the test set), write the model with it there, and evaluate that",
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
    from crnn_jax.deploy.decoder import Decoder, open_decoder
    from crnn_jax.deploy.evaluation import evaluate_source, open_annotation
    from crnn_jax.deploy.recognizer import Recognizer
    from crnn_jax.scoring.result import EvaluationResult

    Decoder(args.decoder)  # a wrong name is told before anything is read
    compilation_cache.enable()
    recognizer = Recognizer.load(args.model)
    # All files are looked at before the first is read: a wrong name is told at once.
    sources = [
        open_annotation(recognizer, path, form=args.format, images=args.images, split=args.split)
        for path in args.annotation
    ]
    name = "beam" if args.decoder == "both" else args.decoder
    decoders = [open_decoder(recognizer.charset, name, **cli.decoder_options(args))]
    if args.decoder == "both":
        decoders.insert(0, Decoder("greedy"))
    if args.calibrate is not None:
        from crnn_jax.deploy.calibration import calibrate, save_calibrated

        recognizer.temperature = calibrate(recognizer, sources, decoders[-1], args.batch_size)
        save_calibrated(recognizer.name, args.calibrate, recognizer.temperature)
        print(f"{args.calibrate}: temperature {recognizer.temperature:.3f}", file=sys.stderr)
    result = EvaluationResult()
    for decoder in decoders:
        result = EvaluationResult()
        for source in sources:
            result += evaluate_source(recognizer, source, args.batch_size, decoder)
        if args.json:
            for record in result.to_json():
                print(cli.json_line({"decoder": decoder.name} | record))
        else:
            print(f"{decoder.name}:\n{result.table()}" if len(decoders) > 1 else result.table())
    if args.output is not None:
        with cli.output(args.output) as stream:
            result.write_rows(stream, as_json=args.output.endswith((".json", ".jsonl")))
    return 0


if __name__ == "__main__":
    cli.run(main)
