"""A job's own code, loaded from its folder as a script or a module; and its errors as text of limited length."""

from __future__ import annotations

import importlib
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from convoy.errors import BadInput

LINE: Final = 2_000  # characters of an error that are sent
MAIN: Final = "__main__"  # the name of a script's module
TRACEBACK: Final = 32_000  # characters of its traceback


def split(reference: str) -> tuple[str, str]:
    """Return file and function of `train.py:train`; the function is empty for `train.py`."""
    file, _, name = reference.partition(":")
    return file, name


def run(folder: Path, file: str, *, name: str = "") -> ModuleType:
    """Run a file of the job and return it as a module; `name` "__main__" makes a script of it.

    The folder that it lies in, or that its package lies in, is put on the path so that the job's other files can be
    imported, by relative imports too. It comes after the standard library, so that no file of a job replaces a module
    that Python itself needs. Raises `BadInput` if the file is not there, and whatever the code raises.
    """
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise BadInput(f"the job has no file {file}", where="job.yaml")
    top, package = path.parent, ""
    while top != folder.resolve() and (top / "__init__.py").is_file():
        package = f"{top.name}.{package}" if package else top.name
        top = top.parent
    if str(top) not in sys.path:
        sys.path.insert(_after_standard_library(), str(top))
    module = ModuleType(name or (f"{package}.{path.stem}" if package else path.stem))
    module.__file__, module.__package__ = str(path), package
    if package:
        importlib.import_module(package)
    sys.modules[module.__name__] = module
    exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - a job is code
    return module


def _after_standard_library() -> int:
    """Return the index in `sys.path` after the standard library and before installed packages."""
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    standard |= {f"{place}/lib-dynload" for place in standard}
    return max((at for at, entry in enumerate(sys.path) if entry in standard), default=-1) + 1


def function(module: ModuleType, name: str) -> Any:
    """Return a function of a module. Raises `BadInput` if there is none of that name."""
    found = getattr(module, name, None)
    if not callable(found):
        raise BadInput(f"{Path(str(module.__file__)).name} has no function {name!r}", where="job.yaml")
    return found


def initial(folder: Path, model: str, config: Any) -> Any:
    """Return the initial model: what a function of the job returns, a safetensors file of it, or no arrays at all.

    Raises `BadInput` if it is not there, and whatever the job's code raises.
    """
    if not model:
        return {}
    file, name = split(model)
    path = (folder / file).resolve()
    if not name:
        from convoy.store.arrays import read_file

        if not path.is_relative_to(folder.resolve()):
            raise BadInput(f"the job has no file {file}", where="job.yaml")
        return read_file(path)
    modules = [it for known, it in sys.modules.items() if known != MAIN]
    loaded = (it for it in modules if getattr(it, "__file__", None) == str(path))
    make = function(next(loaded, None) or run(folder, file), name)
    takes = getattr(getattr(make, "__code__", None), "co_argcount", 0)
    return make(config) if takes else make()


def traceback(error: BaseException) -> str:
    """Return the traceback from the job's first line on, without Convoy's own lines."""
    from traceback import format_exception  # loaded only after an error

    trace = error.__traceback__
    ours = str(Path(__file__).parents[1])
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    return told("".join(format_exception(type(error), error, trace)), TRACEBACK)


def line(error: BaseException) -> str:
    """Return an error as one line."""
    said = " · ".join(part for part in told(str(error), LINE).splitlines() if part.strip())
    kind = type(error).__name__
    return f"{kind}: {said}" if said else kind


def told(text: str, limit: int = LINE) -> str:
    """Return text that can be sent and stored: valid, without NUL; the middle of a long text is left out."""
    if len(text) > limit:
        text = f"{text[: limit // 2]} … {text[-limit // 2 :]}"
    return text.encode(errors="replace").decode().replace("\0", "�")
