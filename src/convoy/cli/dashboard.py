"""`convoy dashboard`: a web page on this machine, over the person's kit and the REST API, or over a site's files."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convoy.cli.connecting import How, kit_options

if TYPE_CHECKING:
    from convoy.cli.connecting import Asked
    from convoy.cli.output import Screen
    from convoy.dashboard.guard import Session


@click.command("dashboard")
@click.option(
    "--port", default=0, type=click.IntRange(0, 65535), help="The port on 127.0.0.1 (default: one that is free)"
)
@click.option("--no-open", is_flag=True, help="Only print the address, and open no browser")
@click.option(
    "--site",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Show a site's own side to its owner, from the files of the site's kit on its machine; no server is asked",
)
@kit_options
def command(*, kit: str, server: str, kube: bool, site: Path | None, port: int, no_open: bool) -> None:
    """Show the federation in a browser on this machine, until Ctrl-C.

    With --site, show what ran at a site, what left it and what was refused, and approve bundles. The address that is
    printed works once, in one browser. Nobody else on the network can reach it.
    """
    if site is None:
        How(kit, server, json=False, kube=kube).ask(lambda to: _shown(to, port, opens=not no_open))
        return
    if kit or server or kube:
        raise click.UsageError("--site reads the files of a site, so it goes with none of --kit, --server and --kube")
    import asyncio

    from convoy.cli.output import Screen
    from convoy.dashboard import serve
    from convoy.owner.consent import site_of

    asyncio.run(_stay(serve.serving_site(site_of(site), port=port), Screen(), opens=not no_open))


async def _shown(to: Asked, port: int, *, opens: bool) -> None:
    from convoy.dashboard import serve

    await _stay(serve.serving(to.client, port=port), to.screen, opens=opens)


async def _stay(serving: AbstractAsyncContextManager[Session], screen: Screen, *, opens: bool) -> None:
    """Serve until SIGINT or SIGTERM."""
    import asyncio
    import signal
    import webbrowser

    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with serving as session:
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, ending.set)
        screen.line(session.url)
        screen.line("Press Ctrl-C to end the dashboard.")
        if opens:
            await asyncio.to_thread(webbrowser.open, session.url)
        await ending.wait()
