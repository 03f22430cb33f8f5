"""Charts as pictures, drawn by matplotlib on no display and without its global state (pyplot)."""

from __future__ import annotations

import io
import math
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.training.charts import (
    Calibration,
    Chart,
    Curve,
    GroupedShares,
    Heatmap,
    Histogram,
    Lines,
    Matrix,
    Parts,
    Share,
)
from retrieval.training.extras import import_extra

_INTERVALS = "95% intervals"
_SIZE = (5.4, 3.6)  # inches; small, so that texts are large on the narrow cards of TensorBoard
_DPI = 130
# of Okabe and Ito, told apart with any kind of colour vision, and by brightness
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222", "#8c6d31")
_COLUMN = (4.3, 3.9), 180  # inches and dots an inch of charts for a column of a paper, about 3.3 inches there
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_MAX_LABELS, _MAX_LEGEND = 55, 30  # letters of all labels of an axis, and of a legend beside that of the axis
_INK, _FAINT = "#222222", "#5f5f5f"
_PARTS, _HATCHES = ("#0072B2", "#bcd9ea", "#E69F00", "#f2e3a6", "#d9d9d9"), ("", "", "", "//", "xx")


def check_drawing() -> None:
    """Raise ConfigError if matplotlib is not installed."""
    import_extra("matplotlib.backends.backend_agg", "figures", "drawing figures")


def draw(chart: Chart, note: str = "") -> npt.NDArray[np.uint8]:
    """Draw a chart.

    Args:
        chart: what to show
        note: stands beside the number of things under the title, such as the split and the step

    Returns:
        pixels, uint8 (height, width, 3)
    """
    size, dpi = _COLUMN if isinstance(chart, Lines) else (_SIZE, _DPI)
    figure = import_extra("matplotlib.figure", "figures", "drawing figures").Figure(
        figsize=size, dpi=dpi, facecolor="white", layout="constrained"
    )
    canvas = import_extra("matplotlib.backends.backend_agg", "figures", "drawing figures").FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    remark = _plot(chart, figure)
    axes = figure.axes[0]
    title = axes.set_title(chart.title, fontsize=13, color=_INK, loc="left", pad=26, fontweight="bold")
    subtitle = " · ".join(filter(None, [f"{chart.num:,} {chart.what}", note, remark]))
    place = {"xycoords": "axes fraction", "textcoords": "offset points"}
    line = axes.annotate(subtitle, (0, 1), (0, 9), fontsize=9.5, color=_FAINT, **place)
    line.set_in_layout(False)  # a long one must not squeeze the axes
    canvas.draw()
    if any([_shrunk(title, figure), _shrunk(line, figure)]):
        canvas.draw()
    pixels: npt.NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    return pixels


def _shrunk(text: Any, figure: Any) -> bool:
    """Make a text smaller that would leave the figure; whether it was one."""
    room, is_shrunk = 0.99 * figure.bbox.width, False
    while (box := text.get_window_extent()).x1 > room and text.get_fontsize() > 1:
        # widths follow sizes in steps, so that one look is not enough
        text.set_fontsize(text.get_fontsize() * min(0.98, (room - box.x0) / box.width))
        is_shrunk = True
    return is_shrunk


def to_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return pixels, uint8 (height, width, 3), as a PNG file."""
    buffer = io.BytesIO()
    import_extra("PIL.Image", "figures", "drawing figures").fromarray(pixels).save(buffer, "png", optimize=True)
    return buffer.getvalue()


@singledispatch
def _plot(chart: Any, figure: Any) -> str:
    """Draw the axes; return what else is to be said of them."""
    raise TypeError(f"no chart: {chart!r}")


@_plot.register
def _(chart: Histogram, figure: Any) -> str:
    axes = _axes(figure, chart.xlabel, "share (%)")
    places, shares = range(len(chart.counts)), [100 * count / max(1, chart.num) for count in chart.counts]
    colors = [_COLORS[0]] * (len(shares) - 1) + ["#b0b0b0"]  # what was not found is no rank
    bars = axes.bar(places, shares, width=0.8, color=colors)
    axes.bar_label(bars, [f"{share:.1f}" for share in shares], fontsize=9, color=_INK, padding=2)
    axes.set_xticks(places, chart.labels)
    axes.set_ylim(0, max([*shares, 1]) * 1.12)
    return ""


@_plot.register
def _(chart: GroupedShares, figure: Any) -> str:
    axes = _axes(figure, chart.xlabel, f"{chart.ylabel} (%)")
    aside = 0.02 * len(chart.labels) if len(chart.shares) > 1 else 0.0
    offsets = np.linspace(-aside, aside, len(chart.shares))
    for i, (name, shares) in enumerate(chart.shares.items()):
        _points(axes, [place + offsets[i] for place in range(len(shares))], shares, i, name)
    labels = [f"{label}\nn={_short(count)}" for label, count in zip(chart.labels, chart.counts, strict=True)]
    axes.set_xticks(range(len(labels)), labels)
    if sum(max(map(len, label.split("\n"))) for label in labels) > _MAX_LABELS:  # they would run into one another
        axes.tick_params(axis="x", labelsize=7.5, rotation=30)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_ylim(0, 100)
    if sum(map(len, chart.shares)) > _MAX_LEGEND:
        _legend_below(figure)
    else:
        _legend(figure)
    return _INTERVALS


@_plot.register
def _(chart: Calibration, figure: Any) -> str:
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _style(axes, "", f"{chart.ylabel} (%)")
    _style(below, chart.xlabel, "count")
    if chart.is_probability:
        axes.plot(chart.limits, (0, 100), color=_FAINT, linestyle="--", linewidth=1, label="perfect")
    _points(axes, chart.scores, chart.shares, 0, "measured")
    axes.set_ylim(0, 100)
    if chart.is_probability:
        _legend(figure)
    starts, widths = [low for low, _ in chart.edges], [0.94 * (high - low) for low, high in chart.edges]
    below.bar(starts, chart.counts, widths, align="edge", color="#8fbfdd")
    below.yaxis.get_major_locator().set_params(nbins=3, integer=True)
    ends = chart.limits if chart.is_probability or not chart.edges else (chart.edges[0][0], chart.edges[-1][1])
    axes.set_xlim(ends[0] - 0.01, ends[1] + 0.01)
    return f"error {100 * chart.error:.1f} points · {_INTERVALS}" if chart.is_probability else _INTERVALS


@_plot.register
def _(chart: Curve, figure: Any) -> str:
    axes = _axes(figure, chart.xlabel, f"{chart.ylabel} (%)")
    axes.plot(chart.x, [100 * y for y in chart.y], color=_COLORS[0], linewidth=2)
    ticks = [10**i * m for i in range(8) for m in (1, 2, 5) if chart.x and 10**i * m <= chart.x[-1]]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 100)
    return ""


@_plot.register
def _(chart: Lines, figure: Any) -> str:
    axes, factor = _axes(figure, chart.xlabel, chart.ylabel + " (%)" * chart.is_share), 100 if chart.is_share else 1
    colors: dict[str, str] = {}
    has_many = sum(not series.is_dots and not series.dashes for series in chart.series) > 1
    for series in chart.series:
        color = colors.setdefault(series.like or series.name, _COLORS[len(colors) % len(_COLORS)])
        x, y = np.array(series.x), factor * np.array(series.y)
        style: dict[str, Any]
        if series.is_dots:
            style = {
                "linestyle": "none",
                "marker": "D" if series.is_filled else "o",
                "markersize": 4.5,
                "markerfacecolor": color if series.is_filled else "white",
                "clip_on": False,
            }
        else:
            dashes = series.dashes or ("dashed" if len(colors) > len(_COLORS) else "solid")
            style = {"linewidth": 1.2 if series.dashes else 1.8, "linestyle": dashes}
            if has_many and not series.dashes:  # told apart in grey too
                marker = _MARKERS[list(colors).index(series.like or series.name) % len(_MARKERS)]
                style |= {"marker": marker, "markersize": 4.5, "markevery": _marked(series.x), "clip_on": False}
        axes.plot(x, y, color=color, label=series.name or "_", zorder=4 if series.is_dots else 3, **style)
        if series.low:
            low, high = factor * np.array(series.low), factor * np.array(series.high)
            if series.is_dots:
                axes.vlines(x, low, high, color=color, linewidth=1.4, zorder=3)
            else:
                axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    axes.tick_params(axis="x", pad=6)  # off the zero of the other axis
    ends = [x for series in chart.series for x in series.x]
    for name, level in chart.levels:
        axes.axhline(factor * level, color=_FAINT, linestyle="--", linewidth=1, label=name)
    if chart.has_diagonal and ends:
        limits = min(ends), max(ends)
        axes.plot(limits, limits, color=_FAINT, linestyle="--", linewidth=1, label="equal")
    if chart.is_log_x and ends:
        axes.set_xscale("log")
        ticks = [10.0**i * m for i in range(-8, 8) for m in (1, 2, 5) if min(ends) <= 10.0**i * m <= max(ends)]
        ticks = ticks if len(ticks) < 10 else [10.0**i for i in range(-8, 8) if min(ends) <= 10.0**i <= max(ends)]
        axes.set_xticks(
            ticks, None if chart.is_log_y else [_short(round(tick)) if tick >= 1 else f"{tick:g}" for tick in ticks]
        )
        axes.set_xticks([], minor=True)
        axes.set_xlim(min(ends), max(ends))
    if chart.is_log_y:
        axes.set_yscale("log")
        axes.minorticks_off()
    elif not chart.is_share:
        axes.set_ylim(bottom=0)
    if chart.labels:
        axes.set_xticks(range(len(chart.labels)), chart.labels, rotation=30, ha="right")
        axes.set_xlim(-0.5, len(chart.labels) - 0.5)
    if chart.is_share:
        axes.set_ylim(0, 101 * chart.top)
    if chart.levels or chart.has_diagonal or len({each.name for each in chart.series if each.name}) > 1:
        _legend_below(figure)
    return ""


@_plot.register
def _(chart: Parts, figure: Any) -> str:
    axes = _axes(figure, chart.xlabel, "")
    places, start = range(len(chart.labels)), np.zeros(len(chart.labels))
    for i, (name, shares) in enumerate(chart.parts.items()):
        width = 100 * np.array(shares)
        style = {"color": _PARTS[i % len(_PARTS)], "edgecolor": "white", "hatch": _HATCHES[i % len(_HATCHES)]}
        bars = axes.barh(places, width, 0.72, left=start, label=name, linewidth=0.6, **style)
        texts = [f"{share:.1f}" if share >= 6 else "" for share in width]
        axes.bar_label(bars, texts, label_type="center", fontsize=8.5, color=_INK if i % len(_PARTS) else "white")
        start = start + width
    notes = chart.notes or ("",) * len(places)
    axes.set_yticks(places, ["\n".join(filter(None, pair)) for pair in zip(chart.labels, notes, strict=True)])
    room = 0.5 if len(places) > 1 else 1.2  # beside a single bar, which would be a wall
    axes.set_ylim(len(places) - 1 + room, -room)
    axes.set_xlim(0, 100)
    axes.grid(visible=False)
    _legend_below(figure)
    return ""


@_plot.register
def _(chart: Matrix, figure: Any) -> str:
    axes = _axes(figure, "", chart.ylabel)
    values = np.array([[np.nan if value is None else 100 * value for value in row] for row in chart.values])
    axes.imshow(np.ma.masked_invalid(values), cmap="Blues", vmin=0, vmax=110, aspect="auto")
    for i, j in np.ndindex(*values.shape):
        other = chart.others[i][j] if chart.others else None
        text = "–" if np.isnan(values[i, j]) else f"{values[i, j]:.1f}"
        color = "white" if values[i, j] > 60 else _INK
        axes.text(j, i, text, ha="center", va="center" if other is None else "bottom", fontsize=12, color=color)
        if other is not None:
            axes.text(j, i, f"\n({100 * other:.1f})", ha="center", va="center", fontsize=9, color=color)
    axes.set_xticks(range(len(chart.columns)), chart.columns)
    axes.set_yticks(range(len(chart.rows)), chart.rows)
    axes.set_xlabel(chart.xlabel, fontsize=10, color=_INK)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    return "in parentheses: published" if chart.others else ""


def _marked(x: tuple[float, ...]) -> list[int]:
    """Which points of a line have a mark: all of a few, and of many some that stand apart on either kind of axis."""
    if len(x) <= 8:
        return list(range(len(x)))
    ticks = [i for i, each in enumerate(x) if f"{each:.0e}"[0] in "125" and float(f"{each:.0e}") == each]
    if 3 <= len(ticks) <= 12:
        return ticks
    ends = x[-1] / max(x[0], 1)
    wanted = [max(x[0], 1) * ends ** (i / 6) for i in range(7)] if ends > 4 else list(np.linspace(x[0], x[-1], 7))
    return sorted({int(np.abs(np.array(x) - place).argmin()) for place in wanted})


@_plot.register
def _(chart: Heatmap, figure: Any) -> str:
    axes = _axes(figure, chart.xlabel, chart.ylabel)
    axes.grid(visible=False)
    image = axes.imshow(np.array(chart.values), cmap="Blues", vmin=0, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9, colors=_INK, length=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    return ""


def _axes(figure: Any, xlabel: str, ylabel: str) -> Any:
    axes = figure.subplots()
    _style(axes, xlabel, ylabel)
    return axes


def _style(axes: Any, xlabel: str, ylabel: str) -> None:
    axes.set_facecolor("white")
    axes.set_xlabel(xlabel, fontsize=10, color=_INK, loc="left")
    axes.set_ylabel(ylabel, fontsize=10, color=_INK)
    axes.tick_params(labelsize=9, colors=_INK, length=0)
    axes.grid(axis="y", color="#e2e2e2", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#b0b0b0")


def _points(axes: Any, places: Any, shares: tuple[Share, ...], i: int, name: str) -> None:
    """Plot shares with their intervals."""
    values = np.array([[share.value, share.low, share.high] for share in shares]).reshape(-1, 3) * 100
    below, above = values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]
    axes.errorbar(
        places,
        values[:, 0],
        yerr=[below, above],
        fmt=_MARKERS[i % len(_MARKERS)],
        color=_COLORS[i % len(_COLORS)],
        markersize=6,
        elinewidth=1.4,
        capsize=0,
        label=name,
        clip_on=False,
        zorder=3,
    )


def _legend(figure: Any) -> None:
    """Show what is what beside the label of the x axis, where no point can be."""
    style = {"fontsize": 10, "frameon": False, "labelcolor": _INK, "handletextpad": 0.3, "columnspacing": 1.2}
    figure.legend(loc="lower right", ncols=4, borderaxespad=0.35, **style)


def _legend_below(figure: Any) -> None:
    """Show what is what under the axes, in as many columns as there is room for."""
    style = {"fontsize": 8.5, "frameon": False, "labelcolor": _INK, "columnspacing": 1.0}
    for num_columns in (3, 2, 1):
        legend = figure.legend(loc="outside lower center", ncols=num_columns, **style)
        if num_columns == 1 or legend.get_window_extent(figure.canvas.get_renderer()).width <= figure.bbox.width:
            return
        legend.remove()


def _short(count: int) -> str:
    """A number in four characters or five."""
    if count < 10_000:
        return f"{count:,}"
    power = min(2, int(math.log10(count)) // 3)
    return f"{count / 1000**power:.0f}{' kM'[power]}"
