"""What `check` finds out about sets before anyone trains on them; nothing is printed here."""

import concurrent.futures
import dataclasses
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import frames_needed_flat, num_frames
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.buckets import propose_boundaries, propose_max_width
from crnn_jax.data.characters import characters_of, folded, table_of
from crnn_jax.data.files import FileSource
from crnn_jax.data.plan import Plan
from crnn_jax.data.progress import Progress
from crnn_jax.data.source import Reasons
from crnn_jax.data.stored import open_stored
from crnn_jax.data.survey import Survey, overlap, survey
from crnn_jax.data.usable import CHUNK, described, trainable

TIGHTEST = 5  # samples named
BATCH = 64  # of the plan whose padding is told
CASE = "outside the table by its case alone (charset.ignore_case=True folds it)"
SQUEEZED = "wider than max_width, squeezed"
STRETCHED = "narrower than min_width, stretched"


@dataclasses.dataclass(frozen=True)
class Options:
    """How to look.

    Attributes:
        table: character table; '' takes every character that occurs.
        ignore_case, images, format: as in training.
        preprocessing, geometry, max_label_length: tell which labels fit.
        decode: pictures to decode, spread over each set; -1 all of them.
        compare_bytes: find equal files under different names.
        buckets: to propose, at most.
    """

    table: str
    ignore_case: bool
    images: str
    format: str
    preprocessing: Preprocessing
    geometry: str
    max_label_length: int
    decode: int
    compare_bytes: bool
    buckets: int


def inspect(annotations: Sequence[str], options: Options) -> dict[str, Any]:
    """Looks at sets, the first of which is to be trained on.

    Args:
        annotations: files, or folders labelled by their file names.
        options: how.

    Returns:
        JSON-ready: 'sets' (one each), 'characters', 'overlap', 'proposal' and 'command'.

    Raises:
        UserError: naming file and line.
    """
    counted = [
        characters_of(name, format=options.format, images=options.images) for name in annotations
    ]
    everything = sum(counted, Counter())
    if options.table:
        charset = Charset.read(options.table, options.ignore_case)
    elif everything:
        charset = table_of(everything, options.ignore_case)
    else:
        raise UserError(f"{annotations[0]}: no label has any character")
    sources = [_open(name, charset, options) for name in annotations]
    surveys = [survey(source, options.compare_bytes) for source in sources]
    looked = [_look(source, found, options) for source, found in zip(sources, surveys, strict=True)]
    proposal = _proposal(sources[0], *looked[0][1:], options)
    return {
        "sets": [one[0] for one in looked],
        "characters": _about_characters(everything, charset, options),
        "overlap": [
            {
                "sets": [one, other],
                "by": kind,
                "count": len(ids),
                "examples": [
                    next(s for s in sources if s.name == other).path(i) for i in ids[:TIGHTEST]
                ],
            }
            for one, other, kind, ids in overlap(sources, surveys)
        ],
        "proposal": proposal,
        "command": _command(annotations, charset, proposal, options),
    }


def _open(name: str, charset: Charset, options: Options) -> FileSource:
    return open_stored(
        name, charset, format=options.format, images=options.images, unknown="unusable", cache=True
    )


def _about_characters(counted: Counter[str], charset: Charset, options: Options) -> dict[str, Any]:
    known = set(charset.characters)
    unknown = {c: n for c, n in counted.most_common() if not set(charset.normalize(c)) <= known}
    occurring = {folded for c in counted for folded in charset.normalize(c)}
    return {
        "table": options.table,
        "counts": dict(counted.most_common()),
        "unknown": unknown,
        "never": [c for c in charset.characters if c not in occurring],
        "proposed": folded(counted, options.ignore_case),
    }


def _look(
    source: FileSource, found: Survey, options: Options
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """(what there is to tell of a set, bool [n] usable, int64 [n] natural widths, 0 unknown)."""
    rule = options.preprocessing
    usable, reasons = trainable(
        source, rule, options.geometry, options.max_label_length, headers=True
    )
    decoded = _decode(source, usable, reasons, options.decode)
    widths = np.zeros(len(source), np.int64)
    needed = np.zeros(len(source), np.int32)
    for begin in range(0, len(source), CHUNK):
        ids = begin + np.flatnonzero(usable[begin : begin + CHUNK])
        sizes = source.sizes(ids).astype(np.int64)
        widths[ids] = rule.natural_width(sizes[:, 0], sizes[:, 1])
        needed[ids] = frames_needed_flat(*source.labels_of(ids))
    notes = Reasons()
    notes.update(found.notes)
    notes.add(CASE, [source.where(source.index.counts["first case"])], source.index.counts["case"])
    notes.update(source.about_paths())
    if rule.free_width:
        for reason, marked in (
            (SQUEEZED, usable & (widths > rule.max_width)),
            (STRETCHED, usable & (widths < rule.min_width)),
        ):
            ids = np.flatnonzero(marked)
            notes.add(reason, (described(source, i) for i in ids.tolist()), ids.size)
    lengths = np.diff(source.labels[1])[usable]
    return (
        {
            "name": source.name,
            "format": source.format,
            "samples": len(source),
            "trainable": int(usable.sum()),
            "decoded": decoded,
            "unusable": reasons.to_json(),
            "notes": notes.to_json(),
            "tightest": _tightest(source, usable, widths, needed, options),
            "label_lengths": _histogram(lengths),
            "widths": _histogram(widths[usable]),
        },
        usable,
        widths,
    )


def _decode(source: FileSource, usable: np.ndarray, reasons: Reasons, wanted: int) -> int:
    """Decodes pictures; those that cannot be are taken out of `usable`. Returns how many."""
    ids = np.flatnonzero(usable)
    if 0 <= wanted < ids.size:
        ids = ids[np.linspace(0, ids.size, wanted, endpoint=False).astype(np.int64)]
    progress = Progress(f"{source.name}: pictures decoded", ids.size)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        read = pool.map(lambda i: source.read(np.array([i]))[0], ids.tolist())
        for done, (i, picture) in enumerate(zip(ids.tolist(), read, strict=True)):
            if isinstance(picture, str):
                usable[i] = False
                reasons.add(picture, [described(source, i)])
            progress(done + 1)
    return int(ids.size)


def _tightest(
    source: FileSource,
    usable: np.ndarray,
    widths: np.ndarray,
    needed: np.ndarray,
    options: Options,
) -> list[dict[str, Any]]:
    """The usable samples with the fewest frames for what their label needs."""
    rule = options.preprocessing
    shown = np.clip(widths, rule.min_width, rule.max_width) if rule.free_width else rule.width
    frames = np.broadcast_to(num_frames(shown, options.geometry), widths.shape)
    share = np.where(usable & (needed > 0), frames / np.maximum(needed, 1), np.inf)
    ids = np.argsort(share, kind="stable")[:TIGHTEST]
    return [
        {
            "path": source.path(i),
            "text": source.text(i),
            "frames": int(frames[i]),
            "needed": int(needed[i]),
        }
        for i in ids.tolist()
        if np.isfinite(share[i])
    ]


def _histogram(values: np.ndarray) -> dict[str, int]:
    found, times = np.unique(values, return_counts=True)
    return {str(v): n for v, n in zip(found.tolist(), times.tolist(), strict=True)}


def _proposal(
    source: FileSource, usable: np.ndarray, widths: np.ndarray, options: Options
) -> dict[str, Any]:
    """Widths and lengths that suit the training set."""
    if not usable.any():
        return {}
    natural = widths[usable]
    rule = options.preprocessing
    max_width = max(propose_max_width(natural), rule.min_width)
    boundaries = propose_boundaries(np.clip(natural, rule.min_width, max_width), options.buckets)
    max_width = boundaries[-1]  # wider ones would be one shape more
    rule = dataclasses.replace(rule, width=0, max_width=max_width)
    plan = Plan(
        source,
        batch_size=BATCH,
        boundaries=boundaries,
        preprocessing=rule,
        geometry=options.geometry,
    )
    return {
        "max_width": max_width,
        "boundaries": list(boundaries),
        "padding": round(plan.padding_share(), 4),
        "batch_size": BATCH,
        "longest_label": int(np.diff(source.labels[1])[usable].max()),
    }


def _command(
    annotations: Sequence[str], charset: Charset, proposal: dict[str, Any], options: Options
) -> str:
    """The training command to run next."""
    keys = {"data.train": annotations[0]}
    if len(annotations) > 1:
        keys["data.validation"] = ",".join(annotations[1:])
    else:
        keys["data.split"] = "10%"
    if options.images:
        keys["data.images"] = options.images
    if options.format != "auto":
        keys["data.format"] = options.format
    if options.table:
        keys["charset.table"] = options.table
    else:
        keys |= {"charset.table": "", "charset.characters": "".join(charset.characters)}
    keys["charset.ignore_case"] = str(options.ignore_case)
    if proposal:
        keys["preprocessing.width"] = "0"
        keys["preprocessing.max_width"] = str(proposal["max_width"])
        keys["data.boundaries"] = str(tuple(proposal["boundaries"])).replace(" ", "")
    flags = [f"--config.{key}={value}" for key, value in keys.items()]
    command = ["python", "-m", "crnn_jax.main", "--config=configs/words.py", *flags]
    return shlex.join(command)
