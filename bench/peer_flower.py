"""Flower as a peer: a SuperLink with TLS, SuperNodes, its FedAvg strategy, `flwr run --stream`."""

from __future__ import annotations

import time
from pathlib import Path
from string import Template

from bench.peer import SITES, Part, Peer, Place
from convoy.trust.authority import Authority
from tests.federation import free_ports

CONNECTIONS = """
[superlink]
default = "bench"

[superlink.bench]
address = "localhost:$port"
root-certificates = "$root"
"""

APP = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "bench"
version = "1.0.0"
description = "rounds without work"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "bench"

[tool.flwr.app.components]
serverapp = "rounds.server:app"
clientapp = "rounds.client:app"

[tool.flwr.app.config]
"""

SERVER = """
import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid, context):
    model = ArrayRecord([np.zeros($items // $layers, np.float32) for _ in range($layers)])
    average = FedAvg(fraction_evaluate=0.0, min_evaluate_nodes=0, min_train_nodes=$sites, min_available_nodes=$sites)
    result = average.start(grid=grid, initial_arrays=model, num_rounds=$rounds)
    mean = np.mean([array.mean() for array in result.arrays.to_numpy_ndarrays()])
    assert abs(mean - 0.5) < 0.05, f"this is no average of what the sites sent: {mean}"
    with open($home + "/averaged", "w"):
        pass
"""

CLIENT = """
import time

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    with open(f"{$marks}/{context.node_id}", "a") as file:
        file.write(f"{time.time()}\\n")
    model = message.content["arrays"].to_numpy_ndarrays()
    dice = np.random.default_rng()  # other bytes each round at each site: equal ones it would send once only
    made = ArrayRecord([dice.random(array.shape, dtype=np.float32) for array in model])
    content = RecordDict({"arrays": made, "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)
"""

SUBMIT = """
import json
import os
import time

from flwr.cli.app import app

began = time.time()
app(["run", $home + "/app", "bench", "--stream"], standalone_mode=False)
ended = time.time()
assert os.path.exists($home + "/averaged"), "the ServerApp failed"  # flwr itself ends with 0 then
with open($home + "/times.json", "w") as file:
    json.dump({"began": began, "ended": ended}, file)
"""


def prepare(place: Place) -> list[Part]:
    """Make certificates; return the SuperLink and the SuperNodes, ready when the SuperExec of each has started."""
    link, *nodes = free_ports(1 + SITES)
    (place.folder / "ca").mkdir()
    authority = Authority.create("flower", place.folder / "ca", now=time.time())
    root, key, cert = (str(place.folder / "ca" / name) for name in ("root.crt", "server.key", "server.crt"))
    for file, pem in zip((key, cert), authority.issue("server", "localhost", now=time.time()), strict=True):
        Path(file).write_bytes(pem)
    (place.folder / "flwr").mkdir()
    (place.folder / "flwr" / "config.toml").write_text(Template(CONNECTIONS).substitute(port=link, root=root))

    server = [str(place.bin / "flower-superlink"), "--disable-runtime-dependency-installation"]
    server += ["--ssl-ca-certfile", root, "--ssl-keyfile", key, "--ssl-certfile", cert, "--port", str(link)]
    word = b"Starting Flower SuperExec"
    parts = [Part("superlink", server, word)]
    for number, port in enumerate(nodes, 1):
        node = [str(place.bin / "flower-supernode"), "--root-certificates", root]
        node += ["--superlink", f"localhost:{link}", "--port", str(port)]
        parts.append(Part(f"supernode-{number}", node, word))
    return parts


def write(place: Place, home: Path, size: int, rounds: int) -> list[str]:
    """Write an app whose model has `size` bytes of float32 in 4 MB layers; return the command that runs it."""
    words = {"home": repr(str(home)), "marks": repr(str(place.marks)), "items": str(size // 4), "rounds": str(rounds)}
    words |= {"layers": str(max(1, size // 4_000_000)), "sites": str(SITES)}
    (home / "app" / "rounds").mkdir(parents=True)
    (home / "app" / "pyproject.toml").write_text(APP)
    (home / "app" / "rounds" / "__init__.py").touch()
    for name, text in (("server.py", SERVER), ("client.py", CLIENT)):
        (home / "app" / "rounds" / name).write_text(Template(text).substitute(words))
    (home / "submit.py").write_text(Template(SUBMIT).substitute(words))
    return [str(place.bin / "python"), str(home / "submit.py")]


FLOWER = Peer(
    name="flower",
    requirement="flwr==1.42.0",
    note="TLS of the server only, as it ships: any SuperNode may join; no round of evaluation",
    prepare=prepare,
    write=write,
)
