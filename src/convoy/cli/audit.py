"""`convoy audit …`: show, save and verify the trail of who did what."""

from __future__ import annotations

from pathlib import Path

import click

from convoy.cli.asking import How, asking, group

app = group("audit", "Who did what: show, save and verify the server's audit trail")
path = click.Path(path_type=Path)


@app.command()
@click.option("--since", type=click.IntRange(min=0), default=0, metavar="SEQ", help="From the record of this number on")
@asking
def show(how: How, since: int) -> None:
    """Show the records of the trail, oldest first."""
    from convoy.cli import trail

    how.ask(lambda to: trail.show(to.client, to.screen, since))


@app.command()
@click.argument("file", metavar="FILE", type=path)
@asking
def save(how: How, file: Path) -> None:
    """Write the whole trail into FILE, for sites to verify and for years to come."""
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
    help="What a site kept, its work/witness.jsonl (default with a site's kit); may be given again",
)
@asking
def verify(how: How, file: Path | None, witnesses: tuple[Path, ...]) -> None:
    """Verify that nothing in the trail was changed, removed, moved or cut off (exit code 1 if it was).

    FILE is what `convoy audit save` wrote; without it the trail is fetched. With --kit and a site's kit, the site's own
    root certificate and the checkpoints that it kept decide, and nothing of what the server says is taken on trust.
    """
    from convoy.cli import trail

    trail.verify(how, file, witnesses)
