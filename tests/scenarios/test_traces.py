"""Traces of real federations: one for each round, from every process, received by a real OTLP/HTTP endpoint."""

import gzip
import http.server
import queue
import threading
from collections import Counter
from contextlib import contextmanager

import pytest

from convoy.node.traces import span_id, trace_id
from tests.scenarios.conftest import write_job

trace_service = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
    reason="OpenTelemetry is not here: pip install -r requirements-test.txt",
)
pytestmark = pytest.mark.scenario
AT_SERVER = {"round": 1, "ask": 1, "fold": 1, "commit": 1, "task": 2, "check": 2}
AT_SITES = {"pull": 2, "train": 2, "filter": 2, "push": 2}


class Collector:
    """What nodes have sent: spans, with the service and the node that sent each."""

    def __init__(self):
        self.spans, self.port = queue.Queue(), 0

    def until(self, wanted):
        """Return all spans, once `wanted` is true of them."""
        found = []
        while not wanted(found):
            found.append(self.spans.get(timeout=60))
        return found


@contextmanager
def collector(answer=200, held=None):
    """Run an OTLP/HTTP endpoint; with `held`, no request is answered before that event."""
    made = Collector()

    class Endpoint(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if held is not None:
                held.wait()
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            said = trace_service.ExportTraceServiceRequest.FromString(body)
            for sent in said.resource_spans:
                about = {one.key: one.value.string_value for one in sent.resource.attributes}
                for scope in sent.scope_spans:
                    for span in scope.spans:
                        made.spans.put((self.path, about, span))
            self.send_response(answer)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        made.port = server.server_port
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield made
        finally:
            if held is not None:
                held.set()
            server.shutdown()
            serving.join()


def setting(port):
    return f"traces: {{endpoint: 'http://127.0.0.1:{port}'}}"


def run(federation, folder, **more):
    with federation.session() as session:
        job = session.submit(write_job(folder, **more)).id
        assert session.wait(job).job.state == "completed"
    return job


def text(value):
    return {one.key: one.value.string_value or one.value.int_value for one in value.attributes}


def test_a_round_is_one_trace_of_spans_of_the_server_and_of_both_sites(started, tmp_path):
    with collector() as there:
        federation = started(settings=setting(there.port), server_settings=setting(there.port))
        job = run(federation, tmp_path / "job", rounds=2, size=300_000)
        federation.down()  # what is queued leaves
        wanted = 2 * sum({**AT_SERVER, **AT_SITES}.values())
        found = there.until(lambda spans: len(spans) == wanted)
        assert there.spans.empty()
    for number in (1, 2):
        trace = trace_id(job, number).to_bytes(16)
        spans = [(about, span) for path, about, span in found if span.trace_id == trace and path == "/v1/traces"]
        names = Counter(span.name for _, span in spans)
        assert names == {**AT_SERVER, **AT_SITES}
        by_id = {span.span_id: span for _, span in spans}
        assert len(by_id) == len(spans)
        for about, span in spans:
            said = text(span)
            assert (said["convoy.job"], said["convoy.round"]) == (job, number)
            if span.name in AT_SERVER:
                assert about["service.name"] == "convoy-server"
            else:
                assert (about["service.name"], about["service.instance.id"]) == ("convoy-site", said["convoy.site"])
            above = {"round": None, "ask": "round", "fold": "round", "commit": "round", "task": "ask"}
            parent = by_id.get(span.parent_span_id)
            assert (None if parent is None else parent.name) == above.get(span.name, "task")
            if parent is not None and parent.name == "task":
                assert text(parent)["convoy.site"] == said["convoy.site"]
            assert span.end_time_unix_nano >= span.start_time_unix_nano
            assert not span.status.message
        (top,) = [span for _, span in spans if span.name == "round"]
        assert top.span_id == span_id(job, "", "", "round", number).to_bytes(8)
        for _, span in spans:  # one machine, one clock
            assert span.start_time_unix_nano >= top.start_time_unix_nano - 5_000_000


def test_each_owner_decides_alone_and_the_environment_is_a_way_to_say_so(started, tmp_path):
    with collector() as there:
        federation = started(sites=2)
        first = federation.nodes["site-1"]
        first.stop()
        first.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{there.port}"
        first.start()
        run(federation, tmp_path / "job", rounds=1)
        federation.down()
        spans = there.until(lambda found: {"pull", "train", "filter"} <= {span.name for _, _, span in found})
    assert {about["service.instance.id"] for _, about, _ in spans} == {"site-1"}


def test_a_collector_that_never_answers_or_is_away_holds_up_no_round_and_no_stop(started, tmp_path):
    held = threading.Event()
    with collector(held=held) as there:
        federation = started(settings=setting(9), server_settings=setting(there.port))  # port 9: nobody listens
        run(federation, tmp_path / "job", rounds=20)
        for node in (*federation.nodes.values(), federation.server):
            assert node.stop() == 0
    assert "traces do not reach their collector" in federation.nodes["site-1"].log.read_text()
