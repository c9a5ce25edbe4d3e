"""`convoy job …`: write, check, submit and follow jobs, fetch what they made."""

from __future__ import annotations

from pathlib import Path

import click

from convoy.cli.asking import Asked, How, as_json, asking, group

app = group("job", "Write, submit and follow jobs")
job_argument = click.argument("job", metavar="JOB")  # an id, the beginning of one, or a name
folder_argument = click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))


@app.command()
@click.argument("name")
@as_json
def new(name: str, json: bool) -> None:
    """Write a job folder NAME that runs as it is."""
    from convoy.cli import new as template
    from convoy.cli.output import Screen

    folder = template.write(name, Path.cwd())
    screen = Screen(json=json)
    screen.data({"folder": str(folder), "files": sorted(file.name for file in folder.iterdir())})
    screen.line(f"{folder}/ runs as it is: convoy job submit {name} --watch")


@app.command()
@folder_argument
@as_json
def check(folder: Path, json: bool) -> None:
    """Check a job's folder without sending it anywhere."""
    from convoy.cli import checking
    from convoy.cli.output import Screen

    said = checking.check(folder)
    screen = Screen(json=json)
    screen.data(said)
    screen.line(f"{said['name']}: {said['files']} files, {said['bytes']} bytes; nothing is wrong with it")
    for file in said["shadowed"]:
        screen.line(
            f"note: {file} has the name of a module of Python: imports find that one; rename it to import yours"
        )


@app.command()
@folder_argument
@click.option("--watch", "-w", is_flag=True, help="Follow it to its end")
@asking
def submit(how: How, folder: Path, watch: bool) -> None:
    """Sign a job's folder and submit it."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.submit(to.client, to.screen, folder, follow=watch))


@app.command("list")
@click.argument("name", default="")
@click.option(
    "-n", "count", default=100, type=click.IntRange(0), metavar="COUNT", help="At most so many, 100 by default; 0: all"
)
@asking
def list_(how: How, name: str, count: int) -> None:
    """List the jobs, newest first; of those whose name or id begins with NAME."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.jobs(to.client, to.screen, name=name, count=count))


@app.command()
@job_argument
@asking
def show(how: How, job: str) -> None:
    """Show a job: its newest rounds, who took part, who was left out and why, what failed."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.show(to.client, to.screen, job))


@app.command()
@job_argument
@click.argument("round", required=False, type=click.IntRange(0))
@click.option("--after", default=0, type=click.IntRange(-1), metavar="ROUND", help="Begin after this round")
@click.option("-n", "count", default=0, type=click.IntRange(0), metavar="COUNT", help="At most so many; 0: all")
@asking
def rounds(how: How, job: str, round: int | None, after: int, count: int) -> None:  # noqa: A002 - the field's word
    """List the rounds of a job, a line each; with ROUND, show that one with every site."""
    from convoy.cli import verbs

    if round is None:
        how.ask(lambda to: verbs.rounds(to.client, to.screen, job, after=after, count=count))
    else:
        how.ask(lambda to: verbs.show_round(to.client, to.screen, job, round))


@app.command()
@job_argument
@click.option("--after", default=-1, type=click.IntRange(-1), metavar="ROUND", help="Leave out rounds up to this one")
@asking
def watch(how: How, job: str, after: int) -> None:
    """Follow a job until it ends (exit code 0 if it completed, 1 if not, 3 if its patience ran out)."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.watch(to.client, to.screen, job, after=after))


@app.command()
@job_argument
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends")
@click.option("--site", default="", help="Of this site alone; `server` is the workflow")
@asking
def logs(how: How, job: str, follow: bool, site: str) -> None:
    """Print what a job's code printed, at every site."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.logs(to.client, to.screen, job, site=site, follow=follow))


@app.command()
@job_argument
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where to (default: transfer/NAME-ID of the kit)",
)
@asking
def fetch(how: How, job: str, folder: Path | None) -> None:
    """Download a job's results; again, to go on where it broke off."""
    from convoy.cli import verbs

    async def call(to: Asked) -> None:
        await verbs.fetch(to.client, to.screen, job, folder, to.kit.transfer)

    how.ask(call)


@app.command()
@job_argument
@asking
def abort(how: How, job: str) -> None:
    """End a job; returns when nothing of it runs any more."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.abort(to.client, to.screen, job))


@app.command()
@job_argument
@asking
def delete(how: How, job: str) -> None:
    """Forget an ended job and its results."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.delete(to.client, to.screen, job))


@app.command()
@job_argument
@click.option("--yes", "-y", is_flag=True, help="Sign the files without a look at them")
@asking
def clone(how: How, job: str, yes: bool) -> None:
    """Submit a job once more, as one's own; shows its files, and asks before it signs what JOB does not name whole."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.clone(to.client, to.screen, job, yes=yes))
