"""The objects of a federation: what each must have, what none may have, and that they change only on purpose."""

import base64
import importlib.util
import json
import re

import pytest
import yaml

from convoy.errors import BadInput
from convoy.kube import options, text
from convoy.kube.contents import Contents
from convoy.kube.naming import Place, slug
from convoy.kube.objects import objects
from convoy.spec.kit import read_kit
from convoy.spec.project import Site, read_project
from convoy.spec.settings import read_settings
from tests.kube.federations import DEMO, KITS, ROOT, demo, made, of, said

GOLDEN = ROOT / "tests" / "kube" / "breast_cancer.yaml"
RESTRICTED = "pod-security.kubernetes.io/enforce"
NODES = ("server", "hospital-1", "hospital-2", "hospital-3")


def pod(name, by_key=None, namespace="breast-cancer"):
    return (by_key or made())["StatefulSet", namespace, name]["spec"]["template"]["spec"]


@pytest.fixture(params=NODES)
def node(request):
    return pod(request.param)


@pytest.fixture
def container(node):
    (only,) = node["containers"]
    return only


def test_the_demo_looks_as_in_the_golden_file():
    found = text.to_yaml(objects(demo(), options.read(None), {}))
    assert found == GOLDEN.read_text(), "if on purpose: convoy kube render -p examples/breast_cancer/project.yml"


def test_what_is_printed_reads_back_as_the_same_objects():
    wanted = objects(demo(), options.read(None), KITS)
    assert list(yaml.safe_load_all(text.to_yaml(wanted))) == json.loads(json.dumps(wanted))


@pytest.mark.parametrize("digest", ["1234567890123e45", "0o17", "1E5", "+1.5e3"])
def test_a_text_that_newer_readers_take_for_a_number_is_in_quotes(digest):
    assert text.to_yaml([{"digest": digest}]) == f"---\ndigest: '{digest}'\n"


def test_the_same_project_gives_the_same_objects_whatever_order_its_sites_are_in():
    project = demo()
    turned = project.model_copy(update={"sites": tuple(reversed(project.sites))})
    assert objects(turned, options.read(None), KITS) == objects(project, options.read(None), KITS)


def test_what_others_need_comes_first():
    kinds = [it["kind"] for it in objects(demo(), options.read(None), KITS)]
    assert kinds[0] == "Namespace"
    assert kinds[-4:] == ["StatefulSet"] * 4


def test_every_object_says_whose_it_is_and_who_made_it():
    for it in made().values():
        labels = it["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "breast_cancer"
        assert labels["app.kubernetes.io/managed-by"] == "convoy"


def test_the_namespace_takes_only_restricted_pods():
    (space,) = of("Namespace", made())
    for mode in ("enforce", "audit", "warn"):
        assert space["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_no_pod_runs_as_root(node):
    security = node["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == 65532
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


def test_no_pod_shares_anything_with_its_machine(node):
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "initContainers"} & node.keys()
    assert not any("hostPath" in volume for volume in node["volumes"])
    assert not any("hostPort" in port for port in node["containers"][0]["ports"])


def test_a_container_may_do_nothing_but_its_work(container):
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in security


def test_only_volumes_that_restricted_allows_are_mounted(node):
    allowed = {"projected", "configMap", "secret", "emptyDir", "persistentVolumeClaim"}
    assert all(volume.keys() - {"name"} <= allowed for volume in node["volumes"])


def test_no_token_of_the_api_server_is_in_any_pod(node):
    assert node["automountServiceAccountToken"] is False
    assert not any(
        "serviceAccountToken" in source for v in node["volumes"] for source in v.get("projected", {}).get("sources", [])
    )
    accounts = of("ServiceAccount", made())
    assert [account["automountServiceAccountToken"] for account in accounts] == [False] * 4
    assert node["serviceAccountName"] in {account["metadata"]["name"] for account in accounts}


def test_nothing_of_the_api_is_allowed_to_any_pod():
    assert not {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} & {key[0] for key in made()}


def test_no_pod_gets_the_addresses_of_all_services(node):
    assert node["enableServiceLinks"] is False


def test_what_is_asked_for_is_small_and_what_may_be_taken_has_an_end(container):
    resources = container["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"} == resources["limits"].keys()
    assert resources["requests"]["memory"] in ("128Mi", "256Mi")


def test_tmp_has_an_end(node):
    (tmp,) = [volume for volume in node["volumes"] if volume["name"] == "tmp"]
    assert tmp["emptyDir"] == {"sizeLimit": "1Gi"}


def test_life_never_depends_on_others_and_readiness_is_registration(container):
    assert (
        container["startupProbe"]["httpGet"]
        == container["livenessProbe"]["httpGet"]
        == {"path": "/livez", "port": "health"}
    )
    asked = container["readinessProbe"]["httpGet"]
    assert (asked["path"].partition("?")[0], asked["port"]) == ("/readyz", "health")


def test_a_node_that_becomes_ready_is_seen_at_once_and_one_that_is_not_any_more_within_6_s(container):
    probe = container["readinessProbe"]
    path, _, waits = probe["httpGet"]["path"].partition("?within=")
    assert path == "/readyz"
    assert probe["periodSeconds"] <= float(waits) < probe["timeoutSeconds"]  # the next question follows the last answer
    assert probe["periodSeconds"] + float(waits) * probe["failureThreshold"] <= 6


def test_a_node_has_longer_to_drain_than_the_30_s_that_it_takes(node):
    assert node["terminationGracePeriodSeconds"] > 30


def test_nodes_spread_over_machines_where_they_can(node):
    (spread,) = node["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"


def test_nothing_secret_is_in_the_environment(container):
    assert container["env"] == [{"name": "HOME", "value": "/tmp"}]
    assert "envFrom" not in container


def test_each_node_mounts_its_own_kit_and_nobody_elses():
    for name in NODES:
        used = [
            source.get("secret", source.get("configMap", {}))["name"]
            for volume in pod(name)["volumes"]
            for source in volume.get("projected", {"sources": []})["sources"]
        ]
        assert set(used) == {name, f"{name}-kit"}


def test_what_a_kit_holds_is_for_the_pods_group_alone(node):
    kit = {volume["name"]: volume for volume in node["volumes"]}
    assert kit["startup"]["projected"]["defaultMode"] == kit["local"]["configMap"]["defaultMode"] == 0o440


def test_each_node_has_a_claim_of_its_own_that_one_machine_writes():
    for it in of("StatefulSet", made()):
        (claim,) = it["spec"]["volumeClaimTemplates"]
        assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
        assert it["spec"]["replicas"] == 1


def test_secrets_hold_what_provisioning_made_for_one_participant():
    secrets = {it["metadata"]["name"]: it["data"] for it in of("Secret", made())}
    assert secrets.keys() == {f"{name}-kit" for name in NODES}
    assert base64.b64decode(secrets["hospital-2-kit"]["join.token"]) == b"token-2"


def test_without_kits_no_secret_is_printed():
    found = made(kits={})
    assert of("Secret", found) == []
    assert "token" not in text.to_yaml(found.values()).replace("automountServiceAccountToken", "")


def test_the_service_shows_sites_and_people_their_ports_and_nobody_the_health_pages():
    (service,) = of("Service", made())
    assert [port["port"] for port in service["spec"]["ports"]] == [8002, 8003]
    assert service["spec"]["type"] == "ClusterIP"


def policy(name, by_key=None, namespace="breast-cancer"):
    return (by_key or made())["NetworkPolicy", namespace, f"convoy-{name}"]["spec"]


def test_everything_is_denied_that_no_policy_allows():
    deny = policy("deny-all")
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert "egress" not in deny
    chosen = deny["podSelector"]["matchLabels"].items()
    for it in of("StatefulSet", made()):
        assert chosen <= it["spec"]["template"]["metadata"]["labels"].items()


def test_a_site_reaches_the_server_and_names_and_nothing_else():
    (out,) = policy("sites")["egress"]
    assert [port["port"] for port in out["ports"]] == [8002, 8003]
    (to,) = out["to"]
    assert to["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "server"
    (names,) = policy("dns")["egress"]
    assert {(port["protocol"], port["port"]) for port in names["ports"]} == {("UDP", 53), ("TCP", 53)}


def test_the_server_is_reached_by_sites_and_consoles_and_reaches_nobody():
    spec = policy("server")
    assert [[port["port"] for port in line["ports"]] for line in spec["ingress"]] == [[8002, 8003], [8003]]
    assert [
        one["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for line in spec["ingress"]
        for one in line["from"]
    ] == ["site", "console"]
    assert spec["egress"] == []


def test_no_policy_opens_the_health_port():
    ports = re.findall(r"port: (\d+)", text.to_yaml(of("NetworkPolicy", made())))
    assert set(ports) == {"53", "8002", "8003"}


def test_whoever_drains_machines_takes_one_node_at_a_time():
    (budget,) = of("PodDisruptionBudget", made())
    assert budget["spec"]["maxUnavailable"] == 1


def test_the_server_is_found_by_its_service_and_its_certificate_will_say_so():
    config = yaml.safe_load(made()["ConfigMap", "breast-cancer", "server"]["data"]["convoy.yaml"])
    assert config["server"]["host"] == "server.breast-cancer.svc"
    assert {"server", "server.breast-cancer.svc", "localhost"} <= set(config["hosts"])
    site = yaml.safe_load(made()["ConfigMap", "breast-cancer", "hospital-1"]["data"]["convoy.yaml"])
    assert site["server"]["host"] == "server.breast-cancer.svc"


def test_a_pods_kit_is_one_that_a_node_reads(tmp_path):
    found = made()["ConfigMap", "breast-cancer", "hospital-1"]["data"]
    for folder in ("startup", "local"):
        (tmp_path / folder).mkdir()
    (tmp_path / "startup" / "convoy.yaml").write_text(found["convoy.yaml"])
    for name in ("root.crt", "federation.json", "join.token"):
        (tmp_path / "startup" / name).touch(mode=0o600)
    for name in ("node.yaml", "policy.yaml"):
        (tmp_path / "local" / name).write_text(found[name])
    settings = read_settings(read_kit(tmp_path))
    assert str(settings.workspace) == "/var/lib/convoy/work"
    assert settings.health_host == "::"
    assert (settings.cpu, settings.memory) == (1.0, (1 << 30) - (128 << 20))


def test_what_the_owner_wrote_stays_but_for_what_a_pod_must_have():
    kits = {"hospital-1": Contents({"node.yaml": "cpu: 0.5\nworkspace: elsewhere\nlog_format: json\n"})}
    found = yaml.safe_load(made(kits=kits)["ConfigMap", "breast-cancer", "hospital-1"]["data"]["node.yaml"])
    assert (found["cpu"], found["log_format"], found["workspace"]) == (0.5, "json", "/var/lib/convoy/work")


def test_a_new_site_adds_its_objects_and_touches_nothing_else():
    project = demo()
    more = project.model_copy(update={"sites": (*project.sites, Site(name="hospital-4", org="west"))})
    kits = KITS | {
        "server": Contents({}, dict(KITS["server"].startup) | {"invites.json": b"[1]", "federation.json": b"2"})
    }
    before, after = made(), made(project=more, kits=kits)
    assert {key for key in after if key not in before} == {
        (kind, "breast-cancer", "hospital-4") for kind in ("ServiceAccount", "ConfigMap", "StatefulSet")
    }
    assert {key for key in before if before[key] != after[key]} == {("Secret", "breast-cancer", "server-kit")}


@pytest.mark.parametrize(
    ("name", "content", "restarts"),
    [("policy.yaml", "filters: []", False), ("node.yaml", "log_format: json", True)],
)
def test_a_change_restarts_only_what_reads_it_at_its_start(name, content, restarts):
    changed = KITS | {"hospital-1": Contents({name: content}, KITS["hospital-1"].startup)}
    before, after = made(), made(kits=changed)
    sets = {key[2] for key in before if key[0] == "StatefulSet" and before[key] != after[key]}
    assert sets == ({"hospital-1"} if restarts else set())
    assert before["ConfigMap", "breast-cancer", "hospital-1"] != after["ConfigMap", "breast-cancer", "hospital-1"]


def test_each_organisation_may_have_a_namespace_of_its_own(tmp_path):
    found = made(said(tmp_path, "per_organisation_namespaces: true\nnamespace: study"))
    assert {key[2] for key in found if key[0] == "Namespace"} == {"study", "study-north", "study-centre", "study-south"}
    assert ("StatefulSet", "study-north", "hospital-1") in found
    assert ("Secret", "study-north", "hospital-1-kit") in found
    (line, _) = policy("server", found, "study")["ingress"]
    (spaces,) = line["from"][0]["namespaceSelector"]["matchExpressions"]
    assert spaces["values"] == ["study", "study-centre", "study-north", "study-south"]
    (out,) = policy("sites", found, "study-north")["egress"]
    assert "namespaceSelector" in out["to"][0]
    assert [key[1] for key in found if key[2] == "convoy-deny-all"] == [
        "study",
        "study-centre",
        "study-north",
        "study-south",
    ]


def test_a_network_load_balancer_lets_tls_through_to_those_who_were_named(tmp_path):
    found = made(said(tmp_path, "outside: {load_balancer: nlb, sources: [203.0.113.0/24]}"))
    (service,) = of("Service", found)
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["loadBalancerSourceRanges"] == ["203.0.113.0/24"]
    notes = service["metadata"]["annotations"]
    assert notes["service.beta.kubernetes.io/aws-load-balancer-nlb-target-type"] == "ip"
    assert not any("ssl" in note for note in notes)
    assert {"ipBlock": {"cidr": "203.0.113.0/24"}} in policy("server", found)["ingress"][0]["from"]


def test_a_sites_data_gpu_and_machine_are_its_own(tmp_path):
    values = """
site: {memory_limit: 2Gi}
sites:
  hospital-2:
    {gpu: 1, image: "own:1", data: {scans: scans-claim}, node_selector: {kind: gpu}, tolerations: [{key: gpu}]}
"""
    found = made(said(tmp_path, values))
    its = pod("hospital-2", found)
    (container,) = its["containers"]
    assert (container["image"], container["resources"]["limits"]) == (
        "own:1",
        {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"},
    )
    assert {"name": "data-scans", "mountPath": "/data/scans", "readOnly": True} in container["volumeMounts"]
    assert its["nodeSelector"] == {"kind": "gpu"}
    settings = yaml.safe_load(found["ConfigMap", "breast-cancer", "hospital-2"]["data"]["node.yaml"])
    assert settings["data"] == {"scans": "/data/scans"}
    assert pod("hospital-1", found) == pod("hospital-1", made(said(tmp_path, "site: {memory_limit: 2Gi}")))


def test_the_server_gets_out_only_to_where_it_was_allowed(tmp_path):
    found = made(said(tmp_path, "egress: [{to: 198.51.100.7/32, ports: [443, 5432]}]"))
    (line,) = policy("server", found)["egress"]
    assert line["to"] == [{"ipBlock": {"cidr": "198.51.100.7/32"}}]
    assert [port["port"] for port in line["ports"]] == [443, 5432]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ("namespace: default", "namespace of its own"),
        ("namespace: Study", "namespace of its own"),
        ("site: {memory: 1 GB}", "bytes as a Kubernetes quantity"),
        ("site: {memory_limit: 250m}", "bytes as a Kubernetes quantity"),
        ("site: {cpu_limit: 1Gi}", "cores as a Kubernetes quantity"),
        ("site: {cpu_limit: 0.5m}", "cores as a Kubernetes quantity"),
        ("outside: {sources: []}", "sources"),
        ("outside: {sources: [everybody]}", "everybody"),
        ("replicas: 3", "replicas"),
        ("sites: {hospital-9: {gpu: 1}}", "hospital-9"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(tmp_path, values, wanted):
    with pytest.raises(BadInput, match=re.escape(wanted)):
        made(said(tmp_path, values))


def test_a_site_that_the_project_does_not_have_is_named_with_its_line(tmp_path):
    (tmp_path / "values.yml").write_text("image: convoy:1\nsites:\n  hospital-1: {gpu: 1}\n  hospital-9: {gpu: 1}\n")
    with pytest.raises(BadInput, match=r"values.yml:4:3: values.yml has settings for 'hospital-9'"):
        options.read(tmp_path / "values.yml", known=["hospital-1"])


def test_two_names_that_kubernetes_takes_for_one_are_refused():
    project = demo()
    twins = project.model_copy(update={"sites": (Site(name="a.b", org="x"), Site(name="a_b", org="x"))})
    with pytest.raises(BadInput, match="have the same name a-b"):
        objects(twins, options.read(None), {})


def test_names_become_what_kubernetes_takes_and_long_ones_stay_apart():
    assert slug("FL.Example.org") == "fl-example-org"
    assert slug("3rd-hospital") == "n-3rd-hospital"  # a Service's name begins with a letter
    long = ["s" * 60 + "1", "s" * 60 + "2"]
    assert len({slug(name) for name in long}) == 2
    assert all(re.fullmatch(r"[a-z]([a-z0-9-]{0,43}[a-z0-9])?", slug(name)) for name in long)


def test_a_project_of_nvidias_becomes_objects_too():
    from convoy.provision.sample import PROJECT

    project, _ = read_project(PROJECT, "project.yml")
    assert Place(project, options.read(None)).namespace == "example-project"
    assert len(objects(project, options.read(None), {})) == 17


VERSIONS = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "values", ["{}", "per_organisation_namespaces: true\noutside: {sources: [0.0.0.0/0]}\nsite: {gpu: 1}"]
)
def test_every_object_fits_the_schema_of_current_kubernetes(version, values, tmp_path):
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate is not installed: pip install -r requirements-test.txt")
    import kubernetes_validate

    for it in made(said(tmp_path, values)).values():
        kubernetes_validate.validate(it, version, strict=True)


def test_the_golden_file_is_of_the_demo():
    assert DEMO.is_file()
    assert GOLDEN.read_text().count("kind: StatefulSet") == 4
