"""Checks data before training: what can be used, what cannot and why, and how to train on it.

  python -m crnn_jax.check -a TRAIN [VALIDATION ...] [--table T] [--images DIR] [--json] [-o FILE]
  python -m crnn_jax.check --config=configs/words.py --config.data.train=TRAIN

Reports for each data set the samples that cannot be trained on, by reason with examples, unusual
labels, duplicates and histograms; then characters, overlap between the sets, proposals for the
table, bucket widths and max_width, and the training command. --config: reports what that run
would do.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from crnn_jax import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Checks as the flags say; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if any(word.startswith("--config") for word in words):
        from crnn_jax import settings

        run = settings.parse(words)
        from crnn_jax.training.loop import preview

        for line in preview(run.config, run.workdir, with_new_config=run.with_new_config):
            print(line)
        return 0
    parser = cli.Parser("check", __doc__)
    about = "annotation files, or folders labelled by their file names; the first is for training"
    parser.add_annotation(about, nargs="+", required=True, metavar="ANNOTATION")
    about = "character table (default: proposes one)"
    parser.add_argument("-t", "--table", "--table_path", default="", help=about)
    parser.add_argument("--ignore_case", action="store_true", help="convert labels to one case")
    parser.add_argument("--width", type=int, default=0, help="fixed width in pixels; 0 = free")
    about = "images of each set to decode, evenly spread; -1: all (20,000)"
    parser.add_argument("--decode", type=int, default=20_000, help=about)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("-o", "--output", help="file to write to instead of stdout")
    args = parser.parse_args(words)

    from crnn_jax.core.preprocessing import Preprocessing
    from crnn_jax.data.check import inspect

    report = inspect(args.annotation, args, Preprocessing(width=args.width))
    with cli.output(args.output) as stream:
        for line in [cli.json_line(report)] if args.json else text_of(report):
            print(line, file=stream)
    return 0


def text_of(report: dict[str, Any]) -> Iterator[str]:
    """The report line by line."""
    from crnn_jax.core.errors import shown_path

    for one in report["sets"]:
        yield from _set_lines(one)
    characters = report["characters"]
    counts, met = characters["counts"], [f"{c!r} {n:,}" for c, n in characters["unknown"].items()]
    yield f"{len(counts)} different characters in {sum(counts.values()):,}"
    if met:
        more = f" and {len(met) - 20} more" if len(met) > 20 else ""
        table = characters["table"] or "the labels to be trained on"
        yield f"  not in {table}: " + ", ".join(met[:20]) + more
    if characters["never"]:
        yield "  in the table, but never in a label: " + " ".join(map(repr, characters["never"]))
    yield f"  a table of all of them: {characters['proposed']!r}"
    if characters["gaps"]:
        yield (
            f"  they lack {characters['gaps']!r}, which would be misread: add them to "
            "charset.characters, or keep those of init_from (charset.keep=True)"
        )
    for shared in report["overlap"]:
        one, other = shared["sets"]
        yield f"{shared['count']:,} images of {other} are in {one} too:"
        yield from (f"      {shown_path(path)}" for path in shared["examples"])
    train, *others = report["sets"]
    for one in others:
        if count := report["label_overlap"][one["name"]]:
            share = f"{count:,} of {one['samples']:,} labels of {one['name']} occur in"
            yield f"{share} {train['name']} too: accuracy on them says little about new ones"
    if proposal := report["proposal"]:
        boundaries = tuple(proposal["boundaries"])
        yield (
            f"proposed for {report['sets'][0]['name']}: max_width {proposal['max_width']} px, "
            f"{len(boundaries)} shapes {boundaries}: {100 * proposal['padding']:.1f} % padding in "
            f"batches of {proposal['batch_size']}; "
            f"longest label {proposal['longest_label']} characters"
        )
        yield from ("", "to train on it:", f"  {report['command']}")


def _set_lines(one: dict[str, Any]) -> Iterator[str]:
    left_out = one["samples"] - one["trainable"]
    yield (
        f"{one['name']} ({one['format']}): {one['samples']:,} samples, {one['trainable']:,} can "
        f"be trained on, {left_out:,} cannot; {one['decoded']:,} images decoded"
    )
    for title, reasons in (("cannot be used", one["unusable"]), ("worth a look", one["notes"])):
        yield from [f"  {title}:"] if reasons else []
        for reason, found in reasons.items():
            yield f"    {found['count']:,} {reason}"
            yield from (f"      {example}" for example in found["examples"][:3])
    yield from cli.histogram("characters a label", one["label_lengths"])
    yield from cli.histogram("width in pixels at the network's height", one["widths"])
    yield ""


if __name__ == "__main__":
    cli.run(main)
