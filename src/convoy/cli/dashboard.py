"""`convoy dashboard`: a web page on this machine, over the person's own kit and the REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from convoy.cli.asking import How, kit_options

if TYPE_CHECKING:
    from convoy.cli.asking import Asked


@click.command("dashboard")
@click.option(
    "--port", default=0, type=click.IntRange(0, 65535), help="The port on 127.0.0.1 (default: one that is free)"
)
@click.option("--no-open", is_flag=True, help="Only print the address, and open no browser")
@kit_options
def command(kit: str, server: str, kube: bool, port: int, no_open: bool) -> None:
    """Show the federation in a browser on this machine, until Ctrl-C.

    The address that is printed works once, in one browser. Nobody else on the network can reach it.
    """
    how = How(kit, server, json=False, kube=kube)
    how.ask(lambda to: _shown(to, port, opens=not no_open))


async def _shown(to: Asked, port: int, *, opens: bool) -> None:
    """Serve until SIGINT or SIGTERM."""
    import asyncio
    import signal
    import webbrowser

    from convoy.dashboard import serve

    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with serve.serving(to.client, port=port) as session:
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, ending.set)
        to.screen.line(session.url)
        to.screen.line("Press Ctrl-C to end the dashboard.")
        if opens:
            await asyncio.to_thread(webbrowser.open, session.url)
        await ending.wait()
