"""`convoy observe`: the dashboard and the alert rules that come with Convoy, written into a folder."""

from __future__ import annotations

from pathlib import Path

import click

from convoy.cli.connecting import as_json


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@as_json
def observe(folder: Path, json: bool) -> None:
    """Write a Grafana dashboard, alert rules and a sample configuration for Prometheus into FOLDER.

    Files of the same names are replaced, except prometheus.yml, which people edit.
    """
    from convoy.cli.output import Screen
    from convoy.errors import BadInput
    from convoy.kube import monitoring

    written: list[str] = []
    kept: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in monitoring.FILES:
            file = folder / name
            if name == monitoring.SAMPLE and file.exists():
                kept.append(str(file))
                continue
            file.write_text(monitoring.read(name))
            written.append(str(file))
    except OSError as problem:
        raise BadInput(f"{folder} cannot be written", why=str(problem), fix="choose another folder") from problem
    screen = Screen(json=json)
    for path in kept:
        screen.line(f"{path} stays as it is")
    for path in written:
        screen.line(f"wrote {path}")
    screen.data({"written": written, "kept": kept})
