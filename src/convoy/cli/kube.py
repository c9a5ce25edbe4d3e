"""`convoy kube …`: a federation in a Kubernetes cluster: rendered, brought up, looked at, taken down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from convoy.cli.connecting import as_json, group, place_options

app = group("kube", "Run a federation in a Kubernetes cluster")


def chosen(function: Any) -> Any:
    """Give a command the options that say which cluster, and what is to be different there."""
    file = click.Path(path_type=Path)
    for option in (
        click.option("--values", type=file, help="A YAML file with options (docs/kubernetes.md lists them)"),
        click.option(
            "--image", default="", help="The image of the server and the sites, instead of the one in the values file"
        ),
        click.option(
            "--namespace", "-n", default="", help="The namespace of the federation (default: the project's name)"
        ),
    ):
        function = option(function)
    return function


def context_option(function: Any) -> Any:
    """Give a command the context of the person's kubeconfig."""
    return click.option(
        "--context",
        default="",
        help="The context of your kubeconfig (default: the one that `up` used, or the current one)",
    )(function)


@app.command()
@place_options
@chosen
@click.option(
    "--with-kits", is_flag=True, help="Also print the Secrets with join tokens and keys; keep the output safe"
)
@click.option("--kits-alone", is_flag=True, help="Print only these Secrets, to apply together with a chart")
@as_json
def render(
    *,
    project: Path,
    workspace: Path,
    namespace: str,
    image: str,
    values: Path | None,
    with_kits: bool,
    kits_alone: bool,
    json: bool,
) -> None:
    """Print the objects of a federation as YAML, for kubectl apply or GitOps; without secrets by default."""
    from convoy.cli import cluster as command
    from convoy.cli.output import Screen

    where = command.read(project, workspace, namespace, image, values)
    command.render(Screen(json=json), where, with_kits=with_kits, kits_alone=kits_alone)


@app.command()
@place_options
@chosen
@click.option(
    "--output", "-o", required=True, metavar="FOLDER", type=click.Path(path_type=Path), help="The folder of the chart"
)
@as_json
def chart(
    *, project: Path, workspace: Path, namespace: str, image: str, values: Path | None, output: Path, json: bool
) -> None:
    """Write a federation as a Helm chart: the objects of `render`, with values for what may differ; without secrets."""
    from convoy.cli import cluster as command
    from convoy.cli.output import Screen

    command.chart(Screen(json=json), command.read(project, workspace, namespace, image, values), output)


@app.command()
@click.option(
    "--requirements",
    "-r",
    required=True,
    type=click.Path(path_type=Path),
    help="The requirements file, in this folder or below it",
)
@click.option("--image", default="", help="Convoy's own image (default: the one of this version)")
@click.option(
    "--base",
    default="docker.io/library/python:3.11-slim",
    show_default=True,
    help="The image on which Convoy's image was built",
)
def image(requirements: Path, image: str, base: str) -> None:
    """Print a Containerfile for sites that need more packages, such as torch or MONAI, from a requirements file."""
    from convoy.cli.output import Screen
    from convoy.kube.image import containerfile
    from convoy.kube.options import Options
    from convoy.spec.yamls import read_text

    read_text(requirements)
    Screen().block(containerfile(requirements, image=image or Options().image, base=base), indent="")


@app.command()
@place_options
@chosen
@context_option
@click.option("--patience", default="5m", metavar="TIME", help="Give up when nothing has changed for this time")
@as_json
def up(
    *,
    project: Path,
    workspace: Path,
    namespace: str,
    image: str,
    values: Path | None,
    context: str,
    patience: str,
    json: bool,
) -> None:
    """Start a federation in a cluster; returns when every site has registered. A second run changes nothing."""
    from convoy.cli import cluster as command
    from convoy.cli.output import Screen
    from convoy.spec.units import duration_s

    where = command.read(project, workspace, namespace, image, values)
    command.up(Screen(json=json), where, context, duration_s(patience))


@app.command()
@place_options
@chosen
@context_option
@as_json
def doctor(
    *, project: Path, workspace: Path, namespace: str, image: str, values: Path | None, context: str, json: bool
) -> None:
    """Check a cluster before `up`, and change nothing: shows what is missing, and what to do about it."""
    from convoy.cli import cluster as command
    from convoy.cli.output import Screen

    command.doctor(Screen(json=json), command.looked_at(project, workspace, namespace, image, values), context)


@app.command()
@place_options
@context_option
@as_json
def status(project: Path, workspace: Path, context: str, json: bool) -> None:
    """Show the nodes of a federation in a cluster, and what each of them waits for."""
    from convoy.cli import cluster as command
    from convoy.cli.output import Screen

    command.status(Screen(json=json), command.found(project, workspace), context)


@app.command()
@click.argument("node", metavar="NAME")
@click.option("--follow", "-f", is_flag=True, help="Keep printing new lines")
@click.option(
    "-n", "count", default=100, type=click.IntRange(1), metavar="COUNT", help="Begin with this many of the last lines"
)
@place_options
@context_option
@as_json
def logs(*, node: str, follow: bool, count: int, project: Path, workspace: Path, context: str, json: bool) -> None:
    """Print the log of a node in a cluster: server, or a site's name."""
    from convoy.cli import cluster as command
    from convoy.cli.output import Screen

    command.logs(Screen(json=json), command.found(project, workspace), context, node, count=count, follow=follow)


@app.command()
@click.option(
    "--kit", default="", metavar="FOLDER", help="The admin kit to use (or CONVOY_KIT; default: the one that `up` used)"
)
@place_options
def console(kit: str, project: Path, workspace: Path) -> None:
    """Open the console (`convoy console`) of this project's federation in a cluster."""
    from convoy.cli import cluster, identity
    from convoy.cli import console as command

    command.run(identity.in_cluster(cluster.found(project, workspace).folder, kit or os.environ.get("CONVOY_KIT", "")))


@app.command()
@click.option("--volumes", is_flag=True, help="Also remove the volumes (jobs, results, identities) and the namespaces")
@place_options
@context_option
@as_json
def down(volumes: bool, project: Path, workspace: Path, context: str, json: bool) -> None:
    """Remove a federation from a cluster; its volumes stay, and the next `up` continues with them."""
    from convoy.cli import cluster as command
    from convoy.cli.output import Screen

    command.down(Screen(json=json), command.found(project, workspace), context, volumes=volumes)
