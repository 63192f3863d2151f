"""Plots as inline SVG whose colours are the page's own, so that they follow light and dark.

Axes: M codebook.
"""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import product
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from recsys.core.arrays import Float64Array
from recsys.evaluation.results import Estimate

# Stand-ins that are drawn with and then replaced by the page's custom properties; black appears nowhere else.
INK, SOFT, LINE, MAIN, WARM = "#010a01", "#020a02", "#030a03", "#040a04", "#050a05"
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", MAIN: "--main", WARM: "--warm"}
_MOST_NUMBERED = 12
_PALE_BELOW = 0.3
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
}


def curve(values: Sequence[float], title: str, *, each: str = "epoch") -> Markup:
    """Draw one figure of each epoch, or of each of something else, as a line, its last value written at the end."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"curve {title}"}):
        figure, axes = _figure(3.0, 1.9)
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, color=MAIN, linewidth=1.4, marker="o", markersize=2.5)
        axes.annotate(f"{values[-1]:.4g}", (epochs[-1], values[-1]), (4, 0), textcoords="offset points", va="center")
        axes.set_title(title)
        axes.set_xlabel(each)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.12, y=0.15)
        return _svg(figure, f"{title} by {each}, last {values[-1]:.4g}")


def lines(series: Mapping[str, Sequence[float]], title: str, *, marks: Sequence[str], main: str) -> Markup:
    """Draw several figures over the same marks, each named at its last point; the main one stands out."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"lines {title}"}):
        figure, axes = _figure(4.6, 2.4)
        for name, values in series.items():
            color, width = (MAIN, 1.8) if name == main else (SOFT, 0.9)
            axes.plot(range(len(values)), values, color=color, linewidth=width, marker="o", markersize=2.5)
            axes.annotate(name, (len(values) - 1, values[-1]), (4, 0), textcoords="offset points", va="center")
        shown = sorted({0, len(marks) // 2, len(marks) - 1})
        axes.set_xticks(shown, [marks[place] for place in shown])
        axes.set_title(title)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.2)
        return _svg(figure, f"{title}, one line a recommender")


def marked(points: Sequence[tuple[str, float]], title: str, *, across: str) -> Markup:
    """Draw one figure by the marks of a setting, evenly spaced, every value written at its point."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"marked {title}"}):
        figure, axes = _figure(3.6, 2.0)
        values = [value for _, value in points]
        axes.plot(range(len(values)), values, color=MAIN, linewidth=1.4, marker="o", markersize=2.5)
        for place, value in enumerate(values):
            axes.annotate(f"{value:.3g}", (place, value), (0, 5), textcoords="offset points", ha="center")
        axes.set_xticks(range(len(points)), [mark for mark, _ in points])
        axes.set_title(title)
        axes.set_xlabel(across)
        axes.margins(x=0.08, y=0.25)
        return _svg(figure, f"{title} by {across}")


def trade_off(
    series: Mapping[str, Sequence[tuple[float, float]]], title: str, *, across: str, level: float | None = None
) -> Markup:
    """Draw up to three figures by a share, distinguished by colour and mark in a legend; dashes mark a level."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"trade-off {title}"}):
        figure, axes = _figure(3.6, 2.5)
        for (name, points), color, mark in zip(series.items(), (MAIN, WARM, SOFT), ("o", "s", "^"), strict=False):
            shares, values = zip(*sorted(points), strict=True)
            axes.plot(shares, values, color=color, linewidth=1.4, marker=mark, markersize=3.5, label=name)
        if level is not None:
            axes.axhline(level, color=SOFT, linewidth=0.8, linestyle=(0, (3, 2)))
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        axes.set_title(title)
        axes.set_xlabel(across)
        axes.legend(frameon=False, fontsize=7)
        axes.margins(x=0.08, y=0.15)
        return _svg(figure, f"{title} by {across}")


def filled(rows: Mapping[str, Sequence[bool]], title: str, *, marks: Sequence[str], across: str) -> Markup:
    """Draw a row of squares a name, one a mark, full where true."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"filled {title}"}):
        figure, axes = _figure(4.6, 0.9 + 0.2 * len(rows))
        for (row, values), column in product(enumerate(rows.values()), range(len(marks))):
            color = MAIN if values[column] else LINE
            axes.add_patch(Rectangle((column - 0.45, row - 0.4), 0.9, 0.8, facecolor=color, edgecolor="none"))
        axes.set(xlim=(-0.5, len(marks) - 0.5), ylim=(len(rows) - 0.5, -0.5), xlabel=across)
        axes.set_yticks(range(len(rows)), list(rows))
        shown = sorted({0, len(marks) // 2, len(marks) - 1})
        axes.set_xticks(shown, [marks[place] for place in shown])
        axes.set_title(title)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        return _svg(figure, f"{title}, one row of squares a layer, by {across}")


def reliability(points: Sequence[tuple[float, float]], title: str) -> Markup:
    """Draw observed frequencies by predicted probability, both on a logarithmic scale."""
    shown = [(predicted, observed) for predicted, observed in points if predicted > 0 and observed > 0]
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"reliability {title}"}):
        figure, axes = _figure(3.0, 2.8)
        ends = [min(map(min, shown), default=0.01), max(map(max, shown), default=1.0)]
        axes.plot(ends, ends, color=WARM, linewidth=0.8, linestyle=(0, (3, 2)))
        axes.plot(
            [predicted for predicted, _ in shown],
            [observed for _, observed in shown],
            color=MAIN,
            linewidth=1.4,
            marker="o",
            markersize=3,
        )
        axes.set(xscale="log", yscale="log", xlabel="predicted", ylabel="observed")
        axes.minorticks_off()
        axes.set_title(title)
        return _svg(figure, f"{title}: predicted beside observed frequency, dashes mark equal")


def intervals(rows: Sequence[tuple[str, Estimate, bool]], title: str) -> Markup:
    """Draw (name, estimate, whether ours) as dots with their 95 % intervals."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"intervals {title}"}):
        figure, axes = _figure(4.6, 0.7 + 0.28 * len(rows))
        for place, (_, estimate, ours) in enumerate(rows):
            color = MAIN if ours else SOFT
            axes.plot([estimate.low, estimate.high], [place, place], color=color, linewidth=1.4)
            axes.plot([estimate.value], [place], color=color, marker="o", markersize=4.5)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_title(title)
        axes.grid(axis="x", color=LINE, linewidth=0.5)
        axes.set_axisbelow(True)
        return _svg(figure, f"{title} of each recommender with its 95 % interval")


def bars(values: Sequence[float], title: str, *, most: float) -> Markup:
    """Draw one bar a codebook on a scale from 0 to ``most``."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"bars {title}"}):
        figure, axes = _figure(3.0, 1.9)
        axes.bar(range(len(values)), values, color=MAIN, width=0.7)
        axes.axhline(most, color=WARM, linewidth=0.8, linestyle=(0, (3, 2)))
        axes.set_ylim(0, most * 1.05)
        axes.set_title(title)
        axes.set_xlabel("codebook")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return _svg(figure, f"{title}, one bar a codebook, at most {most:.4g}")


def heatmap(values_MM: Float64Array, title: str) -> Markup:
    """Draw a square matrix of shares: the stronger the colour, the more two codebooks say the same.

    Full colour is the largest value off the diagonal, or .3 where all are below, so that noise stays pale.
    """
    size = len(values_MM)
    full = max(_PALE_BELOW, float(values_MM[~np.eye(size, dtype=bool)].max(initial=0.0)))
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"heatmap {title}"}):
        figure, axes = _figure(4.0, 3.9)
        for (row, column), value in np.ndenumerate(values_MM):
            strength = float(np.clip(value / full, 0, 1))
            color = LINE if row == column else MAIN
            axes.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5),
                    1,
                    1,
                    facecolor=color,
                    edgecolor="none",
                    alpha=1.0 if row == column else max(0.75 * strength, 0.02),
                )
            )
            if size <= _MOST_NUMBERED and row != column:
                axes.text(column, row, f"{value:.2f}"[-3:], ha="center", va="center", fontsize=7)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal", xlabel="codebook", ylabel="codebook")
        axes.set_title(title)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if size <= _MOST_NUMBERED:
            axes.set_xticks(range(size))
            axes.set_yticks(range(size))
        return _svg(figure, f"{title}: {size} by {size} codebooks")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    return figure, axes


def _svg(figure: Figure, label: str) -> Markup:
    """Return a figure as an SVG element that scales with the page and takes its colours and its font."""
    text = StringIO()
    nothing = {key: None for key in ("Creator", "Date", "Format", "Type")}
    figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img" aria-label="@label@">', svg, count=1
    )
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg).replace("xlink:href", "href")
    # ids of groups would repeat from plot to plot, and a style element would reach the whole page
    svg = re.sub(r'<g id="[^"]*">', "<g>", re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL))
    for color, name in _VARIABLES.items():
        svg = svg.replace(color, f"var({name})")
    return Markup(svg.replace("@label@", escape(label)))
