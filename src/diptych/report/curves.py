"""Curves of a run and of a retrieval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter
from torch import Tensor

from diptych.metrics.recall import recall_curve
from diptych.report.charts import HUES, QUIET, legend, level, new_chart, spread, title, to_svg
from diptych.report.found import Found
from diptych.report.history import History, series
from diptych.report.page import Section

MOST_POINTS = 600
"""Of a line; more would only make the page heavier."""


def loss_chart(log: History) -> str | None:
    """Training and validation loss over steps, with what guessing pays; None where no loss was logged."""
    steps, losses = series(log.steps, "loss")
    at, held_out = series(log.evals, "loss")
    if not losses and not held_out:
        return None
    figure, (ax,) = new_chart()
    _line(ax, steps, losses, hue=0, name="training", faint=True)
    if held_out:
        ax.plot(at, held_out, color=HUES[1], linewidth=1.6, marker="o", markersize=4, label="validation")
    for height, words in _guessing(log):
        level(ax, height, words)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("nats")
    _over_steps(ax)
    legend(ax)
    return to_svg(
        figure, name="loss", alt=_told("Training loss", steps, losses) + _told(" Validation loss", at, held_out)
    )


def parts_chart(log: History) -> str | None:
    """Each part of the training loss over steps, unweighted, on a logarithmic scale; None where there is one alone."""
    names = dict.fromkeys(name for event in log.steps for name in event.get("terms") or {})
    lines = {name: series([{**event, **(event.get("terms") or {})} for event in log.steps], name) for name in names}
    if len(lines) < 2:
        return None
    figure, (ax,) = new_chart()
    for hue, (name, line) in enumerate(lines.items()):
        _line(ax, *line, hue=hue % len(HUES), name=name, faint=False)
    ax.set_yscale("log")
    ax.set_ylabel("loss")
    _over_steps(ax)
    legend(ax)
    return to_svg(figure, name="parts", alt="".join(_told(f" Loss {name}", *line) for name, line in lines.items()))


def recall_while_training_chart(log: History) -> str | None:
    """R@1, 5 and 10 of the evaluations while training; None where there are fewer than two."""
    events = [event | event["metrics"] for event in log.evals if isinstance(event.get("metrics"), dict)]
    ways = [("text_to_image", "right picture for a text"), ("image_to_text", "right text for a picture")]
    lines = {
        (way, k): series(events, f"{way}_r{k}") for way, _ in ways for k in (1, 5, 10)
    }  # fmt: skip
    if max((len(steps) for steps, _ in lines.values()), default=0) < 2:
        return None
    figure, axes = new_chart(panels=2)
    for ax, (way, words) in zip(axes, ways, strict=True):
        for hue, k in enumerate((1, 5, 10)):
            ax.plot(*lines[way, k], color=HUES[hue], linewidth=1.6, marker="o", markersize=3.5, label=f"R@{k}")
        _shares(ax)
        _over_steps(ax)
        title(ax, words)
        legend(ax)
    told = [_told(f" {words} R@{k}", *lines[way, k], share=True) for way, words in ways for k in (1, 5, 10)]
    return to_svg(figure, name="recall-training", alt="Recall while training." + "".join(told))


def precision_while_training_chart(log: History) -> str | None:
    """Average precision, and recall at 36 boxes, of a detector's evaluations; None where there are fewer than two."""
    events = [event | event["metrics"] for event in log.evals if isinstance(event.get("metrics"), dict)]
    names = {
        "map50": "average precision at IoU 0.50",
        "map": "mean over IoU 0.50 to 0.95",
        "recall_at_36": "objects met by 36 boxes",
    }
    lines = {words: series(events, name) for name, words in names.items()}
    if max(len(steps) for steps, _ in lines.values()) < 2:
        return None
    figure, (ax,) = new_chart()
    for hue, (words, line) in enumerate(lines.items()):
        ax.plot(*line, color=HUES[hue], linewidth=1.6, marker="o", markersize=3.5, label=words)
    _shares(ax)
    _over_steps(ax)
    legend(ax)
    told = [_told(f" {words}", *line, share=True) for words, line in lines.items()]
    return to_svg(figure, name="precision-training", alt="Average precision while training." + "".join(told))


def rates_chart(log: History) -> str | None:
    """Learning rate and temperature over steps; None where neither was logged."""
    rate, temperature = series(log.steps, "lr"), series(log.steps, "temperature")
    if not rate[1] and not temperature[1]:
        return None
    figure, (left, *right) = new_chart(panels=2 if temperature[1] else 1, height=2.5)
    _panel(left, rate, "learning rate", hue=0)
    for panel in right:
        _panel(panel, temperature, "temperature", hue=3)
    return to_svg(figure, name="rates", alt=_told("Learning rate", *rate) + _told(" Temperature", *temperature))


def speed_chart(log: History) -> str | None:
    """Samples a second, the share of time spent waiting for the loader, and MFU; None where not logged."""
    speed, waiting = series(log.steps, "samples_per_s"), series(log.steps, "loader_share")
    used = series(log.steps, "mfu")
    if not speed[1]:
        return None
    figure, (left, right) = new_chart(panels=2, height=2.5)
    _panel(left, speed, "samples a second", hue=2)
    left.set_ylim(bottom=0)
    if used[1]:
        _line(right, *used, hue=2, name="model FLOPs utilisation", faint=False)
    _line(right, *waiting, hue=5, name="waiting for the loader", faint=False)
    title(right, "shares of the time and of the device")
    legend(right)
    _over_steps(right)
    _shares(right)
    told = _told(" Loader's share", *waiting, share=True) + _told(" Model FLOPs utilisation", *used, share=True)
    return to_svg(figure, name="speed", alt=_told("Samples a second", *speed) + told)


def norm_chart(log: History) -> str | None:
    """Norm of the gradient over steps, on a log scale; None where not logged."""
    norm = series(log.steps, "grad_norm")
    if not norm[1] or max(norm[1]) <= 0:
        return None
    figure, (ax,) = new_chart(height=2.2)
    _panel(ax, norm, "", hue=4)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    return to_svg(figure, name="norm", alt=_told("Norm of the gradient", *norm))


def recall_at_every_k(found: Found) -> Section:
    """The curve of recall at 1 to 100, both ways."""
    chart = recall_chart(found.text_ranks, found.image_ranks, pictures=len(found.image), texts=len(found.text))
    how = (
        "How often the right one is among the first k; at k = 1 it comes first. The dotted line is what guessing gets, "
        "so the height above it is what was learned. The scale of k is logarithmic."
    )
    return Section(title="Recall at every k", how_to_read=how, body=chart)


def recall_chart(text_ranks: Tensor, image_ranks: Tensor, *, pictures: int, texts: int, most: int = 100) -> str:
    """Recall at 1 to `most`, both ways, with what guessing gets.

    Args:
        text_ranks: (M,) rank of the first right picture of each text, from 0.
        image_ranks: (N,) rank of the first right text of each picture, from 0.
        pictures: N, what a text chooses among.
        texts: M, what a picture chooses among.
        most: the last k.
    """
    figure, (ax,) = new_chart()
    ks = list(range(1, most + 1))
    for_text, for_picture = recall_curve(text_ranks, most).tolist(), recall_curve(image_ranks, most).tolist()
    ax.plot(ks, for_text, color=HUES[0], linewidth=1.8, label="the right picture for a text")
    ax.plot(ks, for_picture, color=HUES[1], linewidth=1.8, label="a right text for a picture")
    guessing = [min(k / pictures, 1.0) for k in ks]
    ax.plot(ks, guessing, color=QUIET, linewidth=1, linestyle=(0, (1, 2.5)), label="guessing a picture")
    _shares(ax)
    ax.set_xscale("log")
    ax.set_xticks([k for k in (1, 2, 5, 10, 20, 50, 100) if k <= most])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.minorticks_off()
    ax.set_xlabel("k: among the first k")
    legend(ax)
    told = [f"{words} R@{k} {100 * line[k - 1]:.0f} %" for words, line in
            (("for a text", for_text), ("for a picture", for_picture)) for k in (1, 10, most)]  # fmt: skip
    return to_svg(
        figure, name="recall", alt=f"Recall among {pictures} pictures and {texts} texts: " + ", ".join(told) + "."
    )


def lines_chart(
    lines: Mapping[str, tuple[list[int], list[float]]], *, name: str, y: str, shares: bool = False
) -> str | None:
    """One quantity of several runs over steps; None where no run has it."""
    if not any(values for _, values in lines.values()):
        return None
    figure, (ax,) = new_chart()
    for hue, (run, (steps, values)) in enumerate(lines.items()):
        _line(ax, steps, values, hue=hue % len(HUES), name=run, faint=False)
    ax.set_ylabel(y)
    _over_steps(ax)
    if shares:
        _shares(ax)
    legend(ax)
    told = [_told(f" {run}", steps, values, share=shares) for run, (steps, values) in lines.items()]
    return to_svg(figure, name=name, alt=f"{y} by run." + "".join(told))


def smoothed(values: Sequence[float], share: float = 0.04) -> list[float]:
    """Mean over the neighbours on both sides, so that the line lags behind in neither direction.

    Args:
        values: one a logged step.
        share: of all values that are averaged; fewer at the ends, as many on either side.
    """
    sums = [0.0, *accumulate(values)]
    reach = max(1, round(share * len(values) / 2))
    near = [min(reach, at, len(values) - 1 - at) for at in range(len(values))]
    return [(sums[at + n + 1] - sums[at - n]) / (2 * n + 1) for at, n in enumerate(near)]


def _line(ax: Axes, steps: Sequence[int], values: Sequence[float], *, hue: int, name: str, faint: bool) -> None:
    if len(values) < 30 or not faint:
        at = spread(values, MOST_POINTS)
        ax.plot([steps[i] for i in at], [values[i] for i in at], color=HUES[hue], linewidth=1.6, label=name)
        return
    at, smooth = spread(values, MOST_POINTS), smoothed(values)
    where = [steps[i] for i in at]
    ax.plot(where, [values[i] for i in at], color=HUES[hue], linewidth=0.8, alpha=0.35)
    ax.plot(where, [smooth[i] for i in at], color=HUES[hue], linewidth=1.8, label=f"{name} (faint: unsmoothed)")


def _panel(ax: Axes, points: tuple[list[int], list[float]], words: str, *, hue: int) -> None:
    steps, values = points
    at = spread(values, MOST_POINTS)
    ax.plot([steps[i] for i in at], [values[i] for i in at], color=HUES[hue], linewidth=1.5)
    title(ax, words)
    _over_steps(ax)


def _over_steps(ax: Axes) -> None:
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _shares(ax: Axes) -> None:
    ax.set_ylim(0, 1.02)  # so that a line at 100 % is whole
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _guessing(log: History) -> list[tuple[float, str]]:
    """Levels of the loss that need no model: chance, where the run states it, and the log of its batch."""
    chance, batch = log.start.get("chance_loss"), log.start.get("batch")
    if not isinstance(chance, int | float):
        return []  # objectives whose rows do not see each other: the size of the batch says nothing of their loss
    of_batch = math.log(batch) if isinstance(batch, int) and batch > 1 else None
    if of_batch is not None and abs(chance - of_batch) < 0.005:
        return [(of_batch, f"chance = log of the batch of {batch}: {of_batch:.2f}")]
    levels = [(float(chance), f"chance: {chance:.2f}")]
    return levels + ([(of_batch, f"log of the batch of {batch}: {of_batch:.2f}")] if of_batch is not None else [])


def _told(name: str, steps: Sequence[int], values: Sequence[float], *, share: bool = False) -> str:
    """A line in words, for those who cannot see it."""
    if not values:
        return ""
    first, last = (f"{100 * value:.0f} %" if share else f"{value:.3g}" for value in (values[0], values[-1]))
    return f"{name}: from {first} at step {steps[0]} to {last} at step {steps[-1]}."
