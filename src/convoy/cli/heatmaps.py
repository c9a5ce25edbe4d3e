"""Metrics of models at sites, as tables on the screen and as heat maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from convoy.cli import figures
from convoy.spec import cross_metrics

if TYPE_CHECKING:
    from convoy.cli.output import Screen

MOST: Final = 60  # models, and sites, of a picture; a larger table is printed alone


def say(screen: Screen, metrics: Mapping[str, float]) -> None:
    """Print the table of each metric that is of a model at a site: a row for each model, a column for each site."""
    for metric, table in cross_metrics.tables(metrics).items():
        sites = list(dict.fromkeys(site for row in table.values() for site in row))
        rows = [[model, *(f"{row[it]:.4g}" if it in row else "-" for it in sites)] for model, row in table.items()]
        screen.line()
        screen.line(f"{metric} of each model at each site")
        screen.table(("model", *sites), rows)


def draw(screen: Screen, folder: Path, metrics: Mapping[str, float]) -> None:
    """Draw each of these tables into `heatmap-METRIC.png`, and say so."""
    tables = cross_metrics.tables(metrics)
    if not tables:
        return
    try:
        from matplotlib.figure import Figure
    except ImportError:
        screen.line("there are no heat maps: drawing them needs matplotlib (pip install 'convoy-fl[demo]')")
        return
    for metric, table in tables.items():
        sites = list(dict.fromkeys(site for row in table.values() for site in row))
        if max(len(sites), len(table)) > MOST:
            continue
        figure = Figure(figsize=(2 + 0.5 * len(sites), 1.5 + 0.4 * len(table)), layout="constrained")
        axes = figure.subplots()
        shown = axes.imshow([[row.get(site, float("nan")) for site in sites] for row in table.values()], cmap="viridis")
        axes.set_xticks(range(len(sites)), sites, rotation=90)
        axes.set_yticks(range(len(table)), list(table))
        axes.set(xlabel="measured at", ylabel="model of")
        figure.colorbar(shown, ax=axes, label=metric.replace("$", r"\$"))
        figures.save(screen, figure, folder, f"heatmap-{metric[:60]}")
