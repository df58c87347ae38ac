"""The mistakes: how many of each kind in each set, the filters, and the cards."""

import collections
import html
import json
from collections.abc import Sequence

from crnn_jax.scoring.kinds import KINDS, RIGHT, kind_of
from crnn_jax.scoring.report.sections import table
from crnn_jax.scoring.result import EvaluationResult

LEGEND = (("c3", "95 % and more"), ("c2", "80 to 95"), ("c1", "50 to 80"), ("c0", "under 50"))


def gallery(result: EvaluationResult, cards: Sequence[str]) -> str:
    """The section as HTML.

    Args:
        result: what was read; its mistakes are counted, shown or not.
        cards: those that are shown.
    """
    names = list(result.sets)
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for row in result.rows:
        counts[row.set, kind_of(row)] += 1
    wrong = sum(count for (_, kind), count in counts.items() if kind != RIGHT)
    if not wrong:
        return '<section id="mistakes"><h2>Mistakes</h2><p>Everything was read right.</p></section>'
    lines = [["set", "right", *KINDS]]
    lines += [[name, *(f"{counts[name, kind]:,}" for kind in (RIGHT, *KINDS))] for name in names]
    # The script's own: totals behind "12 of 345".
    totals = [[counts[name, kind] for kind in KINDS] for name in names]
    data = html.escape(json.dumps({"kinds": KINDS, "totals": totals}))
    sets = "".join(f'<option value="{i}">{html.escape(name)}' for i, name in enumerate(names))
    kinds = "".join(
        f'<option value="{kind}">{kind} ({sum(counts[name, kind] for name in names):,})'
        for kind in KINDS
    )
    orders = "".join(
        f'<button type="button" data-order="{order}" aria-pressed="{pressed}">{name}</button>'
        for order, pressed, name in (
            ("sure", "true", "Most confident"),
            ("worst", "false", "Worst"),
        )
    )
    legend = "".join(f'<span class="{step}"><i></i>{text}</span>' for step, text in LEGEND)
    return f"""<section id="mistakes"><h2>Mistakes</h2>
{table(lines)}
<p class="note">{len(cards):,} of {wrong:,} mistakes are shown below: the most confident, the worst,
and some of every kind in every set.</p>
<div class="filters" data-counts="{data}">
<span class="switch">{orders}</span>
<label>set <select id="set"><option value="">all{sets}</select></label>
<label>kind <select id="kind"><option value="">all{kinds}</select></label>
<label>text <input id="find" type="search" placeholder="in label or reading"></label>
<output></output></div>
<p class="legend">confidence of a character, in percent: {legend}</p>
<div class="cards">{"".join(cards)}</div></section>"""
