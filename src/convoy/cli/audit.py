"""`convoy audit …`: show, save and verify the trail of who did what."""

from __future__ import annotations

from pathlib import Path

import click

from convoy.cli.connecting import How, asking, group

app = group("audit", "Show, save and verify the server's audit trail: who did what")
path = click.Path(path_type=Path)


@app.command()
@click.option(
    "--since", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Begin with the record of this number"
)
@asking
def show(how: How, since: int) -> None:
    """Show the records of the trail, oldest first."""
    from convoy.cli import trail

    how.ask(lambda to: trail.show(to.client, to.screen, since))


@app.command()
@click.argument("file", metavar="FILE", type=path)
@asking
def save(how: How, file: Path) -> None:
    """Write the whole trail into FILE, to verify it at sites and to archive it."""
    from convoy.cli import trail

    how.ask(lambda to: trail.save(to.client, to.screen, file))


@app.command()
@click.argument("file", metavar="[FILE]", type=path, required=False)
@click.option(
    "--witness",
    "-w",
    "witnesses",
    type=path,
    multiple=True,
    metavar="FILE",
    help="A site's checkpoints, work/witness.jsonl (default with a site's kit); may be given more than once",
)
@asking
def verify(how: How, file: Path | None, witnesses: tuple[Path, ...]) -> None:
    """Verify that nothing in the trail was changed, removed, moved or cut off (exit code 1 if it was).

    FILE is what `convoy audit save` wrote; without it, the trail is fetched. If --kit names a site's kit, the result
    depends only on the site's root certificate and the checkpoints that it kept, not on what the server says.
    """
    from convoy.cli import trail

    trail.verify(how, file, witnesses)
