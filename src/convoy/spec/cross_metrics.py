"""The names of metrics of a model at a site, such as `auc:a@b`: of cross-site evaluation, and of whoever writes so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

NAME: Final = re.compile(r"([^:@]+):([^@]+)@([^@]+)")  # the metric, the model, and the site

Table = dict[str, dict[str, float]]  # a row for each model: the value at each site


def name(metric: str, model: str, site: str) -> str:
    """Return the name of a metric of a model at a site."""
    return f"{metric}:{model}@{site}"


def tables(metrics: Mapping[str, float]) -> dict[str, Table]:
    """Return the table of each metric that has one, in the order in which metrics, models and sites come."""
    found: dict[str, Table] = {}
    for one, value in metrics.items():
        if parts := NAME.fullmatch(one):
            found.setdefault(parts[1], {}).setdefault(parts[2], {})[parts[3]] = value
    return found


def one_line(metrics: Mapping[str, float]) -> str:
    """Return metrics in one line, four digits each; of those in tables, how many there are."""
    plain = [f"{name} {value:.4g}" for name, value in metrics.items() if not NAME.fullmatch(name)]
    crossed = len(metrics) - len(plain)
    return "  ".join([*plain, *([f"{crossed} metrics of models at sites"] if crossed else [])])
