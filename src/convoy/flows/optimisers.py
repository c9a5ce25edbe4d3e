"""Server optimisers: the mean of the updates is a gradient, along which the model takes a step (Reddi et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from convoy.flows.fleet import Fleet, Round
from convoy.flows.parameters import ABOVE_0, DECAY, FROM_0, Range
from convoy.flows.training import Training, Turned

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = Mapping[str, Array]

RANGES: Final[Mapping[str, Range]] = {
    "server_lr": ABOVE_0, "momentum": DECAY, "beta1": DECAY, "beta2": DECAY, "tau": ABOVE_0, "accumulator": FROM_0,
}  # fmt: skip


class Optimiser(Protocol):
    """How one array of a model moves, and what is remembered of it from round to round."""

    @property
    def first(self) -> Mapping[str, float]:
        """What is remembered of each array, by name, with its value before the first round."""
        ...

    def move(self, apart: Array, kept: Arrays) -> tuple[Array, dict[str, Array]]:
        """Return how far the array moves, and what is remembered; `apart` is mean - array in float64."""
        ...


@dataclass(frozen=True, slots=True)
class Momentum:
    """Gradient descent with momentum: m = momentum m + d, and a step of server_lr m.

    `nesterov`: a step of server_lr (d + momentum m), as Sutskever et al.: On the Importance of Initialization and
    Momentum in Deep Learning, 2013, in the form in which the gradient is that of the point already reached.
    """

    server_lr: float
    momentum: float
    nesterov: bool = False

    @property
    def first(self) -> Mapping[str, float]:
        """The sum of past differences is 0 at first."""
        return {"m": 0.0}

    def move(self, apart: Array, kept: Arrays) -> tuple[Array, dict[str, Array]]:
        """Return the step and the new sum."""
        total = self.momentum * kept["m"] + apart
        ahead = apart + self.momentum * total if self.nesterov else total
        return self.server_lr * ahead, {"m": total}


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Algorithm 2 of Reddi et al.: m = b1 m + (1 - b1) d, v by `second`, a step of server_lr m / (sqrt(v) + tau)."""

    second: Callable[[Array, Array, float], Array]  # the new v out of v, d^2 and beta2
    server_lr: float
    beta1: float
    beta2: float
    tau: float
    accumulator: float | None  # v before the first round; None: tau^2

    @property
    def first(self) -> Mapping[str, float]:
        """The first moment is 0 before the first round, the second one the accumulator."""
        return {"m": 0.0, "v": self.tau**2 if self.accumulator is None else self.accumulator}

    def move(self, apart: Array, kept: Arrays) -> tuple[Array, dict[str, Array]]:
        """Return the step and the new moments."""
        first = self.beta1 * kept["m"] + (1 - self.beta1) * apart
        second = self.second(kept["v"], apart**2, self.beta2)
        return self.server_lr * first / (np.sqrt(second) + self.tau), {"m": first, "v": second}


def adam(second: Array, square: Array, beta2: float) -> Array:
    """Return v as in Adam, which forgets at the rate beta2."""
    return beta2 * second + (1 - beta2) * square


def yogi(second: Array, square: Array, beta2: float) -> Array:
    """Return v as in Yogi, which moves towards d^2 by a multiple of d^2 alone: large values are forgotten slowly."""
    towards: Array = (1 - beta2) * square * np.sign(second - square)
    return second - towards


def adagrad(second: Array, square: Array, beta2: float) -> Array:  # noqa: ARG001 - one signature for the three
    """Return v as in Adagrad, which forgets nothing."""
    return second + square


def step(model: Arrays, mean: Arrays, state: Arrays, how: Optimiser) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the next model and the next state, whose arrays are float64 and named `m/NAME` and `v/NAME`.

    Integers and booleans take the mean, as in FedAvg.
    """
    moved: dict[str, Array] = {}
    after: dict[str, Array] = {}
    for name, array in model.items():
        if array.dtype.kind in "iub":
            moved[name] = mean[name]
            continue
        apart = mean[name].astype(np.float64) - array.astype(np.float64)
        far, kept = how.move(apart, {k: state.get(f"{k}/{name}", np.full((), it)) for k, it in how.first.items()})
        moved[name] = (array + far).astype(array.dtype)
        after |= {f"{key}/{name}": value for key, value in kept.items()}
    return moved, after


def towards(array: Array, goal: Array, share: float) -> Array:
    """Return `array + share (goal - array)`; with a share of 1, and for integers and booleans, the goal itself."""
    if share == 1 or array.dtype.kind in "iub":
        return goal
    return (array + share * (goal - array)).astype(array.dtype)


async def _train(fleet: Fleet, how: Optimiser, training: Mapping[str, Any]) -> None:
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        mean = await plan.mean(fleet, round.model)
        model, state = step(round.model, mean.result(), round.state, how)
        return Turned(model, mean.metrics, state)

    await plan.run(fleet, turn)


async def fedavgm(
    fleet: Fleet, *, server_lr: float = 1.0, momentum: float = 0.9, nesterov: bool = False, **training: Any
) -> None:
    """Train for `rounds` rounds; the model moves along the differences of this round and, fading, of those before it.

    `server_lr`: the step size; `momentum`: what remains of earlier differences after a round; with 0, and a `server_lr`
    of 1, it is FedAvg, up to the rounding of one sum. `nesterov`: step along the difference of this round and the
    sum's share of the next, as in `diloco`. The sum of differences is the workflow's state. The other parameters are
    those of `Training`. Integers and booleans take the mean.

    Equation: d = sum_k n_k w_k / sum_k n_k - w
        m' = momentum m + d
        w' = w + server_lr m', or with `nesterov` w' = w + server_lr (d + momentum m')

    Use it: where FedAvg swings from round to round, because few sites take part in each, or moves slowly. A step grows
    up to 1 / (1 - momentum) times as long as one of FedAvg, so a large `momentum` wants a smaller `server_lr`.

    Leaves the site: what FedAvg sends: the trained model, the answer's weight and its metrics.

    Paper: Hsu et al.: Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification,
    2019, section 4.3.
    """
    await _train(fleet, Momentum(server_lr, momentum, nesterov), training)


async def fedadam(
    fleet: Fleet,
    *,
    server_lr: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 0.001,
    accumulator: float | None = 0.0,
    **training: Any,
) -> None:
    """Train for `rounds` rounds; the mean of the differences is a gradient, along which Adam moves the model.

    `server_lr`: the step size; `beta1`, `beta2`: the decay of the moments; `tau`: the smallest divisor; `accumulator`:
    the second moment before the first round, where the paper wants tau^2 or more and null is tau^2. The others are
    those of `Training`. Integers and booleans take the mean, as in FedAvg. The moments are the workflow's state.

    Equation: d = sum_k n_k w_k / sum_k n_k - w
        m' = beta1 m + (1 - beta1) d
        v' = beta2 v + (1 - beta2) d^2
        w' = w + server_lr m' / (sqrt(v') + tau)

    Use it: where tensors learn at very different speeds, as in language models and with rare features. `server_lr` has
    to be tuned together with the trainer's own learning rate.

    Leaves the site: what FedAvg sends: the trained model, the answer's weight and its metrics.

    Paper: Reddi et al.: Adaptive Federated Optimization, 2021, algorithm 2, without bias correction of the moments.
    """
    await _train(fleet, Adaptive(adam, server_lr, beta1, beta2, tau, accumulator), training)


async def fedyogi(
    fleet: Fleet,
    *,
    server_lr: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 0.001,
    accumulator: float | None = None,
    **training: Any,
) -> None:
    """Train as `fedadam` does, with a second moment that falls slowly after a large difference.

    `accumulator`: the second moment before the first round; null is tau^2, the least that the paper allows. The other
    parameters are those of `fedadam`.

    Equation: v' = v - (1 - beta2) d^2 sign(v - d^2)
        d, m' and w' are those of fedadam

    Use it: in place of `fedadam` where single rounds with a large difference are followed by small ones.

    Leaves the site: what FedAvg sends: the trained model, the answer's weight and its metrics.

    Paper: Reddi et al.: Adaptive Federated Optimization, 2021, algorithm 2; the second moment is that of Zaheer et al.:
    Adaptive Methods for Nonconvex Optimization, 2018.
    """
    await _train(fleet, Adaptive(yogi, server_lr, beta1, beta2, tau, accumulator), training)


async def fedadagrad(
    fleet: Fleet,
    *,
    server_lr: float = 0.1,
    beta1: float = 0.0,
    tau: float = 0.001,
    accumulator: float | None = None,
    **training: Any,
) -> None:
    """Train as `fedadam` does, with the sum of all squared differences as the second moment: steps become shorter.

    `accumulator`: that sum before the first round; null is tau^2, the least that the paper allows. `beta1`: the decay
    of the first moment, 0 in the paper's experiments. The other parameters are those of `fedadam`.

    Equation: v' = v + d^2
        d, m' and w' are those of fedadam

    Use it: for sparse gradients, and where steps should become shorter by themselves towards the end.

    Leaves the site: what FedAvg sends: the trained model, the answer's weight and its metrics.

    Paper: Reddi et al.: Adaptive Federated Optimization, 2021, algorithm 2.
    """
    await _train(fleet, Adaptive(adagrad, server_lr, beta1, 0.0, tau, accumulator), training)
