"""NVIDIA FLARE as a peer: kits of its own provisioner, mTLS, its NumPy FedAvg recipe, its admin session."""

from __future__ import annotations

from pathlib import Path
from string import Template

from bench.peer import SITES, Part, Peer, Place
from tests.federation import ADMIN, free_ports

PROJECT = """
api_version: 3
name: bench
participants:
  - {name: localhost, type: server, org: org, fed_learn_port: $port}
$sites
  - {name: $admin, type: admin, org: org, role: project_admin}
builders:
  - {path: nvflare.lighter.impl.workspace.WorkspaceBuilder, args: {template_file: [master_template.yml]}}
  - {path: nvflare.lighter.impl.static_file.StaticFileBuilder, args: {config_folder: config}}
  - {path: nvflare.lighter.impl.cert.CertBuilder}
  - {path: nvflare.lighter.impl.signature.SignatureBuilder}
"""

TRAIN = """
import time

import numpy as np
import nvflare.client as flare

flare.init()
mark, made = $marks + "/" + flare.get_site_name(), {}
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    with open(mark, "a") as file:
        file.write(f"{time.time()}\\n")
    if not made:
        dice = np.random.default_rng()
        made.update({name: dice.random(array.shape, dtype=np.float32) for name, array in model.params.items()})
    for array in made.values():
        array[:1] = model.current_round  # another body each round, at no cost
    flare.send(flare.FLModel(params=made))
"""

RECIPE = """
import numpy as np
from nvflare.app_common.np.recipes import NumpyFedAvgRecipe

np.save($home + "/start.npy", np.zeros($items, np.float32))
NumpyFedAvgRecipe(
    name="bench",
    initial_ckpt=$home + "/start.npy",
    min_clients=$sites,
    num_rounds=$rounds,
    train_script=$home + "/train.py",
).export($home)
"""

SUBMIT = """
import json
import time

from nvflare.fuel.flare_api.flare_api import new_secure_session

began = time.time()
session = new_secure_session($admin, $kit)
meta = session.wait_for_job(session.submit_job($home + "/bench"), timeout=3600, poll_interval=0.2)
ended = time.time()
assert meta["status"] == "FINISHED:COMPLETED", meta
with open($home + "/times.json", "w") as file:
    json.dump({"began": began, "ended": ended}, file)
session.close()
"""


def prod(place: Place) -> Path:
    """Return the folder of the kits."""
    return place.folder / "workspace" / "bench" / "prod_00"


def prepare(place: Place) -> list[Part]:
    """Provision; return the server and the sites, each started as its kit starts it in a container."""
    names = [f"site-{number}" for number in range(1, SITES + 1)]
    lines = "\n".join(f"  - {{name: {name}, type: client, org: org}}" for name in names)
    (port,) = free_ports(1)
    (place.folder / "project.yml").write_text(Template(PROJECT).substitute(port=port, sites=lines, admin=ADMIN))
    nvflare = str(place.bin / "nvflare")
    place.call("provision", nvflare, "provision", "-p", "project.yml", "-w", "workspace", timeout_s=60)
    local = prod(place) / "localhost" / "local"
    resources = (local / "resources.json.default").read_text()
    (local / "resources.json").write_text(resources.replace("/tmp/nvflare", str(place.folder / "store")))

    def part(name: str, word: bytes) -> Part:
        return Part(name, ["bash", str(prod(place) / name / "startup" / "sub_start.sh"), "--once"], word)

    return [part("localhost", b"Server started"), *(part(name, b"Successfully registered client") for name in names)]


def write(place: Place, home: Path, size: int, rounds: int) -> list[str]:
    """Write a job whose model is one array of `size` bytes of float32; return the command that runs it."""
    words = {"home": repr(str(home)), "marks": repr(str(place.marks)), "kit": repr(str(prod(place) / ADMIN))}
    words |= {"admin": repr(ADMIN), "items": str(size // 4), "rounds": str(rounds), "sites": str(SITES)}
    for name, text in (("train.py", TRAIN), ("recipe.py", RECIPE), ("submit.py", SUBMIT)):
        (home / name).write_text(Template(text).substitute(words))
    python = str(place.bin / "python")
    place.call("recipe", python, str(home / "recipe.py"), timeout_s=60)
    return [python, str(home / "submit.py")]


NVFLARE = Peer(
    name="nvflare",
    requirement="nvflare==2.9.0",
    note="started by sub_start.sh --once, without the 5 s that start.sh sleeps first; job status asked every 0.2 s",
    prepare=prepare,
    write=write,
)
