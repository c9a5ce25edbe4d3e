"""The site's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from convoy.node.metrics import NodeMetrics
from convoy.site.job import SiteJob
from convoy.site.line import Line
from convoy.wire.health import Metric


@dataclass(frozen=True, slots=True)
class SiteMetrics:
    """Reads every part of a site that has something to measure."""

    line: Line
    node: NodeMetrics

    def all(self, jobs: Collection[SiteJob]) -> Iterator[Metric]:
        """Yield every number of this site, with these jobs, as it is now."""
        line = self.line
        connected = "1 while registered with the server, else 0."
        yield Metric("convoy_site_connected", connected, line.connected.is_set())
        yield Metric(
            "convoy_site_connections_total", "Times that this site has connected to its server.", line.opened, "counter"
        )
        yield Metric("convoy_site_jobs", "Jobs at this site.", len(jobs))
        yield Metric(
            "convoy_site_jobs_refused", "Of them, jobs that cannot run here.", sum(job.refused for job in jobs)
        )
        waiting = sum(job.tasks.qsize() for job in jobs)
        yield Metric("convoy_site_tasks_waiting", "Tasks that wait for their job's trainer.", waiting)
        held = sum(len(job.offers.outbox.answers) for job in jobs)
        yield Metric("convoy_site_answers_held", "Answers whose round is not committed yet.", held)
        received, sent = "Bytes of models and bundles from the server.", "Bytes of updates and artifacts to the server."
        yield Metric("convoy_site_received_bytes_total", received, line.received, "counter")
        yield Metric("convoy_site_sent_bytes_total", sent, line.sent, "counter")
        messages, size = line.queued
        yield Metric("convoy_queue_messages", "Messages that wait to be sent.", messages)
        yield Metric("convoy_queue_bytes", "Bytes of these messages.", size)
        yield from self.node.all()
