"""A hostile server: no answer of it crashes a command, writes a file elsewhere, or gets code of its own signed."""

import copy
import json
import shutil
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from convoy.errors import RemoteFault
from convoy.trust import bundle, keys
from tests.admin import rest_api as api
from tests.attacks import hostile

ID = hostile.ID
NASTY = [
    "../../.ssh/authorized_keys",
    "/etc/cron.d/x",
    ".bashrc",
    "\x1b]52;c;cm0gLXJm\x07",
    "a\nerror: forged",
    "\u202etxt.exe",
    "\ud800",
    "x" * 5000,
    "",
]
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 2**64, -(10**400), 1e308, float("nan"), float("inf"), -0.5]),
    st.sampled_from(NASTY),
    st.text(max_size=20),
)
anything = st.recursive(
    odd, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
garbage = st.one_of(st.binary(min_size=1, max_size=200), anything.map(json.dumps).map(str.encode))


def places(said, path=()):
    """Yield every place in JSON values."""
    yield path
    inner = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list | tuple) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


def changed(said, path, value):
    if not path:
        return value
    made = list(said) if isinstance(said, tuple) else copy.copy(said)
    made[path[0]] = changed(said[path[0]], path[1:], value)
    return tuple(made) if isinstance(said, tuple) else made


@st.composite
def lies(draw):
    """Return a command, and an answer in which one value is another; a watch that is cut is tried for a minute."""
    words, route = draw(st.sampled_from([one for one in sorted(hostile.VERBS.items()) if "watch" not in one[0]]))
    honest = hostile.HONEST[route]
    if isinstance(honest, bytes) or draw(st.booleans()):
        return words, route, draw(garbage)
    return words, route, hostile.encoded(changed(honest, draw(st.sampled_from(list(places(honest)))), draw(anything)))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    rest = api.make(folder)
    here = folder / "here"
    api.job_folder(here)
    (here / "home" / ".ssh").mkdir(parents=True)
    with hostile.serving(rest, hostile.Hostile()) as server:
        yield World(folder, here, rest, server)
    rest.registry.issuing.end()


class World:
    def __init__(self, folder, here, rest, server):
        self.folder, self.here, self.rest, self.server = folder, here, rest, server
        self.kit = rest.prod / "root@a.org"

    def typed(self, text):
        words = hostile.ALIAS.get(text, text).split()
        return hostile.typed(words, here=self.here, kit=self.kit, port=self.rest.port)

    def clean(self):
        for place in (self.here / "out", self.kit / "transfer"):
            shutil.rmtree(place, ignore_errors=True)
        (self.here / "trail").unlink(missing_ok=True)

    def files(self):
        """Every file but those of the two folders that a fetch may write, and of the trail that was asked for."""
        mine = (self.here / "out", self.kit / "transfer", self.here / "trail")
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return {path for path in found if not any(path.is_relative_to(place) for place in mine)}


@pytest.fixture(autouse=True)
def honest_again(world):
    yield
    world.server.lies = {}
    world.clean()


@pytest.mark.parametrize("words", sorted(hostile.VERBS))
def test_a_lie_begins_with_a_truth(world, words):
    said = world.typed(words)
    bundles = words.startswith("job clone") or words == "audit verify"  # what no honest server would say
    hostile.check(said, {1} if bundles else {0})


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lies())
@example(("job list", "GET /jobs", b'{"jobs": [{"id": 3}], "next": ""}'))
@example(("job list -n 0", "GET /jobs", b'{"jobs": [], "next": "again"}'))
@example((f"job rounds {ID}", f"GET /jobs/{ID}/rounds", b'{"rounds": [], "more": true}'))
@example(("job list", "GET /jobs", b"[" * 100_000))
@example(("job list", "GET /jobs", b"9" * 10_000))
@example(("me", "GET /login", b'{"project": "clinics", "nonce": "a\\nb"}'))
@example(("you", "POST /login", b'{"token": "t\\r\\nx: y", "federation": 0}'))
@example((f"job watch {ID}", f"GET /jobs/{ID}/watch", b'{"error": 3}\n'))
def test_no_answer_crashes_a_command_or_writes_a_file_elsewhere(world, lie):
    words, route, answer = lie
    before = world.files()
    world.server.lies = {route: (200, answer or b" ")}
    said = world.typed(words)
    hostile.check(said, {0, 1, 2, 4} if said.code == 4 else {0, 1, 2})
    assert world.files() == before
    world.clean()


@pytest.mark.parametrize("words", sorted(hostile.VERBS))
@pytest.mark.parametrize("answer", [b"null", b"[]", b"3", b'"x"', b"{}", b"\xff\xfe", b"[[]]", b"<html>"])
def test_an_answer_of_another_kind_is_told_in_plain_words(world, words, answer):
    world.server.lies = {hostile.VERBS[words]: (200, answer + b"\n")}
    hostile.check(world.typed(words), {0, 1, 2})


@pytest.mark.parametrize(
    "fault",
    [
        b'{"kind": []}',
        b'{"kind": "Bug", "what": "x\\nerror: forged", "why": "\\u001b[2J", "fix": 3}',
        b'{"kind": "ConvoyError", "what": {}}',
        b'{"kind": "NotAllowed", "what": "\\ud800"}',
        b"",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 403, 500, 599, 302])
def test_an_error_of_any_kind_is_told_in_plain_words(world, fault, status):
    world.server.lies = {"GET /status": (status, fault)}
    hostile.check(world.typed("status"), {1, 2})


@pytest.mark.parametrize(
    "name", ["../../home/.ssh/authorized_keys", ".ssh/authorized_keys", "/tmp/x", "a/../../b", "-rf", "x\u202ey"]
)
@pytest.mark.parametrize("words", [f"job fetch {ID} -o home", f"job fetch {ID}"])
def test_a_result_is_never_named_as_it_likes(world, name, words):
    world.server.lie(f"GET /jobs/{ID}", hostile.HONEST[f"GET /jobs/{ID}"] | {"results": [name]})
    before = world.files()
    said = world.typed(words)
    hostile.check(said, {1})
    assert "results that cannot be fetched" in said.err
    assert world.files() == before


@pytest.mark.parametrize("change", [{"name": "../../../here/home"}, {"id": "f" * 32}, {"id": "/../../x" * 4}])
def test_a_job_does_not_choose_the_folder_of_its_results(world, change):
    detail = hostile.HONEST[f"GET /jobs/{ID}"]
    world.server.lie(f"GET /jobs/{ID}", detail | {"job": detail["job"] | change})
    before = world.files()
    hostile.check(world.typed(f"job fetch {ID}"), {1})
    assert world.files() == before


def forged(world, submitter="root@a.org"):
    """A bundle of the server's own, with a certificate that it made for a person with its issuing authority."""
    issuing = world.rest.registry.issuing
    key = keys.make()
    chain = issuing.certify("admin", submitter, key.public_key(), now=time.time())
    return bundle.pack(
        {"job.yaml": b"name: tumours\ntrainer: train.py\n", "train.py": b"import os; os.system('id')\n"},
        project="clinics",
        submitter=submitter,
        key_pem=keys.to_pem(key),
        cert_pem=chain,
        now=time.time(),
    )


def test_a_clone_signs_nothing_but_the_job_whose_id_was_asked_for(world):
    world.server.lie(f"GET /jobs/{ID}/bundle", forged(world))
    world.server.lies[f"GET /jobs/{ID}"] = (
        200,
        json.dumps(
            hostile.HONEST[f"GET /jobs/{ID}"]
            | {"job": hostile.OVER | {"submitter": "root@a.org", "submitted_at": time.time()}}
        ).encode(),
    )
    world.server.asked.clear()
    said = world.typed(f"job clone {ID} --yes")
    hostile.check(said, {1})
    assert "the bundle is" in said.err
    assert "POST /jobs" not in world.server.asked


@pytest.mark.parametrize("named", ["tumours", "{id:.8}"])
def test_what_a_server_takes_a_name_for_is_shown_and_not_signed_unseen(world, named):
    data = forged(world)
    found = bundle.verify(data, root_pem=world.rest.logins.membership.root_pem, project="clinics", now=time.time())
    job = hostile.OVER | {"id": found.id, "submitter": "root@a.org", "submitted_at": time.time()}
    world.server.lies = {
        "GET /jobs": (200, json.dumps({"jobs": [job], "next": ""}).encode()),
        f"GET /jobs/{found.id}": (200, json.dumps(hostile.HONEST[f"GET /jobs/{ID}"] | {"job": job}).encode()),
        f"GET /jobs/{found.id}/bundle": (200, data),
    }
    world.server.asked.clear()
    said = world.typed(f"job clone {named.format(id=found.id)}")
    hostile.check(said, {1})
    assert "train.py" in said.out
    assert "POST /jobs" not in world.server.asked


def test_a_line_of_a_log_forges_no_other_line(world):
    text = "done\nsite-2 | all is well\x1b[2J\x1b]52;c;cm0gLXJm\x07\r\u202e"
    world.server.lie(f"GET /jobs/{ID}/logs", ({"site": "site-1", "text": text},))
    said = world.typed(f"job logs {ID}")
    hostile.check(said, {0})
    assert len(said.out.splitlines()) == 1
    assert said.out.startswith("site-1 | done\\nsite-2 | all is well\\x1b[2J")


def test_json_for_programs_stays_json(world):
    job = hostile.JOB | {"cause": "\x1b\n\u202e", "metrics": {"a\nb": None}}
    world.server.lie("GET /jobs", {"jobs": [job], "next": ""})
    said = world.typed("job list --json")
    assert json.loads(said.out)[0]["metrics"] == {"a\nb": None}
    assert hostile.RAW.search(said.out) is None


async def test_a_library_call_raises_a_remote_fault_that_names_the_field_and_the_value(world):
    world.server.lie("GET /status", hostile.HONEST["GET /status"] | {"disk_free": "\x1bmuch"})
    async with world.rest.client() as convoy:
        with pytest.raises(RemoteFault) as fault:
            await convoy.status()
    assert "Server.disk_free is '\\x1bmuch'" in fault.value.what
