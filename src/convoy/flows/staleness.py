"""How much an answer to an old model counts: the functions of asynchronous workflows, by the names of a job.yaml.

Xie, Koyejo, Gupta: Asynchronous Federated Optimization, 2019, section 5.2: constant, polynomial and hinge. FedBuff
(Nguyen et al., 2022, section 5) uses the polynomial one with an exponent of 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from convoy.flows.parameters import FROM_0, Range

FUNCTIONS: Final[Mapping[str, Callable[[int, float, float], float]]] = {  # of the staleness s, a and b; 1 where s is 0
    "constant": lambda _s, _a, _b: 1.0,
    "polynomial": lambda s, a, _b: float(1 + s) ** -a,
    "hinge": lambda s, a, b: 1.0 if s <= b else 1 / (a * (s - b) + 1),
}

RANGES: Final[Mapping[str, Range]] = {
    "staleness": Range(f"one of {', '.join(FUNCTIONS)}", lambda value: value in FUNCTIONS),
    "a": FROM_0,
    "b": FROM_0,
}


def share(function: str, staleness: int, a: float, b: float) -> float:
    """Return how much an answer to a model that is `staleness` rounds old counts: above 0 and up to 1."""
    return FUNCTIONS[function](staleness, a, b)
