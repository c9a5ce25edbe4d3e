"""Parts of the way up that need no cluster: a forwarded port, what is left over, what a server was not told."""

import asyncio
import base64
import json
from contextlib import asynccontextmanager

from convoy.kube import kits, options, up
from convoy.kube.contents import Contents
from convoy.kube.forward import forwarded
from convoy.kube.naming import Place
from convoy.provision.kits import provision
from convoy.spec.project import Site
from tests.kube.federations import KITS, demo, made


class Line:
    """The API server's end of a forwarded port: greets on both channels, then says everything back."""

    def __init__(self):
        self.said = asyncio.Queue()
        for channel in (0, 1):
            self.said.put_nowait(bytes([channel]) + b"\x43\x1f")

    async def send_bytes(self, data):
        assert data[0] == 0
        await self.said.put(data)

    async def receive_bytes(self):
        return await self.said.get()


async def closed(writer):
    writer.close()
    await writer.wait_closed()


async def test_a_forwarded_port_carries_each_connection_and_ends_them_all():
    opened = []

    @asynccontextmanager
    async def dial():
        opened.append("open")
        try:
            yield Line()
        finally:
            opened.append("closed")

    async with forwarded(dial) as port:
        ends = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for number, (reader, writer) in enumerate(ends):
            writer.write(f"hello {number}".encode())
            assert await reader.readexactly(7) == f"hello {number}".encode()
        await closed(ends[0][1])
    assert await ends[1][0].read() == b""
    assert sorted(opened) == ["closed", "closed", "open", "open"]
    await closed(ends[1][1])


async def test_a_pod_that_is_gone_ends_the_connection_without_an_answer():
    @asynccontextmanager
    async def dial():
        raise OSError("gone")
        yield

    async with forwarded(dial) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        await closed(writer)


def invited(*hashes):
    text = json.dumps([{"hash": one, "kind": "site", "name": "s", "expires_at": 1.0} for one in hashes])
    return Contents({}, {"federation.json": b"1", "invites.json": text.encode()})


def news(before, after):
    place = Place(demo(), options.read(None))
    return up._news(place, KITS | {"server": after}, before)


def test_a_server_that_runs_is_told_of_what_its_secret_does_not_say_yet():
    before = made(kits=KITS | {"server": invited("a" * 64)})
    assert news(before, invited("a" * 64)) is None
    fresh = news(before, invited("a" * 64, "b" * 64))
    assert [one.hash for one in fresh.invites] == ["b" * 64]
    assert fresh.federation == b"1"


def test_a_server_that_does_not_run_is_told_nothing_for_it_reads_its_kit():
    before = made(kits=KITS | {"server": invited("a" * 64)})
    down = {known: it for known, it in before.items() if known[0] != "StatefulSet"}
    assert news(down, invited("b" * 64)) is None
    assert news({}, invited("b" * 64)) is None


def test_what_is_not_asked_for_any_more_is_left_over_but_never_a_namespace():
    project = demo()
    fewer = project.model_copy(update={"sites": project.sites[:2]})
    left = up._left_over(list(made(project=fewer).values()), made() | {("Namespace", "", "old"): {"kind": "Namespace"}})
    assert {(it["kind"], it["metadata"]["name"]) for it in left} == {
        ("ServiceAccount", "hospital-3"),
        ("ConfigMap", "hospital-3"),
        ("Secret", "hospital-3-kit"),
        ("StatefulSet", "hospital-3"),
    }


def test_kits_are_made_for_those_who_have_none_and_nobody_elses_changes(tmp_path):
    project, said = demo(), []
    up.prepare(project, tmp_path, said.append)
    before = kits.read(project, tmp_path, secrets=True)
    more = project.model_copy(update={"sites": (*project.sites, Site(name="hospital-4", org="west"))})
    assert kits.missing(more, tmp_path) == ["hospital-4"]
    up.prepare(more, tmp_path, said.append)
    after = kits.read(more, tmp_path, secrets=True)
    assert after["hospital-1"] == before["hospital-1"]
    assert b"hospital-4" in after["server"].startup["federation.json"]
    up.prepare(project, tmp_path, said.append)
    assert b"hospital-4" not in kits.read(project, tmp_path, secrets=True)["server"].startup["federation.json"]


def test_a_secret_of_an_offline_kit_holds_the_key_and_no_token(tmp_path):
    project = demo()
    provision(project, tmp_path, now=1e9, offline=True)
    found = made(kits=kits.read(project, tmp_path, secrets=True))
    data = found["Secret", "breast-cancer", "hospital-1-kit"]["data"]
    assert data.keys() == {"root.crt", "federation.json", "node.key", "node.crt"}
    assert base64.b64decode(data["node.key"]).startswith(b"-----BEGIN")
