"""Secrets are where they belong and nowhere else: not in logs, not in the ledger, not in answers, not in a repr."""

import asyncio
import json
import re
import sqlite3

import pytest

from convoy.admin import client, link, logins, views
from convoy.errors import ConvoyError, NotAllowed, Unreachable
from convoy.provision.kits import Invitation
from convoy.spec.kit import read_kit
from convoy.trust import enrolment, keys
from convoy.trust.authority import Authority
from convoy.trust.enrolment import Invite
from convoy.trust.federation import Federation as Everybody
from convoy.trust.federation import Membership
from convoy.wire import proxy
from tests.federation import ADMIN, Federation
from tests.scenarios.conftest import adding, put_job

PASSWORD = "open-sesame-8431"  # of a proxy that is not there: `no_proxy` spares this machine
ENV = {"https_proxy": f"http://ada:{PASSWORD}@proxy.invalid:3128", "no_proxy": "localhost,127.0.0.1"}
BODY = re.compile(rb"-----BEGIN (?:EC )?PRIVATE KEY-----\n(.*?)-----END", re.DOTALL)


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """A federation in which everybody joined, a job ran through a noise filter, and some were refused."""
    folder = tmp_path_factory.mktemp("secrets")
    made = Federation(
        folder / "fed", offline=False, settings="log_format: json", server_settings="log_format: json", sites=2
    )
    made.tokens = {name: (made.prod / name / "startup/join.token").read_text().strip() for name in (*made.nodes, ADMIN)}
    for node in (made.server, *made.nodes.values()):
        node.env |= ENV
    for node in made.nodes.values():
        (node.kit / "local/policy.yaml").write_text("filters: [{noise: {sigma: 0.1}}]\n")
    try:
        made.up()
        made.answers = asyncio.run(conversation(made, folder))
        yield made
    finally:
        made.down()


async def conversation(made, folder):
    """Do what people do; return every word that the server said, but the one in which a bearer is given."""
    said = []
    async with client.connect(made.prod / ADMIN, server="localhost") as convoy:
        job = (await convoy.submit(put_job(folder / "job", {"train.py": adding()}, with_={"rounds": 2}))).id
        said += [seen.model_dump_json() async for seen in convoy.watch(job)]
        made.bearer = convoy._bearer
    wire = link.Link("localhost", made.admin_port, (made.prod / "server/startup/root.crt").read_bytes())
    header = {"authorization": f"Bearer {made.bearer}"}
    for path in ("status", "problems", "sites", "jobs", f"jobs/{job}", f"jobs/{job}/logs", "audit", "login", "me"):
        async with wire.open("GET", f"/api/v1/{path}", headers=header) as chunks:
            said.append(b"".join([chunk async for chunk in chunks]).decode())
    request = enrolment.request(keys.make()).decode()
    for token in (*made.tokens.values(), made.tokens["site-1"] + "x"):
        ask = {"kind": "site", "name": "site-1", "token": token, "request": request}
        for more in ({}, {"surplus": 1}):
            with pytest.raises(ConvoyError) as refused:
                await wire.ask("POST", "/api/v1/enrol", content=json.dumps(ask | more).encode())
            said.append(str(refused.value))
    nonce = json.loads(await wire.ask("GET", "/api/v1/login"))["nonce"]
    forged = {"nonce": nonce, "certificate": PASSWORD, "signature": "AAAA"}
    with pytest.raises(NotAllowed) as refused:
        await wire.ask("POST", "/api/v1/login", content=json.dumps(forged).encode())
    said.append(str(refused.value))
    await wire.close()
    return said


def secrets_of(made):
    """Return every secret by a name for it: what must be in no other place, as bytes."""
    found = {f"token of {name}": token.encode() for name, token in made.tokens.items()}
    found |= {"bearer": made.bearer.encode(), "proxy's password": PASSWORD.encode()}
    for name in made.nodes:
        found[f"noise secret of {name}"] = (made.prod / name / "work/noise.secret").read_bytes()
    for file in (*made.folder.rglob("*.pem"), *made.folder.rglob("*.key")):
        for place, body in enumerate(BODY.findall(file.read_bytes())):
            lines = body.split(b"\n")
            found[f"key {place} of {file.relative_to(made.folder)}"] = lines[1] if len(lines) > 2 else lines[0]
    return found


def forms(secret):
    """Return a secret as a log might show it."""
    yield secret
    yield secret.hex().encode()
    yield repr(secret)[2:-1].encode()


@pytest.mark.scenario
def test_no_secret_is_in_a_log_the_ledger_the_trail_or_an_answer(used):
    secrets = secrets_of(used)
    assert (
        len(secrets) >= 3 + 2 + 2 + 5
    )  # tokens, bearer and password, noise, keys: root, issuing, server, sites, admin
    places = {str(node.log): node.log.read_bytes() for node in (used.server, *used.nodes.values())}
    work = used.prod / "server/work"
    places |= {str(file): file.read_bytes() for file in work.rglob("*") if file.is_file() and file.suffix != ".pem"}
    places |= {f"answer {place}": text.encode() for place, text in enumerate(used.answers)}
    (ledger,) = work.glob("*.sqlite")
    with sqlite3.connect(ledger) as connection:
        places["the ledger, told"] = "\n".join(connection.iterdump()).encode()
    connection.close()
    assert b'"enrolled"' in places[str(used.server.log)]
    assert b"enrol" in places["the ledger, told"]
    shown = [
        (name, place)
        for name, secret in secrets.items()
        for place, text in places.items()
        if any(form in text for form in forms(secret))
    ]
    assert shown == []


@pytest.mark.scenario
def test_each_secret_lies_in_its_owners_files_alone(used):
    owners = {}
    for name, secret in secrets_of(used).items():
        files = [file for file in used.folder.rglob("*") if file.is_file() and secret in file.read_bytes()]
        owners[name] = {str(file.relative_to(used.folder)) for file in files}
        assert all(file.stat().st_mode & 0o077 == 0 for file in files), name
    assert owners["bearer"] == owners["proxy's password"] == set()
    assert [name for name, files in owners.items() if len(files) > 1] == []


def test_what_holds_a_secret_does_not_show_it(tmp_path):
    root = Authority.create("p", tmp_path, now=0)
    key, token, bearer = keys.make(), enrolment.make_token(), "bearer-of-somebody"
    pem = keys.to_pem(key)
    made = logins.Logins(Membership(Everybody("p", 1, {}), b""))
    known = Invite(enrolment.token_hash(token, project="p", kind="site", name="s"), "site", "s", 0)
    things = [
        root,
        key,
        made,
        proxy.Proxy("proxy", 3128, "Basic c2VjcmV0"),
        views.EnrolAsk(kind="site", name="s", token=token, request=""),
        views.BearerView(token=bearer, ends_in_s=1, person=views.PersonView(name="a", org="", role="")),
        Invitation(tmp_path, token, known, b"", server_has=True),
    ]
    hidden = [*pem.decode().split("\n")[1:3], token, bearer, "c2VjcmV0", repr(made._secret), made._secret.hex()]
    shown = [(type(thing).__name__, word) for thing in things for word in hidden if word in repr(thing) + str(thing)]
    assert shown == []


def test_a_persons_client_does_not_show_its_key_or_its_bearer(tmp_path):
    made = Federation(tmp_path / "fed", sites=1)
    kit = read_kit(made.prod / ADMIN)
    with pytest.raises(Unreachable):
        asyncio.run(nobody_there(kit, tmp_path))
    text = (tmp_path / "shown").read_text()
    assert ADMIN in text or "Client" in text
    assert kit.key_file.read_text().split("\n")[1] not in text


async def nobody_there(kit, folder):
    async with client.connect(kit, server="localhost", patience_s=0) as convoy:
        (folder / "shown").write_text(repr(convoy))
        await convoy.status()


def test_a_proxy_without_a_host_is_told_without_its_password(monkeypatch):
    monkeypatch.setenv("https_proxy", f"http://ada:{PASSWORD}@")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(Unreachable) as told:
        proxy.proxy_for("server.example.org")
    assert PASSWORD not in str(told.value)
