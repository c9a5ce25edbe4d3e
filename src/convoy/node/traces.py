"""Traces of rounds for OpenTelemetry: a span for each phase, whose ids every node derives for itself."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog
from blake3 import blake3

from convoy.errors import BadInput
from convoy.node.phases import Phase, Phases
from convoy.spec.kit import Kit
from convoy.spec.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
INSTALL: Final = "pip install 'convoy-fl[otel]'"
LAST_S: Final = 2.0  # for the last spans to leave when a node stops
QUIET_S: Final = 300.0  # between two lines of the log about a collector that is away
BELOW: Final = {"round": "", "ask": "round", "fold": "round", "commit": "round", "task": "ask"}  # others are in a task


def trace_id(job: str, round_: int) -> int:
    """Return the id of a round's trace: 128 bits."""
    return int.from_bytes(blake3(f"{job}/{round_}".encode()).digest(16))


def span_id(job: str, question: str, site: str, name: str, round_: int) -> int:
    """Return the id of a phase's span: 64 bits."""
    return int.from_bytes(blake3(f"{job}/{round_}/{question}/{site}/{name}".encode()).digest(8))


def own_id(phase: Phase) -> int:
    """Return the id of a phase's own span."""
    return span_id(phase.job, phase.question, phase.site, phase.name, phase.round)


def parent_id(phase: Phase) -> int:
    """Return the id of the span that a phase is part of; 0 for a round."""
    above = BELOW.get(phase.name, "task")
    question = phase.question if above in ("ask", "task") else ""
    site = phase.site if above == "task" else ""
    return span_id(phase.job, question, site, above, phase.round) if above else 0


@contextmanager
def traced(phases: Phases, settings: Settings, kit: Kit) -> Iterator[None]:
    """Send the phases of a node to a collector for as long as the context lasts, where its owner wants that.

    Without a setting or a variable of OpenTelemetry nothing is imported. Raises `BadInput` where `traces` is set and
    OpenTelemetry is not installed.
    """
    if not settings.traces and not any(os.environ.get(name) for name in VARIABLES):
        yield
        return
    try:
        spans = _Spans(settings.traces, kit)
    except ImportError as problem:
        if settings.traces:
            why = f"`traces` in local/node.yaml needs it: {problem}"
            raise BadInput("OpenTelemetry is not installed", why=why, fix=INSTALL) from problem
        log = structlog.get_logger()
        log.warning("rounds are not traced, although the environment names a collector", reason=str(problem))
        yield
        return
    phases.trace = spans.add
    try:
        yield
    finally:
        phases.trace = None
        spans.end()


class _Spans:
    """Spans on their way to a collector: a bounded queue and a thread, both OpenTelemetry's own."""

    def __init__(self, endpoint: str, kit: Kit) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        _listen()
        about = {"service.name": f"convoy-{kit.kind}", "service.instance.id": kit.name, "convoy.project": kit.project}
        self._resource = Resource.create(about)
        self._queue = BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces" if endpoint else None))

    def add(self, phase: Phase) -> None:
        """Queue the span of a phase; where the queue is full, the oldest one goes."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import Status, StatusCode

        trace, above, began = trace_id(phase.job, phase.round), parent_id(phase), int(phase.began * 1e9)
        said: dict[str, str | int] = {
            "job": phase.job,
            "round": phase.round,
            "question": phase.question,
            "site": phase.site,
        }
        span = ReadableSpan(
            phase.name,
            context=_context(trace, own_id(phase)),
            parent=_context(trace, above) if above else None,
            resource=self._resource,
            attributes={f"convoy.{name}": value for name, value in said.items() if value != ""},
            status=Status(StatusCode.ERROR, phase.error) if phase.error else Status(StatusCode.UNSET),
            start_time=began,
            end_time=began + int(phase.seconds * 1e9),
        )
        self._queue.on_end(span)

    def end(self) -> None:
        """Send what is queued, if the collector takes it soon."""
        last = threading.Thread(target=self._queue.shutdown, daemon=True)
        last.start()
        last.join(LAST_S)


def _context(trace: int, span: int) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class _Relay(logging.Handler):
    """What OpenTelemetry logs, as a line of the node's own log, and not one for every attempt."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said = -QUIET_S

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self._said >= QUIET_S:
            self._said = now
            structlog.get_logger().warning("traces do not reach their collector", reason=record.getMessage())


def _listen() -> None:
    """Pass on what OpenTelemetry has to say."""
    theirs = logging.getLogger("opentelemetry")
    theirs.handlers = [_Relay()]
    theirs.propagate = False
