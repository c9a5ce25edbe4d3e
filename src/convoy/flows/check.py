"""What can be said of a job before it runs, by reading its files and running none of them."""

from __future__ import annotations

import ast
import contextlib
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from convoy.errors import BadInput, RemoteFault
from convoy.flows import catalog, swarm
from convoy.flows import keys as patterns
from convoy.flows.catalog import BUILT_IN, kinds_of
from convoy.flows.parameters import Parameter, Signature, example, of_tree, wanted
from convoy.flows.source import Files, decorators, names_of, near
from convoy.model import blob
from convoy.spec.yamls import together

if TYPE_CHECKING:
    from convoy.spec.job import Job
    from convoy.spec.yamls import Document

Room = tuple[float, float, float]  # cores, bytes of memory, devices


def check_job(
    job: Job,
    document: Document,
    files: Mapping[str, Any],
    known_sites: Iterable[str] | None = None,
    room: Mapping[str, Room] | None = None,
) -> None:
    """Check a job against its files and, where they are known, the project's sites and what each can give in all.

    Raises `BadInput` for the first thing that is wrong, with its line; the others follow in its second line.
    """
    if found := every_problem(job, document, files, known_sites, room):
        raise together(found)


def every_problem(
    job: Job,
    document: Document,
    files: Mapping[str, Any],
    known_sites: Iterable[str] | None = None,
    room: Mapping[str, Room] | None = None,
) -> list[BadInput]:
    """Return what `check_job` would find, each with its line."""
    known = None if known_sites is None else sorted(known_sites)
    return [*problems(job, document, files, known), *_resources(job, document, known or (), room or {})]


def problems(
    job: Job, document: Document, files: Mapping[str, Any], known_sites: Iterable[str] | None = None
) -> list[BadInput]:
    """Return everything that is wrong with a job, each with its line."""
    reader = Files(files)
    return [
        *_trainer(job, document, reader),
        *_model(job, document, reader),
        *_workflow(job, document, reader),
        *_functions(job, document, reader),
        *_sites(job, document, None if known_sites is None else sorted(known_sites)),
    ]


def _trainer(job: Job, document: Document, files: Files) -> Iterator[BadInput]:
    where = document.where(("trainer",))
    own = job.workflow in BUILT_IN and BUILT_IN[job.workflow].own_trainer
    if own or not job.trainer:
        yield from _own_trainer(job, document, own=own)
        return
    try:
        if ":" in job.trainer:
            files.function(job.trainer, where)
        else:
            files.tree(job.trainer, where)
    except BadInput as problem:
        yield problem


def _functions(job: Job, document: Document, files: Files) -> Iterator[BadInput]:
    """Yield which kinds of tasks the trainer has no function for; a loop, or code from elsewhere, takes whatever comes.

    A function that job.yaml names answers tasks of kinds without one, but must not be asked to evaluate or to fold.
    """
    kinds = kinds_of(job.workflow, job.with_)
    file, named, _ = job.trainer.partition(":")
    for kind in ("evaluate", swarm.KIND):
        decorated = kind == "evaluate" and any(kind in decorators(tree) for tree in files.trees())
        if kind not in kinds or decorated:
            continue
        with contextlib.suppress(BadInput):
            here = files.tree(file, "")
            if not ({kind, "*"} & dict(names_of(here.body)).keys() if named else "train" not in decorators(here)):
                yield _no_evaluation(job, document, file) if kind == "evaluate" else _no_fold(job, document, file)


def _no_fold(job: Job, document: Document, file: str) -> BadInput:
    return BadInput(
        f'workflow {job.workflow} has sites fold updates, and {file} has no function for "{swarm.KIND}" tasks',
        fix=f"name the trainer as `trainer: {file}:train`, and write `from convoy import {swarm.KIND}` there, or a "
        "function of that name",
        where=document.where(("workflow",)),
    )


def _own_trainer(job: Job, document: Document, *, own: bool) -> Iterator[BadInput]:
    """Yield what is wrong with a job whose workflow asks Convoy's own trainer, or that names no trainer."""
    if not own and ":" not in job.workflow:
        yield BadInput(
            '"trainer" is missing',
            why=f"workflow {job.workflow} asks code of the job" if job.workflow in BUILT_IN else "",
            fix="name a script such as `trainer: train.py`, or a function such as `train.py:train`",
            where=document.where(()),
        )
    for key in ("trainer", "model", "image"):
        if own and getattr(job, key):
            yield BadInput(
                f'workflow {job.workflow} has no "{key}"',
                why="the sites' part of it is Convoy's own code",
                fix="remove this line",
                where=document.where((key,)),
            )
    if not own and not job.trainer and job.image:
        yield BadInput('"image" has no effect without "trainer"', fix="remove it", where=document.where(("image",)))


def _no_evaluation(job: Job, document: Document, file: str) -> BadInput:
    if job.with_.get("evaluate") is not True:
        return BadInput(
            f'workflow {job.workflow} asks for evaluations, and {file} has no function for "evaluate" tasks',
            fix="write one under @convoy.evaluate",
            where=document.where(("workflow",)),
        )
    return BadInput(
        f'"evaluate" is true, and {file} has no function for "evaluate" tasks',
        why="the sites would be asked to measure each round's model",
        fix="write one under @convoy.evaluate, or say `evaluate: false`",
        where=document.where(("with", "evaluate")),
    )


def _model(job: Job, document: Document, files: Files) -> Iterator[BadInput]:
    keys = job.with_.get("keys") if job.workflow in BUILT_IN else None
    if job.model is None:
        if keys:
            fix = "name one: `model: train.py:initial`"
            yield BadInput(
                "`keys` divide a model, and the job has none", fix=fix, where=document.where(("with", "keys"))
            )
        return
    where = document.where(("model",))
    try:
        if ":" in job.model:
            files.function(job.model, where)
        elif job.model.endswith(".safetensors"):
            data = memoryview(files.data(job.model, where))
            tensors = blob.parse_foreign(bytes(data[: blob.header_length(bytes(data[:8]))]))
            if keys and not patterns.wrong(keys):
                where = document.where(("with", "keys"))
                patterns.check([tensor.name for tensor in tensors], keys)
        else:
            yield BadInput(
                f'"model" is {job.model!r}',
                fix="name a function such as `train.py:initial`, or a .safetensors file of the job",
                where=where,
            )
    except BadInput as problem:
        yield problem if problem.where else BadInput(problem.what, why=problem.why, fix=problem.fix, where=where)
    except RemoteFault as problem:
        yield BadInput(f"{job.model} is not a safetensors file", why=str(problem), where=where)


def _workflow(job: Job, document: Document, files: Files) -> Iterator[BadInput]:
    where = document.where(("workflow",))
    try:
        signature = _signature(job.workflow, files, where)
    except BadInput as problem:
        yield problem
        return
    if signature is None:
        return
    known = {parameter.name: parameter for parameter in signature.parameters}
    wrong = False
    for name, value in job.with_.items():
        at = document.where(("with", name))
        if name in known:
            lacks = wanted(known[name].annotation, value)
            if lacks:
                wrong = True
                fix = f"such as `{name}: {example(known[name].annotation)}`"
                yield BadInput(f'"{name}" is {value!r}; wanted {lacks}', fix=fix, where=at)
        elif not signature.open:
            yield BadInput(f"workflow {job.workflow} has no parameter {name!r}", fix=near(name, known), where=at)
    for parameter in signature.parameters:
        if parameter.required and parameter.name not in job.with_:
            yield BadInput(
                f"workflow {job.workflow} needs the parameter {parameter.name!r}",
                fix=f"add it: `with: {{{parameter.name}: …}}`",
                where=document.where(("with",)),
            )
    if job.workflow in BUILT_IN and not wrong:
        for name, said in BUILT_IN[job.workflow].wrong(job.with_).items():
            yield BadInput(f'"{name}" is {job.with_.get(name)!r}', fix=said, where=document.where(("with", name)))


def _signature(workflow: str, files: Files, where: str) -> Signature | None:
    """Return a workflow's parameters; None where only running the code would tell. Raises `BadInput`."""
    if ":" not in workflow:
        if workflow not in BUILT_IN:
            said = near(workflow, BUILT_IN, most=len(BUILT_IN))
            fix = said if said.endswith("?") else f"{said}; or write your own: `flow.py:run`"
            raise BadInput(f"there is no workflow {workflow!r}", fix=fix, where=where)
        own = BUILT_IN[workflow].parameters
        return Signature(tuple(Parameter(p.name, str(p.annotation), p.default is p.empty) for p in own), open=False)
    statement = files.function(workflow, where)
    if isinstance(statement, ast.FunctionDef | ast.ClassDef) and not statement.decorator_list:
        file, _, name = workflow.partition(":")
        raise BadInput(
            f"{name} is no async function",
            fix=f"write `async def {name}(fleet, ...)`",
            where=f"{file}:{statement.lineno}:{statement.col_offset + 1}",
        )
    if not isinstance(statement, ast.AsyncFunctionDef) or statement.decorator_list:
        return None
    return of_tree(statement.args)


def _sites(job: Job, document: Document, known: list[str] | None) -> Iterator[BadInput]:
    for place, name in enumerate(job.sites or ()):
        if known is not None and name not in known:
            yield BadInput(
                f"the project has no site {name!r}", fix=near(name, known), where=document.where(("sites", place))
            )
    if known is None and job.sites is None:
        return
    named = set(known or ()) if job.sites is None else set(job.sites)
    usable = len(named if known is None else named & set(known))
    yield from counted(job, document, usable, "the project has" if job.sites is None else "the job names")


def counted(job: Job, document: Document, usable: int, whose: str, instead: str = "") -> Iterator[BadInput]:
    """Yield each parameter of more sites than there are; `whose` says in words who has so many.

    `instead`: begins what else one may do, such as `--sites`, and the number that is needed ends it.
    """
    for key in catalog.COUNTS:
        value = job.with_.get(key, 0)
        if isinstance(value, int) and value > usable:
            yield BadInput(
                f'"{key}" is {value}; {whose} {usable} site{"s" * (usable != 1)}',
                fix=f"wanted at most {usable}" + (f", or {instead} {value}" if instead else ""),
                where=document.where(("with", key)),
            )


def _resources(job: Job, document: Document, known: Iterable[str], room: Mapping[str, Room]) -> Iterator[BadInput]:
    """Yield what no wait will mend: too few of the sites have as much in all; one whose room is not known may."""
    usable = [site for site in known if job.sites is None or site in job.sites]
    asked = (job.resources.cpu, job.resources.memory, job.resources.gpu)
    least = catalog.least_sites(job.with_)
    able = [site for site in usable if site not in room or all(map(operator.ge, room[site], asked))]
    if len(able) < min(least, len(usable)):
        yield BadInput(
            f'"resources" asks for {_said(asked)}; {len(able)} of the {least} sites that it needs have that',
            why="; ".join(f"{site} has {_said(room[site])}" for site in usable if site not in able),
            fix="ask for less; or give more to jobs in the local/node.yaml of the sites",
            where=document.where(("resources",)),
        )


def _said(room: Room) -> str:
    return f"{room[0]:g} cores, {room[1] / (1 << 20):.0f}Mi of memory and {room[2]:g} GPUs"
