"""The `convoy` command: what a person types, what each word calls, and how every error ends."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from convoy.cli import audit, dashboard, eks, jobs, kube, observe, policy, simulate, sites
from convoy.cli.connecting import (
    Group,
    How,
    as_json,
    asking,
    group,
    helped,
    kit_options,
    place_options,
    workspace_option,
)


@click.group("convoy", cls=Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, help="Print the version")
@click.pass_context
def app(context: click.Context, version: bool) -> None:
    """Federated learning: train one model on data that never leaves its owners."""
    if version:
        import convoy

        click.echo(f"convoy {convoy.__version__}")
        context.exit()
    helped(context)


kits = group("kit", "Inspect, verify and enrol startup kits")
ABOUT_ALL = (sites.status, sites.problems, sites.restart, sites.shutdown)
for words in (
    jobs.app,
    sites.app,
    sites.federation,
    policy.app,
    kits,
    audit.app,
    kube.app,
    eks.app,
    simulate.app,
    observe.observe,
    dashboard.command,
    *ABOUT_ALL,
):
    app.add_command(words)

kit_argument = click.argument("kit", metavar="KIT", type=click.Path(path_type=Path))


@app.command()
@click.option(
    "--project",
    "-p",
    type=click.Path(path_type=Path),
    help="The project file (default: project.yml; a sample is written if there is none)",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Put ready keys into the kits, for networks where sites cannot reach the server to enrol",
)
@workspace_option
@as_json
def provision(project: Path | None, offline: bool, workspace: Path, json: bool) -> None:
    """Make a startup kit for each participant of a project.

    A kit holds a join token that works once. Its owner makes the private key at the first start; the key never leaves
    that participant.
    """
    from convoy.cli import provision as command
    from convoy.cli.output import Screen

    file = project or Path("project.yml")
    made = command.provision(file, workspace, now=time.time(), sample=project is None, offline=offline)
    screen = Screen(json=json)
    screen.data(made.to_json())
    for line in made.lines():
        screen.line(line)


@app.command()
@click.argument("prod", required=False, type=click.Path(path_type=Path))
@click.option("--project", "-p", type=click.Path(path_type=Path), help="Run the newest kits of this project file")
@click.option(
    "--keep", is_flag=True, help="Stay in the foreground and restart nodes that die, until Ctrl-C or SIGTERM stops all"
)
@workspace_option
@as_json
def up(prod: Path | None, project: Path | None, keep: bool, workspace: Path, json: bool) -> None:
    """Run a provisioned federation on this machine, with one process for each node.

    PROD is a folder prod_NN. Without it, the newest one of the project in the workspace is run.
    """
    from convoy.cli import up as command
    from convoy.cli.output import Screen

    chosen = command.choose(prod, project, workspace)
    command.up(Screen(json=json), chosen)
    if keep:
        from convoy.cli import supervising

        supervising.keep(Screen(json=json), chosen)


@app.command()
@workspace_option
@as_json
def ps(workspace: Path, json: bool) -> None:
    """List the nodes that `up` started."""
    from convoy.cli import up as command
    from convoy.cli.output import Screen

    command.ps(Screen(json=json), workspace)


@app.command()
@click.argument("node", metavar="NODE")
@click.option("--follow", "-f", is_flag=True, help="Keep printing new lines")
@click.option(
    "-n", "count", default=100, type=click.IntRange(1), metavar="COUNT", help="Begin with this many of the last lines"
)
@workspace_option
@as_json
def logs(node: str, follow: bool, count: int, workspace: Path, json: bool) -> None:
    """Print the log of a node that `up` started: server, or a site's name."""
    from convoy.cli import up as command
    from convoy.cli.output import Screen

    command.logs(Screen(json=json), workspace, node, follow=follow, count=count)


@app.command()
@workspace_option
@as_json
def down(workspace: Path, json: bool) -> None:
    """Stop the nodes that `up` started; their jobs continue at the next `up`."""
    from convoy.cli import up as command
    from convoy.cli.output import Screen

    command.down(Screen(json=json), workspace)


@app.command()
@kit_argument
@click.option(
    "--server", default="", metavar="HOST", help="For a site: the server's host, if it differs from the one in the kit"
)
@click.option("--health-port", type=click.IntRange(0, 65535), help="The health port, instead of the one in node.yaml")
@click.option("--ready-fd", type=int, hidden=True)
def run(kit: Path, server: str, health_port: int | None, ready_fd: int | None) -> None:
    """Run the node that a kit describes, in the foreground, until SIGTERM."""
    from convoy.cli import run as node
    from convoy.spec.kit import read_kit

    if ready_fd is not None:
        os.environ[node.READY_FD] = str(ready_fd)
    node.check(read_kit(kit))
    os.execv(sys.executable, node.command(kit.absolute(), server.strip("[]"), health_port))  # noqa: S606 - ourselves, lighter


@app.command()
@kit_options
def console(kit: str, server: str, kube: bool) -> None:
    """Open a prompt with the verbs of NVIDIA FLARE's console."""
    from convoy.cli import console as command
    from convoy.cli import identity

    command.run(identity.find(kit, server, kube=kube, here=Path.cwd()))


@kits.command()
@kit_argument
@as_json
def inspect(kit: Path, json: bool) -> None:
    """Show the content of a kit: participant, server address, expiry dates."""
    from convoy.cli import kit as command
    from convoy.cli.output import Screen

    said = command.inspect(kit, now=time.time())
    screen = Screen(json=json)
    screen.data(said)
    screen.pairs(said)


@kits.command()
@kit_argument
@as_json
@click.pass_context
def verify(context: click.Context, kit: Path, json: bool) -> None:
    """Check that a kit is complete and can be started (exit code 4 if not)."""
    from dataclasses import asdict

    from convoy.cli import kit as command
    from convoy.cli.output import Screen

    found = command.verify(kit, now=time.time())
    screen = Screen(json=json)
    screen.data({"ok": all(finding.ok for finding in found), "checks": [asdict(finding) for finding in found]})
    for finding in found:
        screen.line(f"{'ok ' if finding.ok else 'BAD'}  {finding.what}")
        for more in filter(None, (finding.detail, finding.fix)):
            screen.line(f"     {more}")
    if not all(finding.ok for finding in found):
        context.exit(4)


@kits.command()
@kit_argument
@click.option("--token", default="", help="A join token from a new invitation, instead of the kit's own")
@click.option(
    "--server", default="", metavar="HOST[:PORT]", help="The server's address, if it differs from the one in the kit"
)
@as_json
def enrol(kit: Path, token: str, server: str, json: bool) -> None:
    """Make a key and exchange a join token for its certificate. A first start does this by itself."""
    from convoy.cli import joining
    from convoy.cli.output import Screen

    joining.enrol(Screen(json=json), kit, token=token, server=server)


@kits.command()
@kit_argument
@click.option(
    "--server", default="", metavar="HOST[:PORT]", help="The server's address, if it differs from the one in the kit"
)
@as_json
def renew(kit: Path, server: str, json: bool) -> None:
    """Get a certificate for a new key; with the root key on this machine, also after the old one has expired."""
    from convoy.cli import joining
    from convoy.cli.output import Screen

    joining.renew(Screen(json=json), kit, server=server)


@kits.command()
@click.argument("name", metavar="NAME")
@place_options
@asking
def invite(how: How, name: str, project: Path, workspace: Path) -> None:
    """Make a new join token for a participant of project.yml, and tell the running server."""
    from convoy.cli import joining

    joining.invite(how, joining.Place(project, workspace), name)


@kits.command()
@click.argument("name", metavar="NAME")
@asking
def revoke(how: How, name: str) -> None:
    """Revoke a person's certificates and invitations: whoever holds them is logged out and cannot log in again."""
    from convoy.cli import verbs

    how.ask(lambda to: verbs.revoke_admin(to.client, to.screen, name))


def main() -> None:
    """Run what was typed; leave with 0 ok, 1 no, 2 not reached or allowed, 3 patience, 4 bad input, 5 our bug."""
    from convoy.cli import output
    from convoy.errors import BadInput, Bug, ConvoyError, of_files

    in_json = "--json" in sys.argv
    output.ready()
    try:
        status = app.main(prog_name="convoy", standalone_mode=False)
    except click.ClickException as problem:
        context = getattr(problem, "ctx", None)
        path = context.command_path if context is not None else "convoy"
        status = output.fail(BadInput(problem.format_message(), fix=f"{path} --help"), as_json=in_json)
    except ConvoyError as problem:
        status = output.fail(problem, as_json=in_json)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (KeyboardInterrupt, click.Abort):
        status = 130
    except Exception as problem:  # noqa: BLE001 - the top: what is no file of a person's is our bug, and says so
        known = of_files(problem)
        if known is None:
            import traceback

            traceback.print_exception(problem)
            why = f"{type(problem).__name__}: {problem}"
            known = Bug("this is a bug in Convoy", why=why, fix="report it, together with the text above")
        status = output.fail(known, as_json=in_json)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
