"""node.yaml: the sample shows the defaults; what is chosen counts; what does not fit is refused with its line."""

import dataclasses
import re
from pathlib import Path

import pytest

from convoy.errors import BadInput
from convoy.provision import sample
from convoy.spec import hardware
from convoy.spec.kit import Kit
from convoy.spec.settings import Settings, Tracked, read_settings


def kit(folder: Path, kind, text: str | None) -> Kit:
    (folder / "local").mkdir(exist_ok=True)
    if text is not None:
        (folder / "local" / "node.yaml").write_text(text)
    return Kit(folder, "p", kind, "n", "o", "h", 8002, 8003, folder / "work")


@pytest.mark.parametrize("kind", ["server", "site"])
def test_the_sample_shows_every_setting_with_its_default(tmp_path, kind):
    bare = read_settings(kit(tmp_path, kind, None))
    text = sample.node(kind)
    assert read_settings(kit(tmp_path, kind, text)) == bare
    shown = re.sub(r"^# (\w+:)", r"\1", text, flags=re.MULTILINE)
    assert shown != text
    assert read_settings(kit(tmp_path, kind, shown)) == bare


def test_the_two_samples_together_show_all_settings():
    shown = set(re.findall(r"^# (\w+):", sample.node("server") + sample.node("site"), flags=re.MULTILINE))
    assert shown == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize(
    ("pods", "word"),
    [
        ("memory_limit: much", "bytes as a Kubernetes quantity"),
        ("gpus: 1", 'did you mean "gpu"'),
        ("gpu: -1", "equal to 0"),
    ],
)
def test_what_does_not_fit_for_pods_is_refused_with_its_line(tmp_path, pods, word):
    with pytest.raises(BadInput) as caught:
        read_settings(kit(tmp_path, "site", f"launcher: kubernetes\npods:\n  image: i\n  {pods}\n"))
    assert word in str(caught.value)
    assert ".yaml:4:" in caught.value.where


def test_what_is_said_of_pods_that_nobody_makes_is_no_setting(tmp_path):
    with pytest.raises(BadInput, match="has no effect"):
        read_settings(kit(tmp_path, "site", "pods: {image: i}\n"))


def test_jobs_in_pods_need_an_image_for_them(tmp_path):
    with pytest.raises(BadInput, match='"pods" does not name an image'):
        read_settings(kit(tmp_path, "site", "launcher: kubernetes\n"))


def test_a_site_offers_its_machine_unless_told_otherwise(tmp_path):
    bare = read_settings(kit(tmp_path, "site", None))
    assert (bare.cpu, bare.memory) == (hardware.cores(), hardware.memory())
    chosen = read_settings(kit(tmp_path, "site", "cpu: 0.5\nmemory: 2Gi\ngpu: 1\n"))
    assert (chosen.cpu, chosen.memory, chosen.gpu) == (0.5, 2 << 30, 1.0)


def test_data_lie_relative_to_local_and_the_workspace_to_the_kit(tmp_path):
    text = "workspace: elsewhere\ndata: {scans: ../scans, far: s3://bucket/x, abs: /data}\nenv: {OMP_NUM_THREADS: 2}\n"
    settings = read_settings(kit(tmp_path, "site", text))
    assert settings.workspace == tmp_path / "elsewhere"
    assert settings.data == {"scans": f"{tmp_path}/local/../scans", "far": "s3://bucket/x", "abs": "/data"}
    assert settings.env == {"OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize(
    ("kind", "text", "word"),
    [
        ("site", "max_jobs: 2", "is a setting of a server"),
        ("server", "data: {a: b}", "is a setting of a site"),
        ("server", "max_job: 2", 'unknown key "max_job"'),
        ("server", "max_jobs: 0", "from 1 up"),
        ("site", "launcher: docker", "processes or kubernetes"),
        ("server", "max_jobs: true", "from 1 up"),
        ("server", "health_port: 70000", "a port"),
        ("server", "log_format: xml", "text or json"),
        ("server", "disk_reserve: lots", "not a size"),
        ("site", "traces: http://collector:4318", "endpoint: ADDRESS"),
        ("site", "traces: {endpoint: collector:4318}", "endpoint: ADDRESS"),
        ("server", "traces: {endpoint: http://collector:4318, headers: a}", "endpoint: ADDRESS"),
        ("server", "database: 7", "wanted text"),
        ("site", "data: [a]", "name: value"),
        ("site", "cpu: -1", "from 0 up"),
        ("server", "workspace: ~nobody-here/work", "home folder that does not exist"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_line(tmp_path, kind, text, word):
    with pytest.raises(BadInput, match=word) as caught:
        read_settings(kit(tmp_path, kind, f"# a comment\n{text}\n"))
    assert caught.value.where.endswith("node.yaml:2:1")


@pytest.mark.parametrize("said", ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"])
def test_a_collector_is_named_with_or_without_the_path_of_traces(tmp_path, said):
    assert read_settings(kit(tmp_path, "site", f"traces: {{endpoint: '{said}'}}")).traces == "http://c:4318"


def test_data_in_the_home_of_nobody_are_refused_with_their_line(tmp_path):
    with pytest.raises(BadInput, match='"~nobody-here/x" begins with a home folder that does not exist') as caught:
        read_settings(kit(tmp_path, "site", "data:\n  a: /b\n  c: ~nobody-here/x\n"))
    assert caught.value.where.endswith("node.yaml:3:3")


def test_trackers_of_a_server_are_read_and_a_folder_lies_relative_to_the_kit(tmp_path):
    text = "track: {mlflow: 'http://m:5000', tensorboard: boards, env: {MLFLOW_TRACKING_TOKEN: s3cret}}\n"
    found = read_settings(kit(tmp_path, "server", text)).track
    assert found == Tracked(str(tmp_path / "boards"), "http://m:5000", "", {"MLFLOW_TRACKING_TOKEN": "s3cret"})
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("kind", "text", "word"),
    [
        ("server", "track: {mlfow: 'http://m'}", "mlflow"),
        ("server", "track: {env: {A: b}}", "names no tracker"),
        ("server", "track: {mlflow: 3}", "wanted text"),
        ("server", "track: yes", "wanted a mapping"),
        ("site", "track: {mlflow: 'http://m'}", "is a setting of a server"),
    ],
)
def test_trackers_that_do_not_fit_are_refused_with_their_line(tmp_path, kind, text, word):
    with pytest.raises(BadInput, match=word) as caught:
        read_settings(kit(tmp_path, kind, f"\n{text}\n"))
    assert "node.yaml:2" in str(caught.value)
