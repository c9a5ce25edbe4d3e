"""`kits: volume`: one volume, a folder for each kit, filled by a helper pod; each node sees its own folder alone."""

import importlib.util
import io
import json
import stat
import tarfile
from contextlib import asynccontextmanager

import pytest

from convoy.errors import BadInput, Refused, Unreachable
from convoy.kube import options, shared
from convoy.kube.chart import chart
from convoy.kube.cluster import connect
from convoy.kube.fill import _tar, fill
from convoy.kube.naming import Place
from convoy.kube.pods import CONTAINER_SECURITY, POD_SECURITY
from convoy.kube.unpack import unpack
from convoy.provision.kits import provision
from tests.cli.command_line import typed
from tests.kube.api_server import application, serving
from tests.kube.federations import DEMO, KITS, demo, made, of, said

VOLUME = options.Options(kits="volume")
NODES = ("server", "hospital-1", "hospital-2", "hospital-3")
SPACE = "breast-cancer"


def pod_of(name, by_key):
    return by_key["StatefulSet", SPACE, name]["spec"]["template"]["spec"]


def test_no_secret_is_made_and_one_claim_is():
    found = made(VOLUME)
    assert of("Secret", found) == []
    (claim,) = of("PersistentVolumeClaim", found)
    assert claim["metadata"]["name"] == "convoy-kits"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    kinds = [kind for kind, _, _ in found]
    assert kinds.index("PersistentVolumeClaim") < kinds.index("StatefulSet"), "what pods mount comes before them"


@pytest.mark.parametrize("name", NODES)
def test_a_node_mounts_its_own_folder_of_the_volume_and_cannot_write_it(name):
    pod = pod_of(name, made(VOLUME))
    (volume,) = [it for it in pod["volumes"] if "persistentVolumeClaim" in it]
    assert volume == {"name": "startup", "persistentVolumeClaim": {"claimName": "convoy-kits"}}
    (mount,) = [it for it in pod["containers"][0]["volumeMounts"] if it["name"] == "startup"]
    assert mount == {"name": "startup", "mountPath": "/kit/startup", "readOnly": True, "subPath": name}


def test_a_volume_for_one_machine_keeps_all_its_pods_there_and_one_for_many_does_not():
    for name in NODES:
        (near,) = pod_of(name, made(VOLUME))["affinity"]["podAffinity"].popitem()[1]
        assert near["topologyKey"] == "kubernetes.io/hostname"
        chosen = near["labelSelector"]["matchLabels"]
        labels = made(VOLUME)["StatefulSet", SPACE, name]["spec"]["template"]["metadata"]["labels"]
        assert chosen.items() <= labels.items()
        without = made()["StatefulSet", SPACE, name]["spec"]["template"]["metadata"]["labels"]
        assert not chosen.items() <= without.items(), "who has no part in the volume keeps nobody near"
    many = options.Options(kits="volume", kits_access_mode="ReadWriteMany")
    assert not any("affinity" in pod_of(name, made(many)) for name in NODES)
    assert of("PersistentVolumeClaim", made(many))[0]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert not any("affinity" in pod_of(name, made()) for name in NODES), "nor do Secrets"


def test_the_helper_may_do_no_more_than_a_node():
    pod = shared.helper(Place(demo(), VOLUME), "convoy-kits-1", (POD_SECURITY, CONTAINER_SECURITY))["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert pod["activeDeadlineSeconds"] == 600


def test_everything_fits_the_schema_of_current_kubernetes():
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate is not installed: pip install -r requirements-test.txt")
    import kubernetes_validate

    pod = shared.helper(Place(demo(), VOLUME), "convoy-kits-1", (POD_SECURITY, CONTAINER_SECURITY))
    for it in [*made(VOLUME).values(), pod]:
        kubernetes_validate.validate(it, "1.34", strict=True)


def test_one_volume_is_in_one_namespace_and_in_no_chart(tmp_path):
    with pytest.raises(BadInput, match="one namespace"):
        made(said(tmp_path, "kits: volume\nper_organisation_namespaces: true"))
    with pytest.raises(BadInput, match="a chart cannot fill a volume"):
        chart(demo(), VOLUME, {})


# what lies in a folder


def test_a_folder_becomes_what_was_sent_for_its_owner_alone(tmp_path):
    folder = tmp_path / "site"
    unpack(io.BytesIO(_tar({"a": b"1", "b": b"2"})), folder)
    before = folder.stat().st_ino
    unpack(io.BytesIO(_tar({"b": b"3", "c": b""})), folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"b": b"3", "c": b""}
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert folder.stat().st_ino == before, "a pod that mounts it sees what is new"
    unpack(io.BytesIO(_tar({})), folder)
    assert not folder.exists()


def odd(name, kind=tarfile.REGTYPE):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        about = tarfile.TarInfo(name)
        about.type, about.linkname = kind, "/etc/passwd"
        tar.addfile(about)
    return out.getvalue()


@pytest.mark.parametrize(
    "data", [odd("../a"), odd("a/b"), odd(".a"), odd("a", tarfile.SYMTYPE), odd("a", tarfile.LNKTYPE), odd("a", b"5")]
)
def test_nothing_but_plain_files_is_unpacked(tmp_path, data):
    with pytest.raises(ValueError, match="not a plain file"):
        unpack(io.BytesIO(data), tmp_path / "site")


def test_more_than_a_kit_holds_is_refused(tmp_path):
    with pytest.raises(ValueError, match="exceeds what a kit"):
        unpack(io.BytesIO(_tar({str(number): b"" for number in range(33)})), tmp_path / "site")
    with pytest.raises(ValueError, match="exceeds what a kit"):
        unpack(io.BytesIO(_tar({"a": bytes((8 << 20) + 1)})), tmp_path / "site")


# through an API server


@pytest.fixture
async def app(tmp_path, monkeypatch):
    """An API server whose pods see a folder here as the volume."""
    volume = tmp_path / "volume"
    volume.mkdir()
    made = application(volume=volume)
    async with serving(tmp_path, made) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield made


@asynccontextmanager
async def connected():
    """Give the cluster, and close what the client itself leaves to the end of its process."""
    async with connect() as cluster:
        try:
            yield cluster
        finally:
            await cluster.api._session.aclose()


async def filled(app, found=KITS, project=None):
    lines = []
    async with connected() as cluster:
        place = Place(project or demo(), VOLUME)
        await cluster.apply(shared.claim(place))
        await fill(cluster, place, found, say=lines.append, patience_s=10)
    return lines


def on_volume(app):
    return {folder.name: {file.name for file in folder.iterdir()} for folder in app.state.store.volume.iterdir()}


async def test_each_kit_lands_in_its_folder_and_the_helper_is_gone(app):
    assert len(await filled(app)) == 4
    assert on_volume(app) == {
        "server": {"convoy.yaml", "root.crt", "issuing.key", "invites.json"},
        **{f"hospital-{number}": {"convoy.yaml", "root.crt", "join.token"} for number in (1, 2, 3)},
    }
    assert (app.state.store.volume / "hospital-2" / "join.token").read_bytes() == b"token-2"
    assert app.state.store.chosen("pods", "", "") == []


async def test_what_lies_there_already_is_not_copied_again(app):
    await filled(app)
    app.state.store.fed.clear()
    assert await filled(app) == []
    changed = KITS | {"hospital-1": KITS["server"]}
    assert await filled(app, changed) == ["hospital-1: its kit is on the volume"]
    assert [command[-1] for command in app.state.store.fed] == ["/kits/hospital-1"]


async def test_the_kit_of_one_who_left_is_gone(app):
    await filled(app)
    project = demo()
    fewer = project.model_copy(update={"sites": project.sites[:2]})
    assert await filled(app, project=fewer) == ["hospital-3: its kit is removed from the volume"]
    assert "hospital-3" not in on_volume(app)


async def test_a_large_kit_comes_whole(app):
    data = bytes(range(256)) * 4096
    await filled(app, KITS | {"hospital-1": type(KITS["server"])({}, {"federation.json": data})})
    assert (app.state.store.volume / "hospital-1" / "federation.json").read_bytes() == data


async def test_a_command_that_fails_says_what_it_complained_of_and_no_helper_stays(app):
    (app.state.store.volume / "hospital-1").write_text("in the way")
    with pytest.raises(Refused, match="failed") as caught:
        await filled(app)
    assert "FileExistsError" in caught.value.why
    assert app.state.store.chosen("pods", "", "") == []
    (claim,) = app.state.store.chosen("persistentvolumeclaims", "", "")
    assert "annotations" not in claim["metadata"], "and the next `up` copies all of it"


async def test_a_line_that_breaks_is_said(app, tmp_path):
    async def broken(command, data):
        raise ConnectionResetError

    app.state.store.run = broken
    async with connected() as cluster:
        with pytest.raises(Unreachable, match="writing into pod: the connection"):
            await cluster.feed(SPACE, "pod", ["python3"], b"x")


async def test_convoy_kube_up_twice_is_once(app, tmp_path):
    (tmp_path / "values.yml").write_text("kits: volume")
    words = ("kube", "up", "-p", DEMO, "--values", "values.yml", "--patience", "20s")
    first = await typed(*words, cwd=tmp_path)
    assert first.code == 0, first.err
    assert "hospital-3: its kit is on the volume" in first.out
    second = await typed(*words, cwd=tmp_path)
    assert second.code == 0, second.err
    assert "on the volume" not in second.out
    assert "\n21 unchanged\n" in second.out
    assert "was not told" not in second.out


async def test_a_server_that_runs_is_told_of_those_who_came_since(app, tmp_path):
    (tmp_path / "values.yml").write_text("kits: volume")
    project = tmp_path / "project.yml"
    project.write_text(
        "".join(line for line in DEMO.read_text().splitlines(keepends=True) if "type: admin" not in line)
    )
    words = ("kube", "up", "--values", "values.yml", "--patience", "20s")
    assert (await typed(*words, cwd=tmp_path)).code == 0
    project.write_text(project.read_text() + "  - {name: hospital-4, type: client, org: west}\n")
    more = await typed(*words, cwd=tmp_path)
    assert more.code == 0, more.err
    assert "the server was not told about hospital-4: nobody has the right to tell" in more.out, (
        "this project has no admin"
    )
    assert "hospital-4: its kit is on the volume" in more.out
    assert "hospital-1: its kit" not in more.out
    again = await typed(*words, cwd=tmp_path)
    assert "not told" not in again.out


async def test_what_is_noted_on_the_claim_gives_nothing_away(app, tmp_path):
    project = demo()
    provision(project, tmp_path, now=1e9)
    from convoy.kube import kits

    await filled(app, kits.read(project, tmp_path, secrets=True))
    (claim,) = app.state.store.chosen("persistentvolumeclaims", "", "")
    notes = claim["metadata"]["annotations"]
    invites = json.loads((app.state.store.volume / "server" / "invites.json").read_text())
    assert not any(one["hash"] in notes[shared.TOLD] for one in invites)
    assert json.loads(notes[shared.COPIED]).keys() == set(NODES)
