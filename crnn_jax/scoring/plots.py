"""The report's plots as SVG by matplotlib, for the page, whose CSS gives the colours."""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from crnn_jax.scoring.calibration import reliability, threshold_curve
from crnn_jax.scoring.metrics import Sums, wilson

WIDTH, HEIGHT = 460, 300  # CSS pixels
CURVE_POINTS = 150
# Stand-ins for the page's CSS variables, which differ in light and dark.
GRID, SOFT, INK, ACCENT, BAR, CARD = (f"#00000{i}" for i in range(1, 7))
VARIABLES = {GRID: "grid", SOFT: "soft", INK: "ink", ACCENT: "accent", BAR: "bar", CARD: "card"}
DOT = {"marker": "o", "markersize": 9, "color": ACCENT, "markeredgecolor": CARD, "clip_on": False}
STYLE: dict[Any, Any] = {
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    **{f"{axis}tick.{key}": v for axis in "xy" for key, v in (("color", SOFT), ("major.size", 0))},
    "font.size": 11,
    "axes.labelsize": 12,
    "axes.labelcolor": SOFT,
    "xtick.major.pad": 7,
    "svg.fonttype": "none",
}


def reliability_plot(confidence: np.ndarray, right: np.ndarray) -> str:
    """Share right against confidence, in bins, with how many samples each bin holds."""

    def draw(axes: Any) -> None:
        axes.plot([0, 100], [0, 100], color=SOFT, lw=1, dashes=(4, 4))
        bins = reliability(confidence, right)
        for b in bins:
            # Most readings are sure: by the square root of their number, the others stay visible.
            tall = 22 * (b.samples / max(other.samples for other in bins)) ** 0.5
            tip = f"confidence {b.low:.1f} to {b.low + 0.1:.1f}: {b.right} of {b.samples} right"
            axes.bar(100 * b.low, tall, 10, align="edge", color=ACCENT, alpha=0.15)[0].set_gid(tip)
        for b in bins:
            share, x = 100 * b.right / b.samples, 100 * b.confidence
            _interval(axes, x, b.right, b.samples)
            tip = f"{share:.1f} % right at {x:.1f} % confidence, n = {b.samples}"
            axes.plot(x, share, gid=tip, **DOT)

    return _svg(draw, "confidence, %", "read correctly, %")


def coverage_plot(confidence: np.ndarray, right: np.ndarray) -> str:
    """Accuracy of the surest readings against their share of all."""
    kept, share = threshold_curve(confidence, right)

    def draw(axes: Any) -> None:
        if len(kept):
            some = np.unique(np.linspace(0, len(kept) - 1, CURVE_POINTS).astype(int))
            axes.plot(100 * kept[some], 100 * share[some], color=ACCENT, lw=2.2, clip_on=False)
            axes.plot(100, 100 * share[-1], gid=f"all: {100 * share[-1]:.1f} % right", **DOT)

    return _svg(draw, "share of samples kept, surest first, %", "right among them, %")


def groups_plot(groups: Mapping[str, Sums], what: str) -> str:
    """Exact accuracy of each group, with its interval and its number of samples."""

    def draw(axes: Any) -> None:
        names = []
        for i, (name, sums) in enumerate(groups.items()):
            share = 100 * sums.exact / sums.count
            tip = f"{what} {name}: {sums.exact} of {sums.count} right, {share:.1f} %"
            axes.bar(i, share, min(0.72, 0.12 * len(groups)), color=BAR)[0].set_gid(tip)
            _interval(axes, i, sums.exact, sums.count)
            short = name.replace(" or more", "+").replace("over ", ">").replace("under ", "<")
            count = f"{sums.count / 1000:.3g}k" if sums.count >= 1000 else str(sums.count)
            names.append(f"{short}\n{count}")
        axes.set_xlim(-0.5, max(len(groups), 1) - 0.5)
        axes.set_xticks(range(len(names)), names, size=9.5 if len(names) > 10 else 11)

    return _svg(draw, what, "read correctly, %")


def _interval(axes: Any, x: float, right: int, count: int) -> None:
    axes.vlines(x, *(100 * share for share in wilson(right, count)), color=INK, alpha=0.7)


def _svg(draw: Callable[[Any], None], xlabel: str, ylabel: str) -> str:
    """What is drawn into axes from 0 to 100 %."""
    import matplotlib
    from matplotlib.figure import Figure

    stream = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": xlabel}):  # unique ids
        figure = Figure((WIDTH / 72, HEIGHT / 72))
        axes = figure.add_axes((44 / WIDTH, 50 / HEIGHT, 1 - 56 / WIDTH, 1 - 64 / HEIGHT))
        axes.set(xlim=(0, 100), ylim=(0, 100), xlabel=xlabel, ylabel=ylabel)
        axes.xaxis.set_label_coords(0.5, -0.155)  # below two lines of ticks, in every plot
        axes.grid(axis="y", color=GRID)
        axes.set_axisbelow(True)
        draw(axes)
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=metadata)
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{ylabel}">'
    svg = re.sub(r"(?s)^.*?<svg [^>]*>\s*(<defs>\s*<style.*?</defs>)?", head, stream.getvalue())
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(r'<g id="([^"]* [^"]*)">', r"<g><title>\1</title>", svg)  # only tips have spaces
    return re.sub(r' id="[^"]*_\d+"', "", svg)
