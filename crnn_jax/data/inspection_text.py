"""What `inspection` found, as text for people."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from crnn_jax.data.formats import shown, shown_path

BARS = 40  # characters of the longest bar
ROWS = 16  # of a histogram, at most


def text_of(report: dict[str, Any]) -> Iterator[str]:
    """The report line by line."""
    for one in report["sets"]:
        yield from _set_lines(one)
    yield from _character_lines(report["characters"])
    for shared in report["overlap"]:
        one, other = shared["sets"]
        yield f"{shared['count']:,} pictures of {other} stand in {one} too, by {shared['by']}:"
        yield from _examples(map(shown_path, shared["examples"]))
    proposal = report["proposal"]
    if proposal:
        boundaries = proposal["boundaries"]
        yield (
            f"proposed for {report['sets'][0]['name']}: max_width {proposal['max_width']} px, "
            f"{len(boundaries)} shapes {tuple(boundaries)}: "
            f"{100 * proposal['padding']:.1f} % padding in batches of {proposal['batch_size']}; "
            f"longest label {proposal['longest_label']} characters"
        )
    yield ""
    yield "to train on it:"
    yield f"  {report['command']}"


def _set_lines(one: dict[str, Any]) -> Iterator[str]:
    left_out = one["samples"] - one["trainable"]
    yield (
        f"{one['name']} ({one['format']}): {one['samples']:,} samples, {one['trainable']:,} can "
        f"be trained on, {left_out:,} cannot; {one['decoded']:,} pictures decoded"
    )
    yield from _reason_lines("cannot be used", one["unusable"])
    yield from _reason_lines("worth a look", one["notes"])
    if one["tightest"]:
        yield "  tightest (frames for what the label needs):"
        for row in one["tightest"]:
            path, text = shown_path(row["path"]), shown(row["text"])
            yield f"    {row['frames']} for {row['needed']}: {path} {text}"
    yield from _histogram_lines("characters a label", one["label_lengths"])
    yield from _histogram_lines("width in pixels at the network's height", one["widths"])
    yield ""


def _reason_lines(title: str, reasons: dict[str, Any]) -> Iterator[str]:
    if reasons:
        yield f"  {title}:"
    for reason, found in reasons.items():
        yield f"    {found['count']:,} {reason}"
        yield from _examples(found["examples"][:3])


def _examples(examples: Iterable[str]) -> Iterator[str]:
    for example in examples:
        yield f"      {example}"


def _histogram_lines(title: str, histogram: dict[str, int]) -> Iterator[str]:
    if not histogram:
        return
    values = np.array([int(value) for value in histogram])
    times = np.array(list(histogram.values()))
    yield f"  {title}: {values.min()} to {values.max()}"
    edges = np.unique(np.linspace(values.min(), values.max() + 1, ROWS + 1).astype(np.int64))
    spans = list(itertools.pairwise(edges.tolist()))
    sums = [int(times[(values >= low) & (values < high)].sum()) for low, high in spans]
    for (low, high), count in zip(spans, sums, strict=True):
        span = f"{low}" if high == low + 1 else f"{low}-{high - 1}"
        bar = "#" * -(-BARS * count // max(sums))
        yield f"    {span:>9} {count:>9,} {bar}".rstrip()


def _character_lines(characters: dict[str, Any]) -> Iterator[str]:
    counts = characters["counts"]
    yield f"{len(counts)} different characters in {sum(counts.values()):,}"
    if characters["unknown"]:
        met = [f"{c!r} {n:,}" for c, n in characters["unknown"].items()]
        more = f" and {len(met) - 20} more" if len(met) > 20 else ""
        yield f"  not in {characters['table']}: " + ", ".join(met[:20]) + more
    if characters["never"]:
        yield "  in the table, but never in a label: " + " ".join(map(repr, characters["never"]))
    yield f"  a table of all of them: {characters['proposed']!r}"
