"""`convoy site …`, and what concerns the whole federation: status, problems, restart, shutdown."""

from __future__ import annotations

import time
from pathlib import Path

import click

from convoy.cli.asking import How, as_json, asking, group, place_options

app = group("site", "See, switch, invite and revoke the sites")
federation = group("federation", "Say who is who")
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
    """Take a site's certificate back: it is cut off, and nothing of it counts in the rounds that are open."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.revoke(to.client, to.screen, site))


@app.command()
@site_argument
@click.option("--org", default="", help="The organisation of a site that is new")
@place_options
@asking
def invite(how: How, site: str, org: str, project: Path, workspace: Path) -> None:
    """Make a join token for a site, and its kit if it has none; a new one is added to project.yml.

    A running federation takes it in at once. It needs the project's workspace, where the root's key is.
    """
    from convoy.cli import joining

    joining.invite_site(how, joining.Place(project, workspace), site, org)


@federation.command()
@place_options
@asking
def publish(how: How, project: Path, workspace: Path) -> None:
    """Sign who is who as project.yml says it now, and give that to the running server: roles count at once."""
    from convoy.cli import joining

    joining.publish(how, joining.Place(project, workspace))


site_kit = click.option(
    "--kit", required=True, metavar="FOLDER", type=click.Path(path_type=Path), help="The site's kit, on its machine"
)


@app.command()
@click.argument("digest", metavar="DIGEST")  # or its first 12 digits or more, of a bundle that the site has refused
@click.option("--note", default="", help="Why, for whoever reads local/approved.yaml")
@site_kit
@as_json
def approve(digest: str, note: str, kit: Path, json: bool) -> None:
    """Let one bundle run at a site whoever submitted it; said at the site, by its owner."""
    from convoy.cli import consent
    from convoy.cli.output import Screen

    consent.approve(Screen(json=json), kit, digest, note, now=time.time())


@app.command()
@click.argument("digest", metavar="[DIGEST]", default="")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A new folder for the files of DIGEST")
@site_kit
@as_json
def refused(digest: str, output: Path | None, kit: Path, json: bool) -> None:
    """List the jobs that a site's policy refused and that may still be approved, or write one out to be read."""
    from convoy.cli import consent
    from convoy.cli.output import Screen

    if not digest:
        consent.refused(Screen(json=json), kit)
    else:
        consent.written_out(Screen(json=json), kit, digest, output or Path(f"bundle-{digest[: consent.LEAST]}"))


@federation.command()
@place_options
@asking
def issue(how: How, project: Path, workspace: Path) -> None:
    """Lend the running server another issuing authority; each is good for 90 days."""
    from convoy.cli import joining

    joining.issue(how, joining.Place(project, workspace))


@federation.command()
@click.argument("step", type=click.Choice(["begin", "turn", "finish"]))
@click.option("--force", is_flag=True, help="`turn` although somebody has not met the new root: they are locked out")
@place_options
@asking
def roll(how: How, step: str, force: bool, project: Path, workspace: Path) -> None:
    """Put another root in the place of this one while everything runs: `begin`, `turn` and, days later, `finish`."""
    from convoy.cli import joining

    joining.roll(how, joining.Place(project, workspace), step, force=force)


@click.command()
@asking
def status(how: How) -> None:
    """Show the server in one look."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.status(to.client, to.screen))


@click.command()
@click.option("-n", "count", default=50, type=click.IntRange(1), metavar="COUNT", help="How many")
@asking
def problems(how: How, count: int) -> None:
    """Show the newest warnings and errors of the server."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.problems(to.client, to.screen, count=count))


@click.command()
@targets
@asking
def restart(how: How, who: tuple[str, ...]) -> None:
    """Drain and restart sites by name, `server`, or `all`, from afar."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.leave(to.client, to.screen, list(who), restart=True))


@click.command()
@targets
@asking
def shutdown(how: How, who: tuple[str, ...]) -> None:
    """Drain and stop sites by name, `server`, or `all`, from afar."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.leave(to.client, to.screen, list(who), restart=False))
