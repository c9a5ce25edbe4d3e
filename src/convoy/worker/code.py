"""A job's own code, loaded from its folder as a script or a module; and its errors as text of limited length."""

from __future__ import annotations

import copy
import importlib
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from convoy.errors import BadInput, Bug, ConvoyError

if TYPE_CHECKING:
    from traceback import TracebackException

LINE: Final = 2_000  # characters of an error that are sent
_INSTALLED: Final = ("stdlib", "platstdlib", "purelib", "platlib")  # places of code that is not the job's
_TORCH: Final = re.compile(
    rb"^\s*(?:from|import)\s[^#\n]*(?:torch|lightning|transformers|peft|monai|timm)", re.MULTILINE
)
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
    that Python itself needs. A module finds no arguments of a command in `sys.argv`; a script has those that its caller
    sets. Raises `BadInput` if the file is not there or a module of it calls `sys.exit`, and whatever the code raises.
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
    with nullcontext() if name == MAIN else _alone(file, "while it was imported"):
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - a job is code
    return module


@contextmanager
def arguments(file: str) -> Iterator[None]:
    """Let the job's code find no arguments in `sys.argv`: those of the command or the process are not for it."""
    before, sys.argv = sys.argv, [file]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _alone(file: str, when: str) -> Iterator[None]:
    with arguments(file):
        try:
            yield
        except SystemExit as leaving:
            raise BadInput(
                f"{file} called sys.exit({leaving.code!r}) {when}",
                fix='put what runs as a script under `if __name__ == "__main__":`, below the functions',
            ) from leaving


def _after_standard_library() -> int:
    """Return the index in `sys.path` after the standard library and before installed packages."""
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    standard |= {f"{place}/lib-dynload" for place in standard}
    return max((at for at, entry in enumerate(sys.path) if entry in standard), default=-1) + 1


@lru_cache(maxsize=64)
def uses_torch(folder: Path) -> bool:
    """Return whether a Python file of the job imports torch, or a package that brings it along."""
    return any(_TORCH.search(file.read_bytes()) for file in folder.rglob("*.py"))


def function(module: ModuleType, name: str) -> Any:
    """Return a function of a module. Raises `BadInput` if there is none of that name."""
    found = getattr(module, name, None)
    if not callable(found):
        raise BadInput(f"{Path(str(module.__file__)).name} has no function {name!r}", where="job.yaml")
    return found


def initial(folder: Path, model: str, config: Any) -> Any:
    """Return the initial model: what a function of the job returns, a safetensors file of it, or no arrays at all.

    Raises `BadInput` if it is not there, returns None or calls `sys.exit`, and whatever the job's code raises.
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
    with _alone(file, f"in {name}"):
        found = make(copy.deepcopy(config)) if _takes_config(make) else make()
    if found is None:
        raise BadInput(f"{model} returned None", fix="return the arrays by name: {'w': array}")
    return found


def _takes_config(make: Any) -> bool:
    """Return whether to call a function with the job's `config`: it takes an argument.

    A class, such as a network, and other things that can be called take it only if they have no default for it.
    """
    import inspect  # 10 ms, which not each process of a job needs

    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # a function of C that does not say
        return False
    taken = [it for it in parameters if it.kind in (it.POSITIONAL_ONLY, it.POSITIONAL_OR_KEYWORD)]
    return bool(taken) and (inspect.isroutine(make) or taken[0].default is taken[0].empty)


def traceback(error: BaseException) -> str:
    """Return the traceback from the job's first line on, without Convoy's own lines.

    An error that Convoy raises on purpose ends at the job's last line; the text is empty where no line of the job's
    code led to it: `line` says all there is. Bugs and errors of other kinds keep the lines in which they arose.
    """
    from traceback import TracebackException  # loaded only after an error

    shown = TracebackException(type(error), error, error.__traceback__, compact=True)
    chain: list[tuple[TracebackException, BaseException]] = [(shown, error)]
    for one, problem in chain:  # it grows by the errors behind each
        behind = ((one.__cause__, problem.__cause__), (one.__context__, problem.__context__))
        chain += [(inner, its) for inner, its in behind if inner is not None and its is not None]
    anything = False
    for one, problem in reversed(chain):
        if _meant(problem) and not anything:
            one.__cause__ = one.__context__ = None
        anything = _trim(one, to_the_end=_meant(problem) or isinstance(problem, SyntaxError)) or anything
        if not one.stack:
            one.stack = None  # type: ignore[assignment]  # its heading is left out too
    if not anything and _meant(error):
        return ""
    return told("".join(shown.format()), TRACEBACK)


def _meant(error: BaseException) -> bool:
    return isinstance(error, ConvoyError) and not isinstance(error, Bug)


def _trim(shown: TracebackException, *, to_the_end: bool) -> bool:
    """Take Convoy's lines out of a traceback, at its end too if said so; return whether the job has lines in it."""
    frames, ours = list(shown.stack), str(Path(__file__).parents[1])
    elsewhere = ("<frozen", ours, *(sysconfig.get_path(name) for name in _INSTALLED))
    job = [place for place, frame in enumerate(frames) if not frame.filename.startswith(elsewhere)]
    if to_the_end:
        shown.stack[:] = frames[job[0] : job[-1] + 1] if job else []
        return bool(job)
    first = next((place for place, frame in enumerate(frames) if not frame.filename.startswith(ours)), len(frames) - 1)
    shown.stack[:] = frames[max(first, 0) :]
    return bool(job)


def logged(error: BaseException) -> str:
    """Return what a job's log says of an error: its traceback, or what, why and what to do where there is none."""
    return traceback(error) or told(f"{type(error).__name__}: {error}\n", TRACEBACK)


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
