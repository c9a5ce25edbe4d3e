"""`convoy console`: a prompt with the verbs that readers of NVIDIA FLARE know, each the same call as a command."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from convoy.admin.client import Client, connect
from convoy.cli import identity, output
from convoy.cli.console_verbs import INSTEAD, JOB, VERBS, Around, Verb
from convoy.cli.output import Screen
from convoy.errors import BadInput, ConvoyError
from convoy.spec.kit import Kit

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

PROMPT: Final = "> "
Confirm = Callable[[str], Coroutine[Any, Any, bool]]


def run(found: identity.Identity) -> None:
    """Open the console on a terminal, or take its lines from a pipe; leave with the exit code of the last error."""
    status = asyncio.run(_console(found))
    if status:
        sys.exit(status)


async def _console(found: identity.Identity) -> int:
    async with found.reached() as server, connect(found.kit, server=server) as client:
        screen, around = Screen(), Around(found.kit)
        await _greet(client, screen)
        await around.refresh(client)
        if sys.stdin.isatty():
            session = _session(around, found.kit)
            await _talk(client, screen, around, _typed(session), _asked)
            return 0  # whoever typed it has seen what went wrong
        return await _talk(client, screen, around, _piped(), _agreed)


async def _greet(client: Client, screen: Screen) -> None:
    person, server = await client.me(), await client.status()
    screen.line(f"Convoy {server.version}: {server.project} at {client.link.name}")
    screen.line(f"{person.name} of {person.org}, {person.role}. `help` lists the verbs, `bye` leaves.")


async def _talk(
    client: Client, screen: Screen, around: Around, lines: AsyncGenerator[str, None], confirm: Confirm
) -> int:
    """Do what each line says until there are no more, or `bye`; return the exit code of the last error."""
    status = 0
    async with aclosing(lines):
        async for line in lines:
            try:
                words = _words(line)
                if words[:1] == ["bye"]:
                    break
                if words:
                    await _do(client, screen, around, words, confirm)
            except ConvoyError as problem:
                status = output.fail(problem)
    return status


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError as problem:
        raise BadInput("this line cannot be parsed", why=str(problem), fix="close every quotation mark") from problem
    return ["help", *words[1:]] if words[:1] == ["?"] else words


async def _do(client: Client, screen: Screen, around: Around, words: list[str], confirm: Confirm) -> None:
    name, *rest = words
    if name == "help":
        _help(screen, rest)
        return
    verb = VERBS.get(name)
    if verb is None:
        near = [INSTEAD[name]] if name in INSTEAD else get_close_matches(name, VERBS, n=1)
        raise BadInput(f"there is no verb {name!r}", fix=f"did you mean {near[0]}?" if near else "help")
    if not verb.least <= len(rest) <= verb.most:
        raise BadInput(f"{name} does not take {len(rest)} words", fix=f"{name} {verb.takes}".strip())
    if verb.asks and verb.kinds == JOB:
        await client.find(rest[0])  # nobody is asked about a job that is not there
    if verb.asks and not await confirm(f"{' '.join(words)}: are you sure?"):
        screen.line("nothing was changed")
        return
    with _interruptible():
        await verb.call(client, screen, around, rest)
    await around.refresh(client)


@contextlib.contextmanager
def _interruptible() -> Any:
    """Let Ctrl-C end what a verb does, and not the console."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in one
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        yield
    except asyncio.CancelledError:
        task.uncancel()
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _help(screen: Screen, names: list[str]) -> None:
    unknown = [name for name in names if name not in VERBS]
    if unknown:
        raise BadInput(f"there is no verb {unknown[0]!r}", fix="help")
    rows = [
        (f"{verb.name} {verb.takes}".strip(), verb.summary, verb.same)
        for verb in VERBS.values()
        if not names or verb.name in names
    ]
    if not names:
        rows += [("help [VERB]", "This table", "convoy --help"), ("bye", "Leave", "")]
    screen.table(("verb", "what it does", "the same as"), rows)


# where lines come from


async def _piped() -> AsyncGenerator[str, None]:
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line


async def _agreed(_text: str) -> bool:
    return True  # a script meant what it says


async def _typed(session: PromptSession[str]) -> AsyncGenerator[str, None]:
    while True:
        try:
            yield await session.prompt_async(PROMPT)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


async def _asked(text: str) -> bool:
    from prompt_toolkit import PromptSession as Session

    try:
        said = await Session[str]().prompt_async(f"{text} [y/N] ")
    except (KeyboardInterrupt, EOFError):
        return False
    return said.strip().lower() in ("y", "yes")


def _session(around: Around, kit: Kit) -> PromptSession[str]:
    from prompt_toolkit import PromptSession as Session
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    class Known(Completer):
        """Completes verbs, and the jobs, sites and folders that they take."""

        def get_completions(self, document: Any, complete_event: Any) -> Any:  # noqa: ARG002 - prompt_toolkit's
            for text in complete(document.text_before_cursor, around):
                yield Completion(text, start_position=-len(document.get_word_before_cursor(WORD=True)))

    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "convoy"
    history: History = InMemoryHistory()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        history = FileHistory(str(folder / f"console-{kit.project}"))
    return Session(history=history, completer=Known(), auto_suggest=AutoSuggestFromHistory())


def complete(text: str, around: Around) -> list[str]:
    """Return what the last word of a line may become."""
    *before, last = text.lstrip().split(" ")
    words = [word for word in before if word]
    verb: Verb | None = VERBS.get(words[0]) if words else None
    if not words:
        choices = [*VERBS, "help", "bye"]
    elif words[0] in ("help", "?"):
        choices = list(VERBS)
    elif verb is None:
        choices = []
    else:
        choices = around.choices(verb.kinds[min(len(words), len(verb.kinds)) - 1]) if verb.kinds else []
    return [choice for choice in choices if choice.startswith(last)]
