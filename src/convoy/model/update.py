"""An update: what one site answered to one question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from convoy.model.arrays import Model


@dataclass(frozen=True, slots=True)
class Update:
    """A site's arrays, its weight and its metrics; `model` is empty where a site answered with metrics alone."""

    site: str
    model: Model
    weight: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)
