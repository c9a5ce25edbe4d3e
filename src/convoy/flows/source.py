"""A job's files, its Python read as syntax trees and never run."""

from __future__ import annotations

import ast
import contextlib
import difflib
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from convoy.errors import BadInput

MAX_PYTHON: Final = 96 << 10  # bytes of one file, about 2,500 lines: its syntax tree takes up to 500 times as much
MAX_READ: Final = 2 << 20  # bytes of all files together, for checks that read every file


class Files:
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
            raise BadInput(f"the job has no file {file}", fix=near(file, self.files), where=where)
        return found

    def function(self, reference: str, where: str) -> ast.stmt:
        """Return the statement that makes the function of `train.py:train`. Raises `BadInput`."""
        file, _, name = reference.partition(":")
        names = dict(names_of(self.tree(reference, where).body))
        if name not in names:
            raise BadInput(f"{file} has no function {name!r}", fix=near(name, names), where=where)
        return names[name]


def names_of(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
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
                yield from names_of([*inner, *other])


def decorators(tree: ast.Module) -> set[str]:
    """Return the last word of every decorator: "train" for `@convoy.train`."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {_last_word(it) for function in functions for it in function.decorator_list}


def _last_word(decorator: ast.expr) -> str:
    match decorator:
        case ast.Name(id=word) | ast.Attribute(attr=word):
            return word
    return ""


def near(name: str, known: Iterable[str], *, most: int = 10) -> str:
    """Return what to say of a name that is not known: the one that was meant, or those that there are, in their order.

    `most`: so many are listed, and the number of the others.
    """
    names = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    if close:
        return f'did you mean "{names[close[0]]}"?'
    listed = [*names.values()]
    more = f", … and {len(listed) - most} more" if len(listed) > most else ""
    return f"there are {', '.join(listed[:most])}{more}" if names else ""
