"""A real Prometheus watches a real federation: targets, every query of the dashboard, and every alert."""

import http.server
import json
import queue
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from convoy.kube import monitoring
from tests.federation import free_ports
from tests.scenarios.conftest import write_job

BINARIES = all(map(shutil.which, ("prometheus", "promtool")))
pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(not BINARIES, reason="Prometheus is not here: apt-get install prometheus, or make debian"),
]
ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load(monitoring.read("rules.yml"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
PANELS = [panel for panel in json.loads(monitoring.read("dashboard.json"))["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
NAME = re.compile(r"\b(?:convoy|process)_[a-z_]+\b")


class Prometheus:
    """A Prometheus of our own; it also scrapes this process, which so hears that it goes on."""

    def __init__(self, folder, targets):
        self.folder, self.targets, self.heard = folder, targets, queue.Queue()

    def _configure(self, marker):
        jobs = [("convoy", self.targets), ("marker", [marker])]
        said = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [monitoring.RULES],
            "scrape_configs": [
                {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
                for name, ports in jobs
            ],
        }
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(said))
        (self.folder / monitoring.RULES).write_text(monitoring.read(monitoring.RULES))

    @contextmanager
    def run(self):
        """Run it for as long as the context lasts."""
        heard = self.heard

        class Marker(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = b"marker 1\n"
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                heard.put(time.time())

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Marker) as marker:
            threading.Thread(target=marker.serve_forever, daemon=True).start()
            self._configure(marker.server_port)
            (self.port,) = free_ports(1)
            process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self.folder}/prometheus.yml",
                    f"--storage.tsdb.path={self.folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                said = []
                for line in process.stderr:
                    said.append(line)
                    if "Server is ready" in line:
                        break
                else:
                    raise AssertionError("".join(said))
                rest = threading.Thread(target=process.stderr.read)  # so that its pipe is never full
                rest.start()
                try:
                    yield self
                finally:
                    process.terminate()
                    rest.join()
            finally:
                process.terminate()
                process.wait()
                process.stderr.close()
                marker.shutdown()

    def rounds(self, count=4):
        """Wait until every target was scraped again, and what came is stored."""
        while not self.heard.empty():
            self.heard.get()
        for _ in range(count):
            self.heard.get(timeout=60)

    def ask(self, path, **query):
        """Return what its API answers."""
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        return said["data"]

    def query(self, expr):
        return self.ask("query", query=expr)["result"]


def expanded(expr):
    """Return a query as Grafana sends it."""
    return expr.replace("$__rate_interval", "30s").replace("$instance", ".*")


@pytest.mark.timeout(240)
def test_a_real_prometheus_finds_every_target_and_every_number_of_the_dashboard_and_the_alerts(gated, tmp_path):
    federation, gates = gated()
    nodes = (federation.server, *federation.nodes.values())
    watched = Prometheus(tmp_path, [node.health_port for node in nodes])
    with watched.run(), federation.session() as session:
        began = time.time()
        watched.rounds()
        assert [one["value"][1] for one in watched.query('up{job="convoy"}')] == ["1"] * 3

        job = session.submit(write_job(tmp_path / "job", rounds=3, size=300_000, gate=2)).id
        for gate in gates.values():
            gate.wait()
        watched.rounds()
        (awaited,) = watched.query("convoy_job_sites_awaited")
        assert (awaited["metric"]["job_id"], awaited["value"][1]) == (job, "2")
        (open_,) = watched.query("convoy_tasks_open")
        assert open_["value"][1] == "2"
        for gate in gates.values():
            gate.open()
        assert session.wait(job).job.state == "completed"
        watched.rounds()

        (rounds,) = watched.query('convoy_phase_seconds_count{phase="round"}')
        assert rounds["value"][1] == "3"
        (received,) = watched.query("convoy_update_received_bytes_total")
        assert int(received["value"][1]) > 2 * 3 * 1_200_000
        phases = {one["metric"]["phase"] for one in watched.query("convoy_phase_seconds_count")}
        assert phases == {"round", "ask", "task", "check", "fold", "commit", "pull", "train", "filter", "push"}

        names = set(watched.ask("label/__name__/values"))
        asked = {
            name
            for expr in [expr for _, expr in QUERIES] + [it["expr"] for it in ALERTS.values()]
            for name in NAME.findall(expr)
        }
        assert asked - names == set()
        span = {"start": began, "end": time.time(), "step": 1}
        dead = [
            title for title, expr in QUERIES if not watched.ask("query_range", query=expanded(expr), **span)["result"]
        ]
        assert dead == []
        rules = [rule for group in watched.ask("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in rules} == dict.fromkeys(
            ALERTS, ("ok", "")
        )
        quiet = {rule["name"] for rule in rules if rule["state"] == "inactive"}
        assert {
            "ConvoyServerAway",
            "ConvoyServerMissing",
            "ConvoySiteAway",
            "ConvoyJobStuck",
            "ConvoyClockWrong",
        } <= quiet

        federation.server.kill()
        watched.rounds()
        (away,) = watched.query(ALERTS["ConvoyServerAway"]["expr"])
        assert away["metric"]["instance"] == f"127.0.0.1:{federation.server.health_port}"
        federation.server.start()
        federation.nodes["site-2"].kill()
        watched.rounds()
        sites = watched.query(ALERTS["ConvoySiteAway"]["expr"])
        assert "site-2" in {one["metric"]["site"] for one in sites}


def test_both_kinds_of_nodes_speak_the_format_as_promtool_wants_it(three):
    for node in (three.server, three.nodes["site-1"]):
        with urllib.request.urlopen(f"http://127.0.0.1:{node.health_port}/metrics", timeout=30) as answer:
            said = answer.read()
        checked = subprocess.run(["promtool", "check", "metrics"], input=said, capture_output=True, check=False)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_every_metric_of_both_kinds_of_nodes_is_explained_to_operators(three):
    page = (ROOT / "docs" / "operate.md").read_text()
    for node in (three.server, three.nodes["site-1"]):
        with urllib.request.urlopen(f"http://127.0.0.1:{node.health_port}/metrics", timeout=30) as answer:
            names = set(re.findall(r"^# TYPE (convoy_\w+)", answer.read().decode(), re.MULTILINE))
        assert len(names) > 10
        assert {name for name in names if f"`{name}" not in page} == set()


def test_the_rules_and_the_sample_configuration_are_valid(tmp_path):
    for name in monitoring.FILES:
        (tmp_path / name).write_text(monitoring.read(name))
    for what, name in (("rules", "rules.yml"), ("config", "prometheus.yml")):
        done = subprocess.run(["promtool", "check", what, tmp_path / name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


WHO = 'job="convoy", instance="a:8004"'
DAY = 86400
CASES = {  # of each alert: series when it must fire and when it must not, by minutes; and the minute of the firing
    "ConvoyServerAway": (
        {f"up{{{WHO}}}": "1 1 1 0x10", f'convoy_node_info{{{WHO}, kind="server"}}': "1 1 1 _x10"},
        {f"up{{{WHO}}}": "1x14", f'convoy_node_info{{{WHO}, kind="server"}}': "1x14"},
        8,
    ),
    "ConvoyServerMissing": (
        {f'convoy_node_info{{{WHO}, kind="site"}}': "1x20"},
        {f'convoy_node_info{{{WHO}, kind="server"}}': "1x20"},
        15,
    ),
    "ConvoySiteAway": (
        {f'convoy_server_site_connected{{{WHO}, site="b"}}': "1 0x20"},
        {f'convoy_server_site_connected{{{WHO}, site="b"}}': "1 0 0 0 0 0 1x20"},
        15,
    ),
    "ConvoyDiskNearlyFull": (
        {f"convoy_disk_{name}_bytes{{{WHO}}}": value for name, value in
         (("free", "300x20"), ("reserve", "200x20"), ("size", "1000x20"))},
        {f"convoy_disk_{name}_bytes{{{WHO}}}": value for name, value in
         (("free", "500x20"), ("reserve", "200x20"), ("size", "1000x20"))},
        10,
    ),
    "ConvoyDiskFull": ({f"convoy_storage_full{{{WHO}}}": "0 1x10"}, {f"convoy_storage_full{{{WHO}}}": "0x10"}, 5),
    "ConvoyJobStuck": (
        {f'convoy_job_progress_timestamp_seconds{{{WHO}, job_id="j", job_name="n"}}': "0x60"},
        {f'convoy_job_progress_timestamp_seconds{{{WHO}, job_id="j", job_name="n"}}': "0+60x60"},
        40,
    ),
    "ConvoyCertificateNearItsEnd": (
        {f'convoy_certificate_begin_timestamp_seconds{{{WHO}, certificate="server"}}': f"{-DAY}x20",
         f'convoy_certificate_expiry_timestamp_seconds{{{WHO}, certificate="server"}}': f"{DAY // 6}x20"},
        {f'convoy_certificate_begin_timestamp_seconds{{{WHO}, certificate="server"}}': f"{-DAY // 2}x20",
         f'convoy_certificate_expiry_timestamp_seconds{{{WHO}, certificate="server"}}': f"{DAY // 2}x20"},
        15,
    ),
    "ConvoyEventLoopLag": (
        {f"convoy_event_loop_turn_seconds_count{{{WHO}}}": "0+100x30",
         f'convoy_event_loop_turn_seconds_bucket{{{WHO}, le="0.5"}}': "0+98x30"},
        {f"convoy_event_loop_turn_seconds_count{{{WHO}}}": "0+100x30",
         f'convoy_event_loop_turn_seconds_bucket{{{WHO}, le="0.5"}}': "0+100x30"},
        20,
    ),
    "ConvoyClockWrong": (
        {f"convoy_clock_timestamp_seconds{{{WHO}}}": "60+60x20"},
        {f"convoy_clock_timestamp_seconds{{{WHO}}}": "2+60x20"},
        10,
    ),
    "ConvoyWorkersRestart": (
        {f"convoy_worker_restarts_total{{{WHO}}}": "0+1x40"},
        {f"convoy_worker_restarts_total{{{WHO}}}": "0x20 1x20"},
        35,
    ),
    "ConvoyAnswersUnusable": (
        {f'convoy_answers_left_out_total{{{WHO}, kind="unusable"}}': "0+1x70"},
        {f'convoy_answers_left_out_total{{{WHO}, kind="deadline"}}': "0+1x70",
         f'convoy_answers_left_out_total{{{WHO}, kind="unusable"}}': "0x70"},
        65,
    ),
}  # fmt: skip


def test_every_alert_has_a_case():
    assert CASES.keys() == ALERTS.keys()


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_fires_when_it_must_and_only_then(alert, tmp_path):
    firing, calm, minute = CASES[alert]
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [{"expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                                  "eval_time": f"{minute}m", "exp_samples": [{"value": 1}] if fires else []}],
        }
        for series, fires in ((firing, True), (calm, False))
    ]  # fmt: skip
    (tmp_path / "rules.yml").write_text(monitoring.read("rules.yml"))
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_says_what_why_and_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith(".")
    assert len(rule["annotations"]["description"].split()) > 5


def test_the_dashboard_has_no_panel_over_another_and_explains_each():
    taken = set()
    for panel in json.loads(monitoring.read("dashboard.json"))["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["description"].endswith(".") for panel in PANELS)
