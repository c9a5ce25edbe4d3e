"""`convoy eks …`: the files from which eksctl makes a cluster that a federation fits in, and whether one does."""

from __future__ import annotations

from pathlib import Path

import click

from convoy.cli.connecting import as_json, group

app = group("eks", "Make an Amazon EKS cluster for a federation")


@app.command()
@click.option("--name", default="convoy", show_default=True, help="The name of the cluster")
@click.option("--region", default="us-west-2", show_default=True, help="The AWS region")
@click.option("--nodes", default=2, show_default=True, type=click.IntRange(1, 100), help="Machines")
@click.option(
    "--gpu-nodes", default=0, show_default=True, type=click.IntRange(0, 100), help="The number of machines with a GPU"
)
@click.option(
    "--output", "-o", default=Path(), type=click.Path(path_type=Path), help="The folder to write to (default: this one)"
)
@click.option("--force", is_flag=True, help="Overwrite files with different content")
@as_json
def cluster(*, name: str, region: str, nodes: int, gpu_nodes: int, output: Path, force: bool, json: bool) -> None:
    """Write cluster.yaml for eksctl and storage-class.yaml for kubectl; this makes nothing at AWS.

    An existing file with different content, because it was edited or made with other options, is not overwritten.
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
            f"{' and '.join(map(str, others))} would be overwritten",
            why="the file exists with different content: it was edited, or made with other options",
            fix="choose another folder with -o, or overwrite it with --force",
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
@click.option("--name", default="convoy", show_default=True, help="The name of the cluster")
@click.option("--region", default="us-west-2", show_default=True, help="The AWS region")
@click.option(
    "--gpu-nodes",
    default=0,
    show_default=True,
    type=click.IntRange(0, 100),
    help="The number of machines with a GPU that you want",
)
@as_json
def doctor(*, name: str, region: str, gpu_nodes: int, json: bool) -> None:
    """Check whether a cluster is fit for a federation, and change nothing; each problem comes with its correction.

    It asks AWS with your own credentials, and the cluster itself if a context of your kubeconfig leads to it. The exit
    code is 1 if something is missing, and 2 if something could not be checked.
    """
    from convoy.cli import eks_doctor
    from convoy.cli.output import Screen
    from convoy.eks.repair import Which

    eks_doctor.doctor(Screen(json=json), Which(name, region, gpu_nodes))
