"""The peers' simulators, doing visits without training: Flower on its Ray engine, NVIDIA FLARE's, pfl-research's.

Each trains a model of 2,500 float32, and every visit gives other numbers: equal ones some systems would send once only.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from bench.peer import Place, end, environment
from bench.peer_flower import FLOWER
from bench.peer_nvflare import NVFLARE, TRAIN

RUN_S = 180.0  # six times what the longest took; with 16 sites NVIDIA FLARE waits for the last of them for ever

FLOWER_RUN = """
import os
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

server, client = ServerApp(), ClientApp()


@client.train()
def train(message, context):
    shift = np.random.default_rng().random(dtype=np.float32)
    made = ArrayRecord([array + shift for array in message.content["arrays"].to_numpy_ndarrays()])
    content = RecordDict({"arrays": made, "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)


@server.main()
def main(grid, context):
    def ended(number, arrays):
        if number:
            with open($marks + "/server", "a") as file:
                file.write(f"{time.time()}\\n")

    average = FedAvg(fraction_evaluate=0.0, min_evaluate_nodes=0, min_train_nodes=$sites, min_available_nodes=$sites)
    model = ArrayRecord([np.zeros(2_500, np.float32)])
    average.start(grid=grid, initial_arrays=model, num_rounds=$rounds, evaluate_fn=ended)


run_simulation(
    server_app=server,
    client_app=client,
    num_supernodes=$sites,
    backend_config={
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {"num_cpus": 2, "include_dashboard": False, "_temp_dir": $home + "/ray"},
    },
)
"""

NVFLARE_RUN = """
import numpy as np
from nvflare.app_common.np.recipes import NumpyFedAvgRecipe
from nvflare.recipe import SimEnv

np.save($home + "/start.npy", np.zeros(2_500, np.float32))
recipe = NumpyFedAvgRecipe(
    name="bench",
    initial_ckpt=$home + "/start.npy",
    min_clients=$sites,
    num_rounds=$rounds,
    train_script=$home + "/train.py",
)
recipe.execute(SimEnv(num_clients=$sites, workspace_root=$home + "/workspace"))
"""

PFL_RUN = """
import time

import numpy as np
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.base import StatefulModel
from pfl.stats import MappedVectorStatistics

dice = np.random.default_rng()


class Numbers(StatefulModel):
    def __init__(self):
        self.numbers = np.zeros(2_500, np.float32)

    def get_parameters(self, placeholders=None):
        return MappedVectorStatistics({"w": self.numbers.copy()})

    def set_parameters(self, w):
        self.numbers = w["w"].copy()

    def get_model_difference(self, other_parameters, clone=False):
        return MappedVectorStatistics({"w": self.numbers - other_parameters["w"]})

    def apply_model_update(self, statistics):
        self.numbers = self.numbers + statistics["w"]
        return self, Metrics()

    def evaluate(self, dataset, name_formatting_fn, eval_params=None):
        return Metrics()

    def save(self, dir_path):
        pass

    def load(self, dir_path):
        pass


class Nothing(FederatedAveraging):
    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        model.numbers = model.numbers + dice.random(dtype=np.float32)
        return model.get_model_difference(initial_model_state), Metrics()


class Clock(TrainingProcessCallback):
    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        with open($marks + "/server", "a") as file:
            file.write(f"{time.time()}\\n")
        return False, Metrics()


users = {number: [np.zeros((1, 1), np.float32)] for number in range($sites)}
data = FederatedDataset.from_slices(users, get_user_sampler("minimize_reuse", list(users)))
Nothing().run(
    NNAlgorithmParams(
        central_num_iterations=$rounds, evaluation_frequency=$rounds, train_cohort_size=$sites, val_cohort_size=None
    ),
    SimulatedBackend(data, data),
    Numbers(),
    NNTrainHyperParams(local_num_epochs=1, local_learning_rate=0.1, local_batch_size=None),
    callbacks=[Clock()],
)
"""


@dataclass(frozen=True)
class Simulator:
    """A simulator beside ours: how it is installed and told to visit `sites` without training."""

    name: str  # its folder below .cache/peers
    requirement: str  # what pip installs
    column: str  # in the table
    processes: bool  # whether its sites are visited in processes of their own
    sites: int
    rounds: int
    note: str  # what is not as in ours
    scripts: Sequence[tuple[str, str]]  # files and their texts; run.py is run

    def visit_s(self) -> float:
        """Return the seconds of a visit after the first round: its marks, of rounds' ends or of a site's tasks."""
        place = Place(Path(tempfile.mkdtemp(prefix="convoy-")).resolve(), environment(self.name, self.requirement))
        place.marks.mkdir()  # the folder's own name is short: Ray puts sockets below it
        home = str(place.folder)
        words = {"home": repr(home), "marks": repr(str(place.marks)), "sites": str(self.sites)}
        for name, text in self.scripts:
            (place.folder / name).write_text(Template(text).substitute(words, rounds=str(self.rounds)))
        try:
            place.call("run", str(place.bin / "python"), str(place.folder / "run.py"), timeout_s=RUN_S)
            marks = [[float(line) for line in file.read_text().split()] for file in place.marks.iterdir()]
            if not marks or any(len(times) != self.rounds for times in marks):
                raise RuntimeError(f"marks seen: {[len(times) for times in marks]}; wanted {self.rounds} in each")
            return statistics.median((times[-1] - times[0]) / (self.rounds - 1) for times in marks) / self.sites
        finally:
            end(place.folder)
            shutil.rmtree(place.folder, ignore_errors=True)


SIMULATORS = (
    Simulator(
        name="flower-simulation",
        requirement="flwr[simulation]==1.42.0",
        column=FLOWER.requirement,
        processes=True,
        sites=50,
        rounds=7,
        note="2 Ray actors, which are processes without a sandbox",
        scripts=(("run.py", FLOWER_RUN),),
    ),
    Simulator(
        name="nvflare",
        requirement=NVFLARE.requirement,
        column=NVFLARE.requirement,
        processes=True,
        sites=8,
        rounds=7,
        note="8 sites, each a process without a sandbox; a round waits 2 s whatever their number",
        scripts=(("run.py", NVFLARE_RUN), ("train.py", TRAIN)),
    ),
    Simulator(
        name="pfl",
        requirement="pfl==0.6.0",
        column="pfl==0.6.0",
        processes=False,
        sites=50,
        rounds=41,
        note="in one process, with a NumPy model; nothing is checked, hashed or kept",
        scripts=(("run.py", PFL_RUN),),
    ),
)
