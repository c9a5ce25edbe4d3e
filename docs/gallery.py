"""Run every example in the simulator; write docs/gallery/NAME.png and the index examples/README.md: `make gallery`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import yaml

import convoy
from convoy.cli import statistics
from convoy.cli.new import examples
from convoy.cli.output import Screen
from convoy.sim.simulated import Simulated
from convoy.store import report

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "gallery"
SITES = 3  # where the example has no simulate.yaml that says how many
HEAD = """\
<!-- Written by `make gallery` from the examples; do not edit. -->

# Examples

Each folder is a job, or has one in its folder `job`. Begin your own with a copy of any of them:

```sh
convoy job new mine --like torch_mlp
convoy simulate mine --sites 3
```

Every example runs in the simulator as it is. The pictures are those of such a run.
"""


def readme(name: str) -> Path:
    """Return the README of an example."""
    return ROOT / "examples" / name / "README.md"


def index() -> str:
    """Return the text of examples/README.md."""
    return "\n".join([HEAD, *_rows()]) + "\n"


def _rows() -> Iterator[str]:
    yield "| | example | workflow |"
    yield "|---|---|---|"
    for name, job in examples().items():
        title, told, *_ = re.sub(r"(?m)^!\[.*\n+", "", readme(name).read_text()).split("\n\n")
        title, first = title.removeprefix("# "), re.split(r"(?<=[.:]) ", " ".join(told.split()), maxsplit=1)[0]
        workflow = yaml.safe_load((job / "job.yaml").read_text())["workflow"]
        picture = f'<img src="../docs/gallery/{name}.png" width="240" alt="{title}">'
        yield f"| {picture} | [{name}]({name}/README.md): {first.rstrip(':.')}. | `{workflow}` |"


def draw(name: str, done: Simulated) -> None:
    """Write the picture of a run: the one that its workflow made, or its metrics round by round."""
    if (done.folder / report.STATISTICS).exists():
        statistics.draw(Screen(), done.folder)
    if made := [it for it in sorted(done.folder.glob("*.png")) if not it.name.startswith("partition-")]:
        copyfile(made[0], PICTURES / f"{name}.png")
        return
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rounds = [it for it in done.history if it["metrics"]]
    shares, others = [], []
    for metric in sorted({one for it in rounds for one in it["metrics"]} - {"steps"}):
        points = [(it["round"], it["metrics"][metric]) for it in rounds if metric in it["metrics"]]
        share = "loss" not in metric and all(0 <= value <= 1 for _, value in points)
        (shares if share else others).append((metric, points))
    panels = [it for it in (shares, others) if it]
    figure, axes = plt.subplots(1, len(panels), figsize=(6.4, 3.2), squeeze=False, layout="constrained")
    for axis, lines in zip(axes[0], panels, strict=True):
        for metric, points in lines:
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=metric)
        axis.set_xlabel("round")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{name}: {len(done.sites)} sites")
    figure.savefig(PICTURES / f"{name}.png", dpi=100)
    plt.close(figure)


def main(names: list[str]) -> None:
    """Run the examples with these names, or all of them, then write the index."""
    PICTURES.mkdir(exist_ok=True)
    for name, job in examples().items():
        if not names or name in names:
            sites = None if (job / "simulate.yaml").exists() else SITES
            draw(name, convoy.simulate(job, sites=sites, progress=False))
    (ROOT / "examples" / "README.md").write_text(index())


if __name__ == "__main__":
    main(sys.argv[1:])
