"""The server's own certificate: certified by the signer, and renewed later where that cannot be done now."""

import asyncio
import time

from convoy.provision.kits import provision
from convoy.server.identity import Identity
from convoy.spec.kit import read_kit
from convoy.spec.project import read_project
from convoy.trust.authority import read_certificate
from convoy.trust.issuing import Issuing
from tests.federation import free_ports

PROJECT = """
api_version: 3
name: clinics
participants:
  - {{name: server1, type: server, org: a, fed_learn_port: {0}, admin_port: {1}, default_host: localhost}}
  - {{name: ada@a.org, type: admin, org: a, role: project_admin}}
"""
LIFE_S = 2.0  # tried again after a twentieth of that


class Door:
    """A TLS context that says when it has got another certificate."""

    def __init__(self) -> None:
        self.renewed = asyncio.Event()

    def load_cert_chain(self, _file):
        self.renewed.set()


async def test_a_certificate_that_cannot_be_renewed_now_stays_and_is_renewed_later(tmp_path, monkeypatch):
    project, _ = read_project(PROJECT.format(*free_ports(2)), "project.yml")
    kit = read_kit(provision(project, tmp_path, now=time.time()) / "server1")
    kit.work.mkdir()
    issuing = Issuing(kit, print)
    try:
        own, people = Identity(kit, issuing, LIFE_S), Door()
        first = read_certificate(kit.certificate)
        own.keep_fresh(people)
        issuing.end()
        with monkeypatch.context() as patch:
            patch.setattr("convoy.trust.issuing._PYTHON", ("/nowhere/python", "-m"))
            own.renew()
        assert read_certificate(kit.certificate) == first
        async with asyncio.timeout(30):
            await people.renewed.wait()
        own.end()
        assert read_certificate(kit.certificate).public_key() != first.public_key()
    finally:
        issuing.end()
