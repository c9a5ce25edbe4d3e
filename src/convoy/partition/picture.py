"""The picture of a partition: rows by site, and beneath it the labels of each site as a heat map."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from convoy.errors import BadInput
from convoy.partition.table import Table

FEW: Final = 20  # sites up to which each has a bar and a number of its own, and the cells show counts
MANY: Final = 100  # sites from which on they are put in an order that shows what they have in common
BLUE: Final = "#0072B2"  # of the palette of Okabe and Ito, which colour-blind people can tell apart
DPI: Final = 150


def draw(table: Table, path: Path, *, title: str) -> None:
    """Draw into a PNG file. Raises `BadInput` where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        fix = "run `pip install 'convoy-fl[demo]'`, or `pip install matplotlib`"
        raise BadInput("drawing a partition needs matplotlib", why=str(error), fix=fix) from error
    sites, labels = len(table.counts), len(table.labels)
    height = 2.6 + (min(max(0.24 * labels, 1.4), 8.0) + 0.6 if labels else 0.6)
    figure = Figure(figsize=(9.0, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title or f"{int(table.counts.sum()):,} {table.unit} at {sites:,} sites", fontsize=12)
    ratios = [2.0, height - 2.6] if labels else [1.0]
    axes = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    order = _order(table)
    _bars(axes[0], table, order)
    if labels:
        shown = _heat(axes[1], table, order)
        figure.colorbar(shown, ax=axes[1], label="share of the site's rows", fraction=0.04, pad=0.01)
    _sites(axes[-1], table)
    figure.savefig(path, format="png")


def _order(table: Table) -> np.ndarray[Any, Any]:
    """Return the sites as they are drawn: many of them by their most frequent label and its share, or by size."""
    if len(table.counts) <= MANY:
        return np.arange(len(table.counts))
    if table.by_label is None:
        return np.argsort(-table.counts, kind="stable")
    shares = table.by_label / np.maximum(table.counts, 1)[:, None]
    return np.lexsort((-shares.max(axis=1), shares.argmax(axis=1)))


def _bars(axes: Any, table: Table, order: np.ndarray[Any, Any]) -> None:
    """Draw how many rows each site has."""
    sites, counts = len(table.counts), table.counts[order]
    places = np.arange(1, sites + 1)
    if sites <= FEW:
        bars = axes.bar(places, counts, width=0.8, color=BLUE)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=7, padding=1)
        axes.margins(y=0.15)
    else:  # thousands of bars leave gaps that flicker; one filled outline does not
        axes.stairs(counts, np.arange(0.5, sites + 1), fill=True, color=BLUE)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"{table.unit} at the site")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)


def _heat(axes: Any, table: Table, order: np.ndarray[Any, Any]) -> Any:
    """Draw the share of each label in the rows of each site."""
    assert table.by_label is not None  # noqa: S101 - a table with labels has their counts
    sites, labels = table.by_label.shape
    shares = (table.by_label / np.maximum(table.counts, 1)[:, None])[order].T
    around = (0.5, sites + 0.5, labels - 0.5, -0.5)
    smooth = "nearest" if sites <= 2 * MANY * FEW else "antialiased"  # a thousand columns fit, ten thousand do not
    shown = axes.imshow(shares, aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=around, interpolation=smooth)
    step = -(-labels // 30)
    axes.set_yticks(range(0, labels, step), [_short(label) for label in table.labels[::step]])
    axes.set_ylabel("label")
    if sites <= FEW and labels <= FEW:
        for (label, site), share in np.ndenumerate(shares):
            count = int(table.by_label[site, label])
            if count:
                colour = "white" if share > 0.55 else "black"
                axes.text(site + 1, label, f"{count:,}", ha="center", va="center", fontsize=6.5, color=colour)
    return shown


def _short(label: str) -> str:
    return label if len(label) <= 14 else f"{label[:13]}…"


def _sites(axes: Any, table: Table) -> None:
    sites = len(table.counts)
    by = "sites, largest first" if table.by_label is None else "sites, in the order of their most frequent label"
    axes.set_xlabel(by if sites > MANY else "site")
    axes.set_xlim(0.5, sites + 0.5)
    if sites <= FEW:
        axes.set_xticks(range(1, sites + 1))
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.xaxis.set_major_formatter("{x:,.0f}")
