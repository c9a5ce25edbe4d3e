"""`convoy policy …`: whether a site would take a job, asked in advance."""

from __future__ import annotations

from pathlib import Path

import click

from convoy.cli.connecting import as_json, group

app = group("policy", "Ask what a site allows")


@app.command()
@click.argument("job", metavar="JOB", type=click.Path(path_type=Path))
@click.option("--kit", default="", metavar="FOLDER", help="The site's kit; or an admin kit, together with --policy")
@click.option(
    "--policy",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A policy file, instead of the one in the kit",
)
@click.option(
    "--as",
    "person",
    default="",
    metavar="PERSON",
    help="The person who would submit the folder (default with an admin kit: its owner)",
)
@as_json
def check(job: Path, kit: str, file: Path | None, person: str, json: bool) -> None:
    """Say whether a site would accept JOB, a folder or a signed bundle, or which rule refuses it (exit code 1).

    This needs no network. Without the site's kit, `own` in the policy means the organisation of the kit that is used.
    """
    from convoy.cli import consent
    from convoy.cli.output import Screen

    consent.check(Screen(json=json), job, kit, file, person)
