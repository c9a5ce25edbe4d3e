"""Each site's own copy of a job's modules, where many sites share a process.

A trainer may keep things in its modules: a cache of its site's data, a network. In a federation each site has a process
of its own for that; here each site has modules of its own. Sites share them for as long as the modules hold nothing
that a task could have put there.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

_FIXED: Final = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type(...), type(NotImplemented), types.ModuleType,
    types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType,
    types.MemberDescriptorType, types.GenericAlias, types.UnionType, np.ufunc, np.dtype, np.generic, Path,
)  # fmt: skip


class Namespace:
    """The modules of a job's folder as one site has them."""

    def __init__(self) -> None:
        """Begin with none."""
        self.modules: dict[str, types.ModuleType] = {}

    def held(self) -> Held | None:
        """Return all that the modules hold; None if something of it can change unseen, such as a list."""
        found: list[object] = []
        for module in self.modules.values():
            for name, value in vars(module).items():
                if name.startswith("__") and name.endswith("__"):
                    continue
                found.append(name)
                if not _hold(value, self.modules, found):
                    return None
        return Held(tuple(found))


@dataclass(frozen=True, slots=True)
class Held:
    """What modules hold: the values themselves, so that none of them can give its place in memory to another one."""

    values: tuple[object, ...]

    def same(self, other: Held | None) -> bool:
        """Whether nothing has another value."""
        return (
            other is not None
            and len(self.values) == len(other.values)
            and all(one is another for one, another in zip(self.values, other.values, strict=True))
        )


def _hold(value: Any, own: Mapping[str, types.ModuleType], found: list[object]) -> bool:
    """Note a value and all that it holds; return whether nothing can be put into it."""
    found.append(value)
    match value:
        case tuple() | frozenset():
            return all(_hold(item, own, found) for item in value)
        case types.FunctionType():
            return _hold_function(value, own, found)
        case staticmethod() | classmethod():
            return _hold(value.__func__, own, found)
        case property():
            return all(_hold(one, own, found) for one in (value.fget, value.fset, value.fdel))
        case type():
            return value.__module__ not in own or all(
                _hold(item, own, found)
                for name, item in vars(value).items()
                if name not in ("__annotations__", "__dict__")
            )
        case _:
            return isinstance(value, _FIXED) or type(value).__module__ in ("typing", "types")


def _hold_function(function: types.FunctionType, own: Mapping[str, types.ModuleType], found: list[object]) -> bool:
    if function.__module__ not in own:
        return True  # a library's: it is the same for all
    kept = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return not function.__dict__ and all(_hold(item, own, found) for item in (*kept, *cells))


class Switch:
    """Puts the modules of the site that works now in the place where imports find them."""

    def __init__(self, folder: Path) -> None:
        """Take the job's folder."""
        self._folder = str(folder.resolve())
        self._current: Namespace | None = None
        self._main = sys.modules["__main__"]
        self._known = 0  # modules in all, when they were looked through last

    def to(self, namespace: Namespace | None) -> None:
        """Let a site's modules be those that imports find; None: nobody's."""
        if namespace is self._current:
            return
        self._gather()
        if self._current is not None:
            for name in self._current.modules:
                sys.modules.pop(name, None)
        sys.modules["__main__"] = self._main
        self._current = namespace
        if namespace is not None:
            sys.modules.update(namespace.modules)

    def _gather(self) -> None:
        """Note the modules of the job that were imported since."""
        if self._current is None or len(sys.modules) == self._known:
            return
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file.startswith(f"{self._folder}/"):
                self._current.modules[name] = module
        self._known = len(sys.modules)

    def gathered(self) -> None:
        """Note the modules that the current site has by now."""
        self._known = 0
        self._gather()
