"""`convoy site …`, and what concerns the whole federation: status, problems, restart, shutdown."""

from __future__ import annotations

import time
from pathlib import Path

import click

from convoy.cli.connecting import How, as_json, asking, group, place_options

app = group("site", "Show and manage sites")
federation = group("federation", "Manage participants, the issuing authority and the root")
site_argument = click.argument("site", metavar="SITE")
targets = click.argument("who", metavar="WHO...", nargs=-1, required=True)


@app.command("list")
@asking
def list_(how: How) -> None:
    """List the sites."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.sites(to.client, to.screen))


@app.command()
@site_argument
@asking
def show(how: How, site: str) -> None:
    """Show one site."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.site(to.client, to.screen, site))


@app.command()
@site_argument
@asking
def enable(how: How, site: str) -> None:
    """Let a site take part again."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.enable(to.client, to.screen, site, enabled=True))


@app.command()
@site_argument
@asking
def disable(how: How, site: str) -> None:
    """Keep a site out of every job until it is enabled again."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.enable(to.client, to.screen, site, enabled=False))


@app.command()
@site_argument
@asking
def revoke(how: How, site: str) -> None:
    """Revoke a site's certificates: it is disconnected, and its answers in open rounds do not count."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.revoke(to.client, to.screen, site))


@app.command()
@site_argument
@click.option("--org", default="", help="The organisation of a new site")
@place_options
@asking
def invite(how: How, site: str, org: str, project: Path, workspace: Path) -> None:
    """Make a join token for a site, and its kit if it has none; a new site is added to project.yml.

    A running federation admits it at once. This needs the project's workspace, where the root key is.
    """
    from convoy.cli import joining

    joining.invite_site(how, joining.Place(project, workspace), site, org)


@federation.command()
@place_options
@asking
def publish(how: How, project: Path, workspace: Path) -> None:
    """Sign the list of participants in project.yml and send it to the running server: it takes effect at once."""
    from convoy.cli import joining

    joining.publish(how, joining.Place(project, workspace))


site_kit = click.option(
    "--kit", required=True, metavar="FOLDER", type=click.Path(path_type=Path), help="The site's kit, on its machine"
)


@app.command()
@click.argument("digest", metavar="DIGEST")  # or its first 12 digits or more, of a bundle that the site has refused
@click.option("--note", default="", help="The reason, for readers of local/approved.yaml")
@site_kit
@as_json
def approve(digest: str, note: str, kit: Path, json: bool) -> None:
    """Allow one bundle to run at a site, whoever submitted it; for the site's owner, on its machine."""
    from convoy.cli import consent
    from convoy.cli.output import Screen

    consent.approve(Screen(json=json), kit, digest, note, now=time.time())


@app.command()
@click.argument("digest", metavar="[DIGEST]", default="")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A new folder for the files of DIGEST")
@site_kit
@as_json
def refused(digest: str, output: Path | None, kit: Path, json: bool) -> None:
    """List the refused jobs that a site can still approve; with DIGEST, write the files of one for you to read."""
    from convoy.cli import consent
    from convoy.cli.output import Screen

    if not digest:
        consent.refused(Screen(json=json), kit)
    else:
        consent.written_out(Screen(json=json), kit, digest, output or Path(f"bundle-{digest[:12]}"))


@federation.command()
@place_options
@asking
def issue(how: How, project: Path, workspace: Path) -> None:
    """Give the running server a new issuing authority, which is valid for 90 days."""
    from convoy.cli import joining

    joining.issue(how, joining.Place(project, workspace))


@federation.command()
@click.argument("step", type=click.Choice(["begin", "turn", "finish"]))
@click.option(
    "--force", is_flag=True, help="Run `turn` even if participants do not know the new root yet; it locks them out"
)
@place_options
@asking
def roll(how: How, step: str, force: bool, project: Path, workspace: Path) -> None:
    """Replace the root while everything runs: `begin`, `turn` and, some days later, `finish`."""
    from convoy.cli import joining

    joining.roll(how, joining.Place(project, workspace), step, force=force)


@click.command()
@asking
def status(how: How) -> None:
    """Show the state of the server."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.status(to.client, to.screen))


@click.command()
@click.option(
    "-n", "count", default=50, type=click.IntRange(1), metavar="COUNT", help="The largest number of lines to show"
)
@asking
def problems(how: How, count: int) -> None:
    """Show the newest warnings and errors of the server."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.problems(to.client, to.screen, count=count))


@click.command()
@targets
@asking
def restart(how: How, who: tuple[str, ...]) -> None:
    """Drain and restart sites by name, `server`, or `all`, through the server."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.leave(to.client, to.screen, list(who), restart=True))


@click.command()
@targets
@asking
def shutdown(how: How, who: tuple[str, ...]) -> None:
    """Drain and stop sites by name, `server`, or `all`, through the server."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.leave(to.client, to.screen, list(who), restart=False))
