"""The server's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from convoy.control.transitions import ENDED
from convoy.control.view import ReadOnlyJob, ReadOnlyState
from convoy.node.metrics import NodeMetrics
from convoy.server.hub import Hub
from convoy.server.observer import Observer
from convoy.server.transfers import Transfers
from convoy.wire.health import Metric

JOBS: Final = 50  # jobs with series of their own, the oldest first; the others are in the totals alone
SITES: Final = 500  # sites with series of their own, by name; the others are in the totals alone


@dataclass(slots=True)
class ServerMetrics:
    """Reads every part of a server that has something to measure."""

    state: ReadOnlyState
    hub: Hub
    transfers: Transfers
    observer: Observer
    node: NodeMetrics
    waiting: Callable[[], int]  # records and effects that wait to be written and done

    def all(self) -> Iterator[Metric]:
        """Yield every number of this server as it is now."""
        yield from self._sites()
        yield from self._jobs()
        yield from self._queues()
        received, sent = self.transfers.received, self.transfers.sent
        yield Metric("convoy_update_received_bytes_total", "Bytes of updates from sites.", received, "counter")
        yield Metric("convoy_model_sent_bytes_total", "Bytes of models to sites.", sent, "counter")
        refused = self.transfers.refused
        yield Metric("convoy_updates_refused_total", "Updates that failed the server's checks.", refused, "counter")
        yield Metric("convoy_storage_full", "1 while the disk is too full for new work.", bool(self.state.problem))
        yield from self.observer.metrics()
        yield from self.node.all()

    def _sites(self) -> Iterator[Metric]:
        listed = {name: site for name, site in sorted(self.state.sites.items()) if site.listed}
        yield Metric("convoy_sites_connected", "Sites with an open stream.", len(self.hub.lines))
        yield Metric("convoy_sites_known", "Sites of the federation.", len(listed))
        enabled = sum(site.enabled for site in listed.values())
        yield Metric("convoy_sites_enabled", "Sites of the federation that may take part.", enabled)
        for name, site in [*listed.items()][:SITES]:
            if site.enabled:
                about = "1 while this site has an open stream, else 0; disabled sites have none."
                yield Metric("convoy_server_site_connected", about, name in self.hub.lines, labels=(("site", name),))

    def _jobs(self) -> Iterator[Metric]:
        for name in ("submitted", "running", "ending"):
            count = sum(1 for job in self.state.jobs.values() if job.record.state == name)
            yield Metric("convoy_jobs", "Jobs that have not ended, by state.", count, labels=(("state", name),))
        for name in sorted(ENDED):
            about, labels = "Jobs that have ended since the start, by outcome.", (("state", name),)
            yield Metric("convoy_jobs_ended_total", about, self.state.ended.get(name, 0), "counter", labels)
        active = [job for job in self.state.jobs.values() if job.record.state in ("running", "ending")]
        for job in active[:JOBS]:
            yield from self._job(job)
        left = max(len(active) - JOBS, 0)
        yield Metric("convoy_jobs_without_series", "Active jobs beyond those that have series of their own.", left)

    def _job(self, job: ReadOnlyJob) -> Iterator[Metric]:
        labels = (("job_id", job.record.id), ("job_name", job.record.name))  # `job` is Prometheus' own label
        running = self.observer.jobs.get(job.record.id)
        moved = max(running.moved if running is not None else 0.0, job.record.started_at)
        for name, about, value in (
            ("convoy_job_round", "The last committed round of this job; -1: none.", job.committed),
            ("convoy_job_rounds", "Rounds that this job means to run; 0: it did not say.", job.record.rounds),
            ("convoy_job_sites_awaited", "Sites whose answers this job awaits.", len(job.waiting_for)),
            ("convoy_job_progress_timestamp_seconds", "When this job last went on, since the epoch.", moved),
            (
                "convoy_job_start_timestamp_seconds",
                "When this job was started, since the epoch.",
                job.record.started_at,
            ),
        ):
            yield Metric(name, about, value, labels=labels)

    def _queues(self) -> Iterator[Metric]:
        jobs = [job for job in self.state.jobs.values() if not job.over]
        questions = [question for job in jobs for question in job.questions.values()]
        tasks = sum(task.state == "open" for question in questions for task in question.tasks.values())
        yield Metric("convoy_tasks_open", "Tasks that sites have not answered.", tasks)
        pending = sum(len(job.pending) for job in jobs)
        yield Metric("convoy_questions_pending", "Questions that wait for enough sites.", pending)
        unread = [line.downs for line in self.hub.lines.values()]
        count, size = sum(queue.qsize() for queue in unread), sum(queue.size for queue in unread)
        yield Metric("convoy_queue_messages", "Messages that wait to be sent.", count)
        yield Metric("convoy_queue_bytes", "Bytes of these messages.", size)
        longest = max((queue.qsize() for queue in unread), default=0)
        yield Metric("convoy_queue_longest_messages", "Messages in the longest queue to one site.", longest)
        about = "Records and effects that wait to be written and done."
        yield Metric("convoy_ledger_queue_entries", about, self.waiting())
