"""Charts as SVG that takes the page's colours, so that one drawing serves light, dark and paper.

matplotlib draws with a few stand-in colours; in the SVG each becomes a CSS variable of `style.css`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

INK, QUIET, GRID, PAPER = "#010203", "#010204", "#010205", "#010206"
HUES = tuple(f"#0102{index:02x}" for index in range(0x10, 0x18))
"""Stand-ins for eight hues that can be told apart, also by the colour-blind."""

_VARIABLES = {INK: "ink", QUIET: "quiet", GRID: "grid", PAPER: "paper"} | {
    hue: f"hue-{index}" for index, hue in enumerate(HUES)
}


def new_chart(*, panels: int = 1, width: float = 7.6, height: float = 2.9) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, in inches of 72 points."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for ax in axes:
        _calm(ax)
    return figure, axes


def legend(ax: Axes) -> None:
    """Names of the lines above the panel, where they hide nothing; its title moves further up."""
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        where = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
        ax.legend(handles, labels, frameon=False, fontsize=9, labelcolor=INK, ncols=4, handlelength=1.4, **where)
        ax.set_title(ax.get_title("left"), loc="left", fontsize=10, color=INK, pad=26)


def level(ax: Axes, height: float, words: str) -> None:
    """A dotted line across the panel with its meaning written on it."""
    ax.axhline(height, color=QUIET, linewidth=1, linestyle=(0, (1, 2.5)))
    ax.annotate(
        words, (1.0, height), xycoords=("axes fraction", "data"), xytext=(-2, 3), textcoords="offset points",
        ha="right", va="bottom", fontsize=8.5, color=QUIET,
    )  # fmt: skip


def to_svg(figure: Figure, *, name: str, alt: str) -> str:
    """The figure as an inline SVG.

    Args:
        figure: drawn with the stand-in colours of this module.
        name: its own in the page, so that no two charts share ids.
        alt: what a person who cannot see it should know; numbers rather than looks.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return f'<figure class="chart">{_inline(buffer.getvalue(), alt)}</figure>'


def _inline(svg: str, alt: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None, "matplotlib writes a viewBox"
    opening = f'<svg {view[0]} xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{escape(alt)}">'
    svg = re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)
    return re.sub(r"\s*\n\s*", " ", svg)


def _calm(ax: Axes) -> None:
    """Few lines: no box, a faint grid, small quiet numbers."""
    ax.set_facecolor("none")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(GRID)
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", colors=QUIET, labelsize=9, length=0, pad=5)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_color(QUIET)
        label.set_fontsize(9)
    ax.title.set_color(INK)


def title(ax: Axes, words: str) -> None:
    """A panel's own title, to the left."""
    ax.set_title(words, loc="left", fontsize=10, color=INK, pad=8)


def spread(values: Sequence[float], most: int) -> list[int]:
    """Indices of at most `most` of the values, evenly spaced, the last among them."""
    if len(values) <= most:
        return list(range(len(values)))
    step = (len(values) - 1) / (most - 1)
    return sorted({round(index * step) for index in range(most)})
