"""Scores a model on annotated images. Every sample counts; an unreadable one counts as wrong.

  python -m crnn_jax.evaluate -a ANNOTATION... [-m MODEL] [--decoder greedy|beam|both] [--json]
      [-o FOLDER_OR_FILE] [--report DIR] [--compare OTHER_MODEL] [--calibrate MODEL]
  python -m crnn_jax.evaluate --compare A/predictions.tsv B/predictions.tsv [-o FOLDER_OR_FILE]

Prints, for each annotation file and for all together, the accuracy: exact, ignoring case, and by
letters and digits only, with 95 % intervals; the character error rate (CER, edits per character),
the mean of 1 - normalised edit distance (1-NED), and the calibration error of the confidences.
--compare also counts where only one of two models is correct, with a test of significance.
--calibrate first fits the temperature of the confidences.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from crnn_jax import cli

OUTPUT = """FOLDER: result.json, result.md, predictions.tsv; FILE: every sample with its reading
(of --decoder both: beam search's) as TSV, or JSON lines for .json(l); the tables for .md"""
COMPARE = "a second model, or its predictions.tsv; two such files need neither -a nor a model"
CALIBRATE = """fit the temperature of the confidences on these annotation files (validation data,
never the test set), write the model with it to MODEL, and evaluate that"""


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates as the flags say; returns the exit code."""
    args = _arguments(argv)
    from crnn_jax.scoring import output
    from crnn_jax.scoring.compare import compare

    if args.annotation is None:
        a, b = map(output.read_predictions, args.compare)
        _print_comparison(args, found := compare(a, b), output.comparison_table(found))
        about = dict(zip("AB", args.compare, strict=True))
        output.write_outputs(args.output, a, about, found, b)
        return 0
    cli.set_up_jax()
    from crnn_jax.reading.evaluator import Evaluator
    from crnn_jax.scoring import html_report

    shared = ("decoder", "batch_size", "format", "images", "split", "views")
    same = {k: getattr(args, k) for k in shared} | {"options": cli.decoder_options(args)}
    evaluator = Evaluator.open(args.model, args.annotation, **same)
    other: Any = None
    if args.compare and output.means_predictions(args.compare[0]):
        other = output.read_predictions(args.compare[0])
    elif args.compare:
        other = Evaluator.open(args.compare[0], args.annotation, **same)
    for one in (evaluator, other):
        if isinstance(one, Evaluator):
            cli.tell_left_out(args, one.decoders[-1])
    output.require_writable(args.output, args.report and html_report.page_of(args.report))
    if args.calibrate is not None:
        before, fitted = evaluator.recognizer.temperature, evaluator.calibrate(args.calibrate)
        note = " stays: every image is read correctly, or none" if fitted == before else ""
        print(f"{args.calibrate}: temperature {fitted:.3f}{note}", file=sys.stderr)
    results = {}
    for decoder in evaluator.decoders:
        result = results[decoder.name] = evaluator.evaluate(decoder)
        for record in result.to_json() if args.json else ():
            print(cli.json_line({"decoder": decoder.name} | record))
        if not args.json:
            print((f"{decoder.name}:\n" if args.decoder == "both" else "") + output.table(result))
    name, result = list(results.items())[-1]
    about = {"model": args.calibrate or args.model or "the one that ships", "decoder": name}
    comparison = theirs = None
    try:
        if other is not None:
            about["compared with (B)"] = args.compare[0]
            theirs = other.evaluate() if isinstance(other, Evaluator) else other
            comparison = compare(result, theirs)
            _print_comparison(args, comparison, output.comparison_table(comparison))
    finally:  # what was read is written, even if B is of other samples
        output.write_outputs(args.output, result, about, comparison, theirs)
        if args.report:
            page = evaluator.report(args.report, result, about, comparison)
            print(f"report: {page}", file=sys.stderr)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser("evaluate", __doc__)
    about = "annotation file, or folder labelled by its file names"
    parser.add_annotation(about, nargs="+", metavar="ANNOTATION")
    parser.add_model()
    about = "evaluate only what data.split ('10%%', '0/5') holds out in training"
    parser.add_argument("--split", default="", help=about)
    parser.add_decoder(default="greedy")
    parser.add_views()
    about = "images per batch (64)"
    parser.add_argument("-b", "--batch_size", type=cli.number(1), default=64, help=about)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("-o", "--output", help=OUTPUT)
    parser.add_argument("--report", metavar="DIR", help="folder for an HTML report")
    parser.add_argument("--compare", nargs="+", default=[], metavar="B", help=COMPARE)
    parser.add_argument("--calibrate", metavar="MODEL", help=CALIBRATE)
    parser.add_settled_by_model()
    args = parser.parse_args(argv)
    if args.annotation is None and len(args.compare) != 2:
        parser.error("which samples? name them by -a/--annotation, or --compare two predictions")
    unset = vars(parser.parse_args([])) if args.annotation is None else {}
    for flag in sorted(unset.keys() - {"compare", "output", "json"}):
        if getattr(args, flag) != unset[flag]:
            parser.error(f"--{flag.replace('_', '-')} needs images: name them by -a/--annotation")
    if args.annotation is not None and len(args.compare) > 1:
        parser.error(f"--compare {' '.join(args.compare)}: give one model; -m names the other")
    return args


def _print_comparison(args: argparse.Namespace, comparison: Any, table: str) -> None:
    record = {"compare": args.compare, "sets": comparison.to_json()}
    print(cli.json_line(record) if args.json else table)


if __name__ == "__main__":
    cli.run(main)
