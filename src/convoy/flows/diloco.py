"""DiLoCo: many steps at the sites in each round, and Nesterov momentum at the server (Douillard et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.flows import optimisers, parameters, training
from convoy.flows.fleet import Fleet, Round
from convoy.flows.optimisers import Momentum
from convoy.flows.parameters import Range
from convoy.flows.training import Training, Turned
from convoy.model import fragments as parts

RANGES: Final[Mapping[str, Range]] = {
    "inner_steps": Range("1 or more", lambda value: value >= 1),
    "fragments": Range("1 or more", lambda value: value >= 1),
    "server_lr": parameters.ABOVE_0,
    "momentum": parameters.DECAY,
}


async def diloco(
    fleet: Fleet,
    *,
    inner_steps: int = 500,
    server_lr: float = 0.7,
    momentum: float = 0.9,
    fragments: int = 1,
    **training: Any,
) -> None:
    """Train for `rounds` rounds; the model takes a step with Nesterov momentum along the mean of what sites changed.

    `inner_steps`: how many steps a trainer takes in a round; it finds them as `task.settings["inner_steps"]`, and keeps
    the state of its own optimiser with `Reply(state=…)`. `server_lr`: the step size; `momentum`: what remains of
    earlier differences after a round. `fragments`: divide the model into so many runs of tensors, of which each round
    synchronises the next one: sites answer with its tensors alone, and keep the others as they are; trainers then use
    `convoy.Streaming(task)`. The momentum m is the workflow's state. The others are those of `Training`.

    Equation: d = sum_k n_k w_k / sum_k n_k - w, over the tensors of the round's fragment
        m' = momentum m + d
        w' = w + server_lr (d + momentum m')

    Use it: where sending a model costs more than training it: with few rounds of many steps, and with fragments to send
    less in each. A site whose model has more than 16 MiB must allow fragments to leave (`leave: {arrays: 10Gi}`).

    Leaves the site: the trained model, or of it the round's fragment; the answer's weight and its metrics.

    Paper: Douillard et al.: DiLoCo: Distributed Low-Communication Training of Language Models, 2023, algorithm 1, whose
    mean is unweighted: answer with equal weights for that. Fragments: Douillard et al.: Streaming DiLoCo with
    Overlapping Communication, 2025, algorithm 1, where a site takes over a fragment before its next steps, unmixed
    (alpha = 0) and without overlapping (tau = 0).
    """
    plan, how = Training(**training), Momentum(server_lr, momentum, nesterov=True)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        here, settings = round.model, {"inner_steps": inner_steps}
        if fragments == 1:
            mean = await plan.mean(fleet, here, settings=settings)
        else:
            runs = parts.divide(here, fragments)
            here = parts.part(here, runs[parts.turn(round.number, len(runs))])
            mean = await plan.mean(
                fleet,
                round.model,
                like=here,
                reply={name: (array.dtype, array.shape) for name, array in here.items()},
                settings={**settings, "fragments": fragments},
                helper="Streaming",
            )
        model, state = optimisers.step(here, mean.result(), round.state, how)
        return Turned({**round.model, **model}, mean.metrics, {**round.state, **state})

    await plan.run(fleet, turn)


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name."""
    found = training.faults(given) | parameters.outside(given, RANGES)
    if given.get("fragments", 1) > 1 and given.get("max_norm"):
        found["max_norm"] = "leave it out, or use `clip`: the answer of a fragment has no model to be compared with"
    return found
