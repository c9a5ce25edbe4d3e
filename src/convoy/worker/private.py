"""The tensors of a model that stay at a site: put into the model of a task, and taken out of its reply again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from convoy.errors import BadInput, Refused

if TYPE_CHECKING:
    from convoy.model.arrays import Model

PREFIX: Final = "private/"  # of their names in what a site keeps: PREFIX, the place in the whole model, the name

Placed = Mapping[str, tuple[int, Any]]  # the tensors that stay here: the place of each in the whole model, the array


def placed(kept: Mapping[str, Any], sent: Mapping[str, Any], initial: Callable[[], Mapping[str, Any]]) -> Placed:
    """Return the tensors that stay here: those that were kept, at first those of the job's initial model.

    `sent`: the arrays that came with the question. Raises `BadInput` where the initial model has none beside them.
    """
    found = {}
    for name, array in kept.items():
        if name.startswith(PREFIX):
            place, _, rest = name.removeprefix(PREFIX).partition("/")
            found[rest] = int(place), array
    if found:
        return found
    whole = initial()
    found = {name: (place, array) for place, (name, array) in enumerate(whole.items()) if name not in sent}
    if not found:
        raise BadInput(
            "the workflow asks with a part of the model, and this site has no other part",
            why=f"the job's `model` makes {', '.join(list(whole)[:5]) or 'no tensors'} here",
            fix="let `model` of job.yaml return the same tensors at every site and at the server",
        )
    return found


def joined(sent: Mapping[str, Any], private: Placed) -> Model:
    """Return the whole model: the tensors that stay here in their places, the others in their order."""
    from convoy.model.arrays import Model

    others, whole = iter(sent.items()), dict[str, Any]()
    for name, (place, array) in sorted(private.items(), key=lambda item: item[1][0]):
        while len(whole) < place and (other := next(others, None)) is not None:
            whole[other[0]] = other[1]
        whole[name] = array
    return Model(whole | dict(others))


def own(kept: Model) -> Model:
    """Return what the trainer itself has kept."""
    from convoy.model.arrays import Model

    return Model({name: array for name, array in kept.items() if not name.startswith(PREFIX)})


def parted(arrays: Any, private: Placed, state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays of a reply that may leave, and what the site keeps: its own tensors and the trainer's state.

    Raises `Refused` for tensors that are not like those that stay here, `BadInput` for a state that has one's name.
    """
    from convoy.model import frameworks, schema
    from convoy.model.arrays import packed, shapes

    whole = {name: packed(array) for name, array in frameworks.to_arrays(arrays).items()}
    if absent := [name for name in private if name not in whole]:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise Refused(
            f"the reply lacks the tensor {absent[0]!r}{more}",
            why="it stays at this site, and a reply has the whole model: what is federated, and what stays",
            fix="answer with every tensor of task.model; those that did not change, too",
        )
    mine = {name: whole.pop(name) for name in private}
    schema.check_shapes(shapes(mine), shapes({name: array for name, (_, array) in private.items()}))
    schema.check_values(mine)
    kept = frameworks.to_arrays(state)
    if clash := [name for name in kept if name.startswith(PREFIX)]:
        raise BadInput(f"the state has an array {clash[0]!r}", fix=f"give it a name that does not begin with {PREFIX}")
    return whole, kept | {f"{PREFIX}{place}/{name}": mine[name] for name, (place, _) in private.items()}
