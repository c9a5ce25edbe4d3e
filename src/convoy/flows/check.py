"""What can be said of a job before it runs, by reading its files and running none of them."""

from __future__ import annotations

import ast
import contextlib
import difflib
import operator
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from convoy.errors import BadInput, RemoteFault
from convoy.flows import catalog
from convoy.flows.catalog import BUILT_IN
from convoy.model import blob
from convoy.spec.yamls import together

if TYPE_CHECKING:
    from convoy.spec.job import Job
    from convoy.spec.yamls import Document

TYPES: Final[Mapping[str, tuple[type, ...]]] = {  # by their names in annotations; what is not here is not checked
    "int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "list": (list,), "dict": (dict,),
    "None": (type(None),),
}  # fmt: skip
WORDS: Final[Mapping[str, str]] = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "list": "a list",
    "dict": "a mapping", "None": "nothing",
}  # fmt: skip


MAX_PYTHON: Final = 96 << 10  # bytes of one file, some 2,500 lines: its tree takes up to 500 times as much
MAX_READ: Final = 2 << 20  # bytes of all of them together, for what is looked for in every file

Room = tuple[float, float, float]  # cores, bytes of memory, devices

EXAMPLES: Final[Mapping[str, str]] = {
    "int": "5", "float": "0.5", "str": "text", "bool": "true", "list": "[1, 2]", "dict": "{a: 1}", "None": "null",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parameter:
    """A workflow's own parameter; `annotation` is its text, empty where there is none."""

    name: str
    annotation: str
    required: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a workflow after the fleet; `open` if it takes any others too."""

    parameters: tuple[Parameter, ...]
    open: bool


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
    known = None if known_sites is None else sorted(known_sites)
    found = [*problems(job, document, files, known), *_resources(job, document, known or (), room or {})]
    if found:
        raise together(found)


def problems(
    job: Job, document: Document, files: Mapping[str, Any], known_sites: Iterable[str] | None = None
) -> list[BadInput]:
    """Return everything that is wrong with a job, each with its line."""
    reader = _Files(files)
    return [
        *_trainer(job, document, reader),
        *_model(job, document, reader),
        *_workflow(job, document, reader),
        *_evaluation(job, document, reader),
        *_sites(job, document, None if known_sites is None else sorted(known_sites)),
    ]


class _Files:
    """The job's files, its Python read as syntax trees and never run."""

    def __init__(self, files: Mapping[str, Any]) -> None:
        self.files = files
        self._last: tuple[str, ast.Module] | None = None  # trainer and workflow are often in one file

    def tree(self, reference: str, where: str) -> ast.Module:
        """Return a Python file's tree. Raises `BadInput` if it is not there or is not Python."""
        file = reference.partition(":")[0]
        if self._last is not None and self._last[0] == file:
            return self._last[1]
        data, self._last = self.data(file, where), None
        if not file.endswith(".py"):
            raise BadInput(f"{file} is not a Python file", fix="name one that ends in .py", where=where)
        if len(data) > MAX_PYTHON:
            raise BadInput(f"{file} has {len(data):,} bytes", why=f"at most {MAX_PYTHON:,} are read", fix="split it")
        try:
            self._last = file, ast.parse(bytes(data), filename=file)
        except (RecursionError, MemoryError) as problem:  # the second: of the parser's own stack
            raise BadInput(f"{file} is nested too deep to be read", where=file) from problem
        except (SyntaxError, ValueError) as problem:  # ValueError: null bytes
            line, column = getattr(problem, "lineno", None) or 1, getattr(problem, "offset", None) or 1
            said = getattr(problem, "msg", None) or str(problem)
            raise BadInput(f"not valid Python: {said}", where=f"{file}:{line}:{column}") from problem
        return self._last[1]

    def trees(self) -> Iterator[ast.Module]:
        """Yield the tree of every Python file that can be read as one, the first 2 MiB of them."""
        left = MAX_READ
        for file, data in self.files.items():
            if file.endswith(".py") and len(data) <= left:
                left -= len(data)
                with contextlib.suppress(BadInput):
                    yield self.tree(file, "")

    def data(self, file: str, where: str) -> Any:
        """Return a file's bytes. Raises `BadInput` if the job does not have it."""
        found = self.files.get(posixpath.normpath(file))
        if found is None:
            raise BadInput(f"the job has no file {file}", fix=_near(file, self.files), where=where)
        return found

    def function(self, reference: str, where: str) -> ast.stmt:
        """Return the statement that makes the function of `train.py:train`. Raises `BadInput`."""
        file, _, name = reference.partition(":")
        names = dict(_names(self.tree(reference, where).body))
        if name not in names:
            raise BadInput(f"{file} has no function {name!r}", fix=_near(name, names), where=where)
        return names[name]


def _names(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the names that a file's top level makes, also under `if` and `try`, with their statements."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, statement
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (((alias.asname or alias.name).partition(".")[0], statement) for alias in names)
            case ast.Assign(targets=targets):
                yield from ((target.id, statement) for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, statement
            case ast.If(body=inner, orelse=other) | ast.Try(body=inner, orelse=other):
                yield from _names([*inner, *other])


def _trainer(job: Job, document: Document, files: _Files) -> Iterator[BadInput]:
    where = document.where(("trainer",))
    try:
        if ":" in job.trainer:
            files.function(job.trainer, where)
        else:
            files.tree(job.trainer, where)
    except BadInput as problem:
        yield problem


def _evaluation(job: Job, document: Document, files: _Files) -> Iterator[BadInput]:
    """Yield what is wrong where sites are to evaluate; a loop, or code from elsewhere, takes whatever comes."""
    if job.workflow not in BUILT_IN or "evaluate" not in BUILT_IN[job.workflow].kinds(job.with_):
        return
    file, named, _ = job.trainer.partition(":")
    if any("evaluate" in _decorators(tree) for tree in files.trees()):
        return
    with contextlib.suppress(BadInput):
        here = files.tree(file, "")
        if not ({"evaluate", "*"} & dict(_names(here.body)).keys() if named else "train" not in _decorators(here)):
            yield _no_evaluation(document, file)


def _no_evaluation(document: Document, file: str) -> BadInput:
    return BadInput(
        f'"evaluate" is true, and {file} has no function for "evaluate" tasks',
        why="the sites would be asked to measure each round's model",
        fix="write one under @convoy.evaluate, or say `evaluate: false`",
        where=document.where(("with", "evaluate")),
    )


def _decorators(tree: ast.Module) -> set[str]:
    """Return the last word of every decorator: "train" for `@convoy.train`."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {_last_word(it) for function in functions for it in function.decorator_list}


def _last_word(decorator: ast.expr) -> str:
    match decorator:
        case ast.Name(id=word) | ast.Attribute(attr=word):
            return word
    return ""


def _model(job: Job, document: Document, files: _Files) -> Iterator[BadInput]:
    if job.model is None:
        return
    where = document.where(("model",))
    try:
        if ":" in job.model:
            files.function(job.model, where)
        elif job.model.endswith(".safetensors"):
            data = memoryview(files.data(job.model, where))
            blob.parse_foreign(bytes(data[: blob.header_length(bytes(data[:8]))]))
        else:
            yield BadInput(
                f'"model" is {job.model!r}',
                fix="name a function such as `train.py:initial`, or a .safetensors file of the job",
                where=where,
            )
    except BadInput as problem:
        yield problem
    except RemoteFault as problem:
        yield BadInput(f"{job.model} is not a safetensors file", why=str(problem), where=where)


def _workflow(job: Job, document: Document, files: _Files) -> Iterator[BadInput]:
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
            wanted = _wanted(known[name].annotation, value)
            if wanted:
                wrong = True
                example = EXAMPLES[known[name].annotation.strip("'\"").partition("|")[0].partition("[")[0].strip()]
                yield BadInput(f'"{name}" is {value!r}; wanted {wanted}', fix=f"such as `{name}: {example}`", where=at)
        elif not signature.open:
            yield BadInput(f"workflow {job.workflow} has no parameter {name!r}", fix=_near(name, known), where=at)
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


def _signature(workflow: str, files: _Files, where: str) -> Signature | None:
    """Return a workflow's parameters; None where only running the code would tell. Raises `BadInput`."""
    if ":" not in workflow:
        if workflow not in BUILT_IN:
            fix = _near(workflow, BUILT_IN) + ", or write your own: `flow.py:run`"
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
    return _of_tree(statement.args)


def _of_tree(args: ast.arguments) -> Signature:
    places = [*args.posonlyargs, *args.args]
    needed = len(places) - len(args.defaults)
    found = [(arg, place < needed) for place, arg in enumerate(places)][1:]  # the first is the fleet
    found += [(arg, default is None) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return Signature(
        tuple(Parameter(a.arg, ast.unparse(a.annotation) if a.annotation else "", needs) for a, needs in found),
        open=args.kwarg is not None,
    )


def _wanted(annotation: str, value: Any) -> str:
    """Return in words what a parameter wants, empty if the value is that or the annotation says nothing checkable."""
    names = [part.strip().partition("[")[0] for part in annotation.strip("'\"").split("|")]
    if not annotation or any(name not in TYPES for name in names):
        return ""
    for name in names:
        if isinstance(value, TYPES[name]) and (name == "bool" or not isinstance(value, bool)):
            return ""
    return " or ".join(WORDS[name] for name in names)


def _sites(job: Job, document: Document, known: list[str] | None) -> Iterator[BadInput]:
    if known is None:
        return
    for place, name in enumerate(job.sites or ()):
        if name not in known:
            yield BadInput(
                f"the project has no site {name!r}", fix=_near(name, known), where=document.where(("sites", place))
            )
    usable = len(known if job.sites is None else set(job.sites) & set(known))
    for key in catalog.COUNTS:
        value = job.with_.get(key, 0)
        if isinstance(value, int) and value > usable:
            whose = "the project has" if job.sites is None else "the job names"
            fix = f"wanted at most {usable}"
            yield BadInput(f'"{key}" is {value}; {whose} {usable} sites', fix=fix, where=document.where(("with", key)))


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


def _near(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"there are {', '.join(names[:10])}" if names else ""
