"""`convoy job …`: write, check, submit and follow jobs, fetch what they made."""

from __future__ import annotations

from pathlib import Path

import click

from convoy.cli.connecting import Asked, How, as_json, asking, group

app = group("job", "Write, submit and follow jobs")
job_argument = click.argument("job", metavar="JOB")  # an id, the beginning of one, or a name
folder_argument = click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))


@app.command()
@click.argument("name")
@click.option("--like", metavar="EXAMPLE", default="", help="Begin with a copy of one of Convoy's examples")
@as_json
def new(name: str, like: str, json: bool) -> None:
    """Write a job folder NAME that runs without changes."""
    from convoy.cli import new as template
    from convoy.cli.output import Screen

    folder = template.write(name, Path.cwd(), like)
    screen = Screen(json=json)
    screen.data({"folder": str(folder), "files": sorted(file.name for file in folder.iterdir())})
    sites = "" if (folder / "simulate.yaml").exists() else " --sites 3"
    screen.line(f"{folder}/ runs without changes: convoy simulate {name}{sites}, or convoy job submit {name} --watch")


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
    screen.line(f"{said['name']}: {said['files']} files, {said['bytes']} bytes; no problems found")
    for file in said["shadowed"]:
        screen.line(
            f"note: {file} has the name of a Python module, and imports find that module; rename the file to import it"
        )


@app.command()
@folder_argument
@click.option("--watch", "-w", is_flag=True, help="Follow the job until it ends")
@asking
def submit(how: How, folder: Path, watch: bool) -> None:
    """Sign a job's folder and submit it."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.submit(to.client, to.screen, folder, follow=watch))


@app.command("list")
@click.argument("name", default="")
@click.option(
    "-n",
    "count",
    default=100,
    type=click.IntRange(0),
    metavar="COUNT",
    help="The largest number of jobs to list, 100 by default; 0: all",
)
@asking
def list_(how: How, name: str, count: int) -> None:
    """List the jobs, newest first; with NAME, only those whose name or id begins with it."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.jobs(to.client, to.screen, name=name, count=count))


@app.command()
@job_argument
@asking
def show(how: How, job: str) -> None:
    """Show a job: its newest rounds, the sites that took part or were left out and why, and what failed."""
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
@click.option("--follow", "-f", is_flag=True, help="Keep printing until the job ends")
@click.option("--site", default="", help="Only the log of this site; `server` is the workflow")
@asking
def logs(how: How, job: str, follow: bool, site: str) -> None:
    """Print what a job's code printed, at every site."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.logs(to.client, to.screen, job, site=site, follow=follow))


@app.command()
@job_argument
@click.option("--site", default="", help="Only those of this site; `server` is the workflow")
@click.option("--key", default="", metavar="PATTERN", help="Only values whose keys match this pattern, such as 'val_*'")
@click.option("--csv", is_flag=True, help="Print each value as a line of CSV")
@click.option("--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw the curves into a PNG file")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends")
@asking
def metrics(how: How, job: str, *, site: str, key: str, csv: bool, plot: Path | None, follow: bool) -> None:
    """Show what a job measures while it runs: a table, each value (--csv, --json, --follow), or curves (--plot)."""
    from convoy.cli import curves

    asked = curves.Asked(job, site, key, follow=follow)
    how.ask(lambda to: curves.show(to.client, to.screen, asked, as_csv=csv, plot=plot))


@app.command()
@job_argument
@click.option("--tensorboard", default="", metavar="DIR", help="Write event files into a folder of the job in DIR")
@click.option("--mlflow", default="", metavar="URI", help="Write a run to the MLflow server at URI")
@click.option("--wandb", default="", metavar="PROJECT", help="Write a run to a W&B project (or ENTITY/PROJECT)")
@click.option("--results/--no-results", default=True, help="Whether to upload the models and other results at the end")
@asking
def track(how: How, job: str, *, tensorboard: str, mlflow: str, wandb: str, results: bool) -> None:
    """Send a job to experiment trackers until it ends; run it again to continue after an interruption."""
    from convoy.cli import track as tracking
    from convoy.trackers.choice import Chosen

    chosen = Chosen(tensorboard, mlflow, wandb)
    how.ask(
        lambda to: tracking.track(to.client, to.screen, job, chosen, results=results), patience_s=tracking.PATIENCE_S
    )


@app.command()
@job_argument
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder to write to (default: transfer/NAME-ID of the kit)",
)
@asking
def fetch(how: How, job: str, folder: Path | None) -> None:
    """Download a job's results; run it again to continue an interrupted download."""
    from convoy.cli import verbs

    async def call(to: Asked) -> None:
        await verbs.fetch(to.client, to.screen, job, folder, to.kit.transfer)

    how.ask(call)


@app.command()
@job_argument
@asking
def abort(how: How, job: str) -> None:
    """End a job; returns when all its processes have ended."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.abort(to.client, to.screen, job))


@app.command()
@job_argument
@asking
def delete(how: How, job: str) -> None:
    """Delete an ended job and its results."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.delete(to.client, to.screen, job))


@app.command()
@job_argument
@click.option("--yes", "-y", is_flag=True, help="Sign the files without showing them first")
@asking
def clone(how: How, job: str, yes: bool) -> None:
    """Submit a job again under your name; shows its files, and asks first unless JOB is a whole id."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.clone(to.client, to.screen, job, yes=yes))
