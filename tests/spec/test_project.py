"""project.yml: ours, NVIDIA FLARE's, and what is refused with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.errors import BadInput
from convoy.provision import sample
from convoy.spec import names
from convoy.spec.project import read_project

FLARE = """\
api_version: 3
name: example_project
description: NVIDIA FLARE sample project yaml file
participants:
  - name: overseer
    type: overseer
    org: nvidia
    protocol: https
    api_root: /api/v1
    port: 8443
  - name: server1.hospital.org
    type: server
    org: nvidia
    fed_learn_port: 8002
    admin_port: 8002
    host_names: [10.0.0.5, fl.hospital.org]
    default_host: fl.hospital.org
    enable_byoc: true
  - name: site-1
    type: client
    org: nvidia
    enable_byoc: true
    components:
      resource_manager: {path: x.y, args: {num_of_gpus: 0}}
  - name: admin@nvidia.com
    type: admin
    org: nvidia
    role: project_admin
builders:
  - path: nvflare.lighter.impl.workspace.WorkspaceBuilder
    args: {template_file: master_template.yml}
"""

SMALL = """\
api_version: 3
name: small
participants:
  - {name: server, type: server, org: o}
  - {name: site-1, type: client, org: o}
  - {name: lead@o.org, type: admin, org: o, role: lead}
"""


def test_the_sample_reads_without_a_word_ignored():
    project, ignored = read_project(sample.PROJECT, "project.yml")
    assert ignored == []
    assert project.name == "example_project"
    assert (project.server.name, project.server.fed_learn_port, project.server.admin_port) == ("server", 8002, 8003)
    assert [site.name for site in project.sites] == ["site-1", "site-2"]
    assert [(admin.name, admin.role) for admin in project.admins] == [("admin@nvidia.com", "project_admin")]
    assert {it.org for it in (project.server, *project.sites, *project.admins)} == {"nvidia"}


def test_a_flare_file_is_read_and_what_is_ignored_is_named():
    project, ignored = read_project(FLARE, "project.yml")
    assert project.server.host == "fl.hospital.org"
    assert project.server.hosts == ("server1.hospital.org", "fl.hospital.org", "10.0.0.5")
    told = "\n".join(ignored)
    for word in ("project.yml:29:1: builders", "overseer", "enable_byoc", "components", "admin_port 8002"):
        assert word in told


def test_people_and_sites_get_ports_of_their_own():
    project, _ = read_project(FLARE, "project.yml")
    assert project.server.admin_port == 8003
    project, _ = read_project(SMALL.replace("org: o}", "org: o, fed_learn_port: 8003}", 1), "project.yml")
    assert (project.server.fed_learn_port, project.server.admin_port) == (8003, 8004)


def test_version_4_with_its_studies_is_read():
    _, ignored = read_project(SMALL.replace("3", "4", 1) + "studies: {a: {}}\n", "project.yml")
    assert "project.yml:7:1: studies" in ignored[0]


@pytest.mark.parametrize(
    ("old", "new", "place", "word"),
    [
        (
            "server, type: server, org: o}",
            "server, type: client, org: o, default_host: h}",
            "project.yml:3:1",
            "there is no server among the participants",
        ),
        ("name: site-1", "name: ../x", "project.yml:5:6", "wanted letters"),
        ("name: site-1", "name: server", "project.yml:5:6", "commands use"),
        ("name: site-1", "name: 7", "project.yml:5:6", "wanted text"),
        ("lead@o.org", "lead", "project.yml:6:6", "e-mail"),
        ("{name: server,", "{name: my_server!,", "project.yml:4:6", "host name"),
        ("type: client", "type: server", "project.yml:5:20", "second server"),
        ("type: client", "type: [x]", "project.yml:5:20", "wanted server, client or admin"),
        ("type: client", "type: {a: b}", "project.yml:5:20", "wanted server, client or admin"),
        ("type: client", "type: clinet", "project.yml:5:20", "wanted server, client or admin"),
        (
            "{name: server, type: server",
            "{name: srv, type: client",
            "project.yml:3:1",
            "there is no server among the participants",
        ),
        ("role: lead", "role: boss", "project.yml:6:45", "wanted 'project_admin'"),
        (", role: lead", "", "project.yml:6:5", '"role" is missing'),
        ("api_version: 3", "api_version: 2", "project.yml:1:1", "wanted 3 or 4"),
        ("org: o}", "org: o, fed_learn_port: 99999}", "project.yml:4:42", "65535"),
        ("org: o}", "org: o, fed_learn_prt: 8002}", "project.yml:4:42", "unknown key"),
        ("org: o}", "org: o, host_names: [a_b]}", "project.yml:4:55", "host name"),
        ("name: small", "nam: small", "project.yml:2:1", "unknown key"),
        ("name: small", "name: a/b", "project.yml:2:1", "wanted letters"),
    ],
)
def test_each_mistake_is_refused_with_its_line(old, new, place, word):
    with pytest.raises(BadInput) as caught:
        read_project(SMALL.replace(old, new, 1), "project.yml")
    assert caught.value.where == place
    assert word in str(caught.value)


@pytest.mark.parametrize("name", ["site-1", "Site-1"])
def test_a_second_participant_of_the_same_name_is_refused_with_both_lines(name):
    with pytest.raises(BadInput) as caught:
        read_project(SMALL + f"  - {{name: {name}, type: client, org: o}}\n", "project.yml")
    assert caught.value.where == "project.yml:7:6"
    assert "project.yml:5:6" in caught.value.why


def test_a_file_without_participants_is_refused():
    with pytest.raises(BadInput, match="participants"):
        read_project("api_version: 3\nname: x\n", "project.yml")


@given(st.text(max_size=70))
def test_no_name_that_passes_can_leave_its_folder(name):
    for check in (names.word, names.site, names.host, names.person, names.org):
        try:
            check(name)
        except ValueError:
            continue
        assert "/" not in name
        assert "\\" not in name
        assert name not in ("", ".", "..")
        assert name.isascii()
        assert name.isprintable()
