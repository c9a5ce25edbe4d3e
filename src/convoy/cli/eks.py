"""`convoy eks …`: the files from which eksctl makes a cluster that a federation fits in, and whether one does."""

from __future__ import annotations

from pathlib import Path

import click

from convoy.cli.asking import as_json, group

app = group("eks", "Make an Amazon EKS cluster for a federation")


@app.command()
@click.option("--name", default="convoy", show_default=True, help="The cluster's")
@click.option("--region", default="us-west-2", show_default=True, help="Of AWS")
@click.option("--nodes", default=2, show_default=True, type=click.IntRange(1, 100), help="Machines")
@click.option("--gpu-nodes", default=0, show_default=True, type=click.IntRange(0, 100), help="Machines with a GPU")
@click.option("--output", "-o", default=Path(), type=click.Path(path_type=Path), help="The folder (default: this one)")
@click.option("--force", is_flag=True, help="Write over files that say something else")
@as_json
def cluster(*, name: str, region: str, nodes: int, gpu_nodes: int, output: Path, force: bool, json: bool) -> None:
    """Write cluster.yaml for eksctl and storage-class.yaml for kubectl; nothing is made at AWS yet.

    A file that is there and says something else, because it was edited or made for other options, stays as it is.
    """
    from convoy.cli.output import Screen
    from convoy.eks import config
    from convoy.errors import BadInput
    from convoy.kube import text

    made = {
        output / "cluster.yaml": text.to_yaml([config.cluster(name, region, nodes=nodes, gpu_nodes=gpu_nodes)]),
        output / "storage-class.yaml": text.to_yaml([config.storage_class()]),
    }
    others = [file for file, said in made.items() if file.exists() and file.read_text(errors="replace") != said]
    if others and not force:
        raise BadInput(
            f"{' and '.join(map(str, others))} would be lost",
            why="it is there, and says something else: it was edited, or made for other options",
            fix="choose another folder with -o, or write over it with --force",
        )
    output.mkdir(parents=True, exist_ok=True)
    for file, said in made.items():
        file.write_text(said)
    screen = Screen(json=json)
    screen.data({"files": [str(file) for file in made]})
    screen.line(f"eksctl create cluster -f {output / 'cluster.yaml'}")
    screen.line(f"kubectl apply -f {output / 'storage-class.yaml'}")
    screen.line(f"convoy eks doctor --name {name} --region {region}")
    screen.line("convoy kube up --image ACCOUNT.dkr.ecr.REGION.amazonaws.com/convoy:0.1.0")


@app.command()
@click.option("--name", default="convoy", show_default=True, help="The cluster's")
@click.option("--region", default="us-west-2", show_default=True, help="Of AWS")
@click.option(
    "--gpu-nodes", default=0, show_default=True, type=click.IntRange(0, 100), help="Machines with a GPU wanted"
)
@as_json
def doctor(*, name: str, region: str, gpu_nodes: int, json: bool) -> None:
    """Look whether a cluster is fit for a federation, and change nothing; each finding names the command that mends it.

    It asks AWS with your own credentials, and the cluster where a context of your kubeconfig leads to it. Exit code 1
    if something is missing, 2 if something could not be looked at.
    """
    from convoy.cli import fitness
    from convoy.cli.output import Screen
    from convoy.eks.repair import Which

    fitness.doctor(Screen(json=json), Which(name, region, gpu_nodes))
