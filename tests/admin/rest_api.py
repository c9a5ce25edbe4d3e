"""A provisioned project and its REST API over real TLS on a free port, with a coordinator in memory."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from convoy.admin import client, serve
from convoy.admin.app import build
from convoy.admin.logins import Logins
from convoy.provision.kits import provision
from convoy.server import identity
from convoy.server.registry import Registry
from convoy.spec.kit import Kit, read_kit
from convoy.spec.project import read_project
from convoy.spec.settings import read_settings
from convoy.store.ledger import open_ledger
from convoy.trust import login
from convoy.trust import membership as rolls
from convoy.trust.federation import Membership
from convoy.trust.issuing import Issuing
from tests.admin.memory_coordinator import Fake
from tests.federation import free_ports

ROLES = {  # name -> (org, role)
    "root@a.org": ("a", "project_admin"),
    "boss@a.org": ("a", "org_admin"),
    "lead@a.org": ("a", "lead"),
    "peer@a.org": ("a", "lead"),
    "look@a.org": ("a", "member"),
    "lead@b.org": ("b", "lead"),
    "boss@b.org": ("b", "org_admin"),
}
JOB = "name: {name}\nworkflow: fedavg\nwith: {{rounds: {rounds}}}\ntrainer: train.py\nconfig: {config}\n"


def project_yml(sites: int, people: int) -> str:
    admins = "".join(
        f"  - {{name: {name}, type: admin, org: {org}, role: {role}}}\n" for name, (org, role) in ROLES.items()
    )
    return (
        "api_version: 3\nname: clinics\nparticipants:\n"
        f"  - {{name: server, type: server, org: a, admin_port: {people}, fed_learn_port: {sites},"
        " default_host: localhost}\n"
        "  - {name: site-1, type: client, org: a}\n  - {name: site-2, type: client, org: b}\n" + admins
    )


@dataclass
class Rest:
    prod: Path
    fake: Fake
    logins: Logins
    registry: Registry
    port: int

    def kit(self, name: str) -> Kit:
        return read_kit(self.prod / name)

    def bearer(self, name: str) -> str:
        """Log in past the network."""
        kit, nonce = self.kit(name), self.logins.nonce()
        said = login.answer(kit.key_file.read_bytes(), kit.certificate, kit.project, nonce)
        return self.logins.log_in(nonce, said["certificate"], said["signature"])[0]

    def client(self, name="root@a.org", **options):
        return client.connect(self.kit(name), server=f"localhost:{self.port}", **options)

    @property
    def config(self):
        server = self.kit("server")
        served = build(self.fake, self.registry, self.logins, version="0")
        return serve.config(
            served, host="127.0.0.1", port=self.port, cert_file=server.cert_file, key_file=server.key_file
        )

    @asynccontextmanager
    async def serving(self):
        try:
            async with serve.serving(self.config):
                yield self
        finally:
            self.registry.issuing.end()


def provisioned(folder: Path) -> Path:
    project, _ = read_project(project_yml(*free_ports(2)), name="project.yml")
    return provision(project, folder / "workspace", now=time.time(), offline=True)


def make(folder: Path, prod: Path | None = None) -> Rest:
    """Return a federation's API that does not serve yet; of a prod that is there, or of a new one."""
    prod = prod or provisioned(folder)
    port = read_kit(prod / "server").admin_port
    kit = read_kit(prod / "server")
    kit.work.mkdir(exist_ok=True)
    ledger = open_ledger(f"sqlite:///{folder}/ledger.sqlite")
    issuing = Issuing(kit, print)
    people, signed = rolls.current(kit)
    membership = Membership(people, kit.root_file.read_bytes())
    registry = Registry(
        project=kit.project,
        issuing=issuing,
        ledger=ledger,
        membership=membership,
        signed=signed,
        kit=kit,
        settings=read_settings(kit),
        keep=lambda entry: ledger.write([entry]),
        settled=lambda: asyncio.sleep(0),
        announce=lambda *_: None,
        renew_all=lambda: None,
    )
    identity.make(kit, issuing)
    issuing.end()  # until a request needs it
    return Rest(prod, Fake(membership, folder), Logins(membership), registry, port)


def job_folder(folder: Path, name="tumours", rounds=3, config="{}") -> Path:
    made = folder / name
    made.mkdir(parents=True)
    (made / "job.yaml").write_text(JOB.format(name=name, rounds=rounds, config=config))
    (made / "train.py").write_text("import convoy\n")
    return made
