"""Each site's own copy of a job's modules, where many sites share a process.

A trainer may keep things in its modules: a cache of its site's data, a network. In a federation each site has a process
of its own for that; here each site has modules of its own. Sites share them for as long as the modules hold nothing
that a task could have put there.
"""

from __future__ import annotations

import sys
import types
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

    def fingerprint(self) -> tuple[object, ...] | None:
        """Return what changes when a module does; None for modules that hold something that can change unseen."""
        found: list[object] = []
        for module in self.modules.values():
            for name, value in vars(module).items():
                if name.startswith("__") and name.endswith("__"):
                    continue
                if not _fixed(value, self.modules):
                    return None
                found += [name, id(value)]
        return tuple(found)


def _fixed(value: Any, own: dict[str, types.ModuleType]) -> bool:
    """Whether nothing can be kept in a value."""
    match value:
        case tuple() | frozenset():
            return all(_fixed(item, own) for item in value)
        case types.FunctionType():
            return _fixed_function(value, own)
        case staticmethod() | classmethod():
            return _fixed(value.__func__, own)
        case property():
            return all(_fixed(one, own) for one in (value.fget, value.fset, value.fdel))
        case type():
            return value.__module__ not in own or all(
                _fixed(item, own) for name, item in vars(value).items() if name not in ("__annotations__", "__dict__")
            )
        case _:
            return isinstance(value, _FIXED) or type(value).__module__ in ("typing", "types")


def _fixed_function(function: types.FunctionType, own: dict[str, types.ModuleType]) -> bool:
    if function.__module__ not in own:
        return True  # a library's: it is the same for all
    kept = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return not function.__dict__ and all(_fixed(item, own) for item in (*kept, *cells))


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
