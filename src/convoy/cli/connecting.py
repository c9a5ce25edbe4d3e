"""How a command reaches a server: the options that all share, one connection, one event loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

if TYPE_CHECKING:
    from convoy.admin.client import Client
    from convoy.cli.output import Screen
    from convoy.spec.kit import Kit

P = ParamSpec("P")
KIT_HELP = "The admin kit to use (or CONVOY_KIT; default: the one in ./workspace)"
SERVER_HELP = "The server's address, if it differs from the one in the kit"
KUBE_HELP = "Use the server that `convoy kube up` started in the cluster, even if another one runs on this machine"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call gets: the client, where its answer goes, whose kit it is."""

    client: Client
    screen: Screen
    kit: Kit


@dataclass(frozen=True, slots=True)
class How:
    """What a person said about how to ask."""

    kit: str
    server: str
    json: bool
    kube: bool = False

    def ask(self, call: Callable[[Asked], Coroutine[Any, Any, None]], *, patience_s: float | None = None) -> None:
        """Connect with the person's kit and make the call."""
        import asyncio

        from convoy.admin.client import connect
        from convoy.cli import identity
        from convoy.cli.output import Screen

        found = identity.find(self.kit, self.server, kube=self.kube, here=Path.cwd())

        async def connected() -> None:
            patience = {} if patience_s is None else {"patience_s": patience_s}
            async with found.reached() as server, connect(found.kit, server=server, **patience) as client:
                await call(Asked(client, Screen(json=self.json), found.kit))

        asyncio.run(connected())


def as_json(function: Callable[P, None]) -> Callable[P, None]:
    """Give a command the option --json."""
    return click.option("--json", is_flag=True, help="Print JSON for programs")(function)


def kit_options(function: Callable[P, None]) -> Callable[P, None]:
    """Give a command the options that say whose kit, and which server."""
    function = click.option("--kube", is_flag=True, help=KUBE_HELP)(function)
    function = click.option("--server", default="", metavar="HOST[:PORT]", help=SERVER_HELP)(function)
    return click.option("--kit", default="", metavar="FOLDER", help=KIT_HELP)(function)


def asking(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all that ask a server; it gets them as a `How`."""

    @kit_options
    @as_json
    @functools.wraps(function)
    def command(kit: str, server: str, kube: bool, json: bool, **rest: Any) -> None:
        function(How(kit, server, json, kube), **rest)

    return command


def _path_option(name: str, letter: str, default: str, what: str) -> Callable[..., Any]:
    said = f"{what} (default: {default})"
    return click.option(f"--{name}", f"-{letter}", default=Path(default), type=click.Path(path_type=Path), help=said)


workspace_option = _path_option("workspace", "w", "./workspace", "The folder that holds the provisioned projects")
project_option = _path_option("project", "p", "project.yml", "The project file")


def place_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which project, and where its kits are."""
    return project_option(workspace_option(function))  # type: ignore[no-any-return]


class Group(click.Group):
    """A group of commands whose help shows the first line of each command in full; click cuts it after 45 letters."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a row for each command that is not hidden."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [
            (name, (command.help or "").split("\n")[0].rstrip("."))
            for name, command in found
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def group(name: str, said: str) -> Group:
    """Return a group of commands that shows its help when none is named."""

    @click.group(name, cls=Group, help=said, invoke_without_command=True)
    @click.pass_context
    def made(context: click.Context) -> None:
        helped(context)

    return made


def helped(context: click.Context) -> None:
    """Show the help of a group of which no command was named."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
