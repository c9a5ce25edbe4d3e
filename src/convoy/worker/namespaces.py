"""Each site's own copy of a job's modules, where many sites share a process.

A trainer may keep things in its modules: a cache of its site's data, a network. In a federation each site has a process
of its own for that; here each site has modules of its own. Sites share them for as long as the modules hold nothing
that a task could have put there.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from operator import is_
from pathlib import Path
from typing import Any, Final

import numpy as np

_FIXED: Final = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type(...), type(NotImplemented), types.ModuleType,
    types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType,
    types.MemberDescriptorType, types.GenericAlias, types.UnionType, np.ufunc, np.dtype, np.generic, Path,
)  # fmt: skip

PLAIN: Final = (  # names of a module that the interpreter has put there
    "__name__", "__doc__", "__package__", "__loader__", "__spec__", "__file__", "__cached__", "__builtins__",
    "__annotations__", "__path__", "__all__",
)  # fmt: skip


class Namespace:
    """The modules of a job's folder as one site has them."""

    def __init__(self) -> None:
        """Begin with none."""
        self.modules: dict[str, types.ModuleType] = {}

    def held(self) -> Held | None:
        """Return all that the modules hold; None if something of it can change unseen, such as a list."""
        found = Held()
        found.watch(self, self.modules)  # one that a task loads holds what nobody saw before the task
        kept = all(_hold_names(module, PLAIN, self.modules, found) for module in self.modules.values())
        return found if kept else None


@dataclass(slots=True)
class Held:
    """What modules hold: the values themselves, so that none of them can give its place in memory to another one."""

    names: list[tuple[Mapping[str, Any], tuple[object, ...]]] = field(
        default_factory=list
    )  # what has names, and values
    functions: list[tuple[types.FunctionType, tuple[object, ...]]] = field(default_factory=list)  # see `_parts`
    cells: list[tuple[types.CellType, object]] = field(default_factory=list)  # and their contents
    _seen: dict[int, object] = field(default_factory=dict)  # modules, classes and functions

    def unchanged(self) -> bool:
        """Whether nothing has another value."""
        return (
            all(len(now) == len(then) and all(map(is_, now.values(), then)) for now, then in self.names)
            and all(all(map(is_, _parts(function), parts)) for function, parts in self.functions)
            and all(cell.cell_contents is content for cell, content in self.cells)
        )

    def watch(self, owner: object, names: Mapping[str, Any]) -> bool:
        """Note the values that something has by name; return whether it was not noted before."""
        if id(owner) in self._seen:
            return False
        self._seen[id(owner)] = owner
        self.names.append((names, tuple(names.values())))
        return True


def _hold(value: Any, own: Mapping[str, types.ModuleType], found: Held) -> bool:
    """Note all that a value holds; return whether nothing can be put into it unseen."""
    match value:
        case tuple() | frozenset():
            return all(_hold(item, own, found) for item in value)
        case types.FunctionType():
            return value.__module__ not in own or _hold_function(value, own, found)  # a library's is the same for all
        case staticmethod() | classmethod():
            return _hold(value.__func__, own, found)
        case property():
            return all(_hold(one, own, found) for one in (value.fget, value.fset, value.fdel))
        case type():
            return value.__module__ not in own or _hold_names(value, ("__annotations__", "__dict__"), own, found)
        case _:
            return isinstance(value, _FIXED) or type(value).__module__ in ("typing", "types")


def _hold_names(owner: Any, but: Collection[str], own: Mapping[str, types.ModuleType], found: Held) -> bool:
    names = vars(owner)
    return not found.watch(owner, names) or all(
        _hold(value, own, found) for name, value in names.items() if name not in but
    )


def _hold_function(function: types.FunctionType, own: Mapping[str, types.ModuleType], found: Held) -> bool:
    if not found.watch(function, vars(function)):
        return True
    named = function.__kwdefaults__
    if named:
        found.watch(named, named)
    found.functions.append((function, _parts(function)))
    try:
        found.cells += ((cell, cell.cell_contents) for cell in function.__closure__ or ())
    except ValueError:  # one that is empty: something is yet to be put into it
        return False
    kept = (
        *(function.__defaults__ or ()),
        *(named or {}).values(),
        *(cell.cell_contents for cell in function.__closure__ or ()),
    )
    return not vars(function) and all(_hold(item, own, found) for item in kept)


def _parts(function: types.FunctionType) -> tuple[object, ...]:
    """Return what a task could exchange of a function."""
    return function.__code__, function.__defaults__, function.__kwdefaults__


class Switch:
    """Puts the modules of the site that works now in the place where imports find them."""

    def __init__(self, folder: Path) -> None:
        """Take the job's folder."""
        self._folder = str(folder.resolve())
        self._current: Namespace | None = None
        self._main = sys.modules["__main__"]
        self._known: tuple[int, str] = 0, ""  # how many modules there were when they were looked through, and the last

    def to(self, namespace: Namespace | None) -> None:
        """Let a site's modules be those that imports find; None: nobody's."""
        if namespace is self._current:
            return
        self.gather()
        if self._current is not None:
            for name in self._current.modules:
                sys.modules.pop(name, None)
        sys.modules["__main__"] = self._main
        self._current = namespace
        if namespace is not None:
            sys.modules.update(namespace.modules)
        self._known = _loaded()

    def gather(self) -> None:
        """Note the modules of the job that were imported since."""
        if self._current is None or _loaded() == self._known:
            return
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file.startswith(f"{self._folder}/"):
                self._current.modules[name] = module
        self._known = _loaded()

    def gathered(self) -> None:
        """Note the modules that the current site has by now."""
        self._known = 0, ""
        self.gather()


def _loaded() -> tuple[int, str]:
    """Return how many modules there are, and the one that came last: an import changes one of them."""
    return len(sys.modules), next(reversed(sys.modules))
