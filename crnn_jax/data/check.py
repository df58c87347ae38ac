"""What `crnn_jax.check` finds out about sets before anyone trains on them."""

import concurrent.futures
import dataclasses
import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing, propose_widths, widened
from crnn_jax.data.files import FileSource
from crnn_jax.data.plan import Plan
from crnn_jax.data.source import EXAMPLES, described, progress_bar, seen_labels, trainable
from crnn_jax.data.sources import charset_from, count_characters

GEOMETRY = "keras"
BATCH = 64  # of the plan whose padding is reported

# What is worth a look, but stops nothing.
NOT_NFC = "label not in NFC (composed when read)"
ODD_SPACE = "odd white space in the label"
SAME_PATH = "image listed again"
OTHER_LABEL = "image listed again with another label"
CASE = "outside the table by its case alone (charset.ignore_case=True folds it)"
SQUEEZED = "wider than max_width, squeezed"
STRETCHED = "narrower than min_width, stretched"

# At an end, doubled, other than U+0020, or invisible.
_ODD_SPACE = re.compile(r"^\s|\s$|\s\s|[^\S ]|[\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2060\ufeff]")


def inspect(annotations: Sequence[str], options: Any, rule: Preprocessing) -> dict[str, Any]:
    """Looks at sets (what `FileSource` opens), the first to be trained on, as `check`'s flags say.

    Returns:
        JSON-ready: 'sets' (one each), 'characters', 'overlap' (images), 'label_overlap' (samples
        of each later set whose label the first has too), 'proposal' and 'command'.
    """
    counts = [count_characters([name], options.format, options.images) for name in annotations]
    trained, counted = counts[0], sum(counts, Counter())
    if not trained:
        raise UserError(f"{annotations[0]}: no label has any character")
    every = charset_from(trained, options.ignore_case)
    charset = Charset.read(options.table, options.ignore_case) if options.table else every
    opening = {"format": options.format, "images": options.images, "cache": True}
    sources = [FileSource(name, charset, **opening) for name in annotations]
    sizes = sources[0].sizes(np.arange(len(sources[0])))
    rule = widened(rule, rule.natural_width(*sizes[sizes[:, 0] > 0].T))  # as training does
    sets = [_Set(source, options.decode, rule) for source in sources]
    known = set(charset.characters)
    occurring = {folded for c in counted for folded in charset.normalize(c)}
    unknown = {c: n for c, n in counted.most_common() if not set(charset.normalize(c)) <= known}
    train, *others = sources
    seen = seen_labels(train, others)
    return {
        "sets": [one.report() for one in sets],
        "characters": {
            "table": options.table,
            "counts": dict(counted.most_common()),
            "unknown": unknown,
            "never": [c for c in charset.characters if c not in occurring],
            "proposed": "".join(every.characters),
            "gaps": every.gaps,
        },
        "overlap": list(_overlaps(sets)),
        "label_overlap": {other.name: int(n.sum()) for other, n in zip(others, seen, strict=True)},
        "proposal": sets[0].proposal(),
        "command": _command(annotations, options, train),
    }


class _Set:
    """A set and what is found in it; arrays are [n]."""

    def __init__(self, source: FileSource, decode: int, rule: Preprocessing) -> None:
        self.source, self.rule = source, rule
        self.usable, self.reasons = trainable(source, rule, GEOMETRY, headers=True)
        self.decoded = self._decode(decode)
        n = len(source)
        self.widths = np.zeros(n, np.int64)  # natural ones in pixels; 0 where not usable
        ids = np.flatnonzero(self.usable)
        self.widths[ids] = rule.natural_width(*source.sizes(ids).T)
        self.label_lengths = np.diff(source.labels[1])[self.usable]
        self.notes = source.notes
        self.notes.add(CASE, [source.other_case()], source.index.counts["case"])
        self.paths = np.zeros(n, np.int64)  # hashes of the images' absolute paths
        self._survey()
        squeezed, stretched = self.widths > rule.max_width, self.widths < rule.min_width
        for reason, marked in ((SQUEEZED, squeezed), (STRETCHED, stretched & self.usable)):
            ids = np.flatnonzero(marked & rule.free_width)
            self.notes.add(reason, (described(source, i) for i in ids.tolist()), ids.size)

    def _decode(self, wanted: int) -> int:
        """Decodes images; those that fail are no longer `usable`. Returns how many it tried."""
        ids = np.flatnonzero(self.usable)
        if 0 <= wanted < ids.size:
            ids = ids[np.linspace(0, ids.size, wanted, endpoint=False).astype(np.int64)]
        with (
            progress_bar(f"{self.source.name}: images decoded", ids.size) as bar,
            concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        ):
            read = pool.map(self.source.read, np.array_split(ids, ids.size // 64 + 1))
            for i, image in zip(ids.tolist(), (x for some in read for x in some), strict=True):
                if isinstance(image, str):
                    self.usable[i] = False
                    self.reasons.add(image, [described(self.source, i)])
                bar.update()
        return int(ids.size)

    def _survey(self) -> None:
        """Looks at every line for oddities and repetitions."""
        source, notes = self.source, self.notes
        for i in range(len(source)):
            path, label = source.line(i)
            self.paths[i] = hash(os.path.abspath(os.path.join(source.reader.root, path)))
            if not unicodedata.is_normalized("NFC", label):
                notes.add(NOT_NFC, map(source.where, [i]))  # it reads the file
            if _ODD_SPACE.search(label):
                notes.add(ODD_SPACE, map(source.where, [i]))
        _, first, inverse = np.unique(self.paths, return_index=True, return_inverse=True)
        first = first[inverse]  # the sample that lists the same image first
        for i in np.flatnonzero(first != np.arange(len(source))).tolist():
            same = source.text(i) == source.text(int(first[i]))
            notes.add(SAME_PATH if same else OTHER_LABEL, map(source.where, [i]))

    def report(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.source.name,
            "format": self.source.format,
            "samples": len(self.source),
            "trainable": int(self.usable.sum()),
            "decoded": self.decoded,
            "unusable": self.reasons.to_json(),
            "notes": self.notes.to_json(),
            "label_lengths": _histogram(self.label_lengths),
            "widths": _histogram(self.widths[self.usable]),
        }

    def proposal(self) -> dict[str, Any]:
        """Widths and lengths that suit training on this set."""
        if not self.usable.any():
            return {}
        boundaries = propose_widths(self.widths[self.usable], self.rule)
        max_width = boundaries[-1]  # wider ones would be one shape more
        plan = Plan(
            self.source,
            batch_size=BATCH,
            boundaries=boundaries,
            preprocessing=dataclasses.replace(self.rule, width=0, max_width=max_width),
            geometry=GEOMETRY,
        )
        return {
            "max_width": max_width,
            "boundaries": list(boundaries),
            "padding": round(plan.padding_share(), 4),
            "batch_size": BATCH,
            "longest_label": int(self.label_lengths.max()),
        }


def _overlaps(sets: Sequence[_Set]) -> Iterator[dict[str, Any]]:
    """Images that two sets have in common."""
    for one, other in ((one, other) for j, other in enumerate(sets) for one in sets[:j]):
        ids = np.flatnonzero(np.isin(other.paths, one.paths)).tolist()
        if ids:
            examples = [other.source.identity(i) for i in ids[:EXAMPLES]]
            names = [one.source.name, other.source.name]
            yield {"sets": names, "count": len(ids), "examples": examples}


def _histogram(values: np.ndarray) -> dict[str, int]:
    found, times = np.unique(values, return_counts=True)
    return {str(v): n for v, n in zip(found.tolist(), times.tolist(), strict=True)}


def _command(annotations: Sequence[str], options: Any, train: FileSource) -> str:
    """The training command to run next; the config takes widths and characters from the data."""
    keys = {
        "data.train": annotations[0],
        "data.validation": ",".join(annotations[1:]),
        "data.images": options.images,
        "data.format": "" if options.format == "auto" else options.format,
        "charset.table": options.table,
        "charset.ignore_case": options.ignore_case or train.fails_on_case,
        "preprocessing.width": options.width,
    }
    flags = [f"--config.{key}={value}" for key, value in keys.items() if value]
    return shlex.join(["python", "-m", "crnn_jax.main", "--config=configs/words.py", *flags])
