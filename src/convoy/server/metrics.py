"""The server's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.control.transitions import ENDED
from convoy.control.view import ReadOnlyState
from convoy.server.coordinator import resident_bytes
from convoy.server.hub import Hub
from convoy.server.transfers import Transfers
from convoy.wire import health


def metrics(state: ReadOnlyState, hub: Hub, transfers: Transfers) -> Iterator[health.Metric]:
    """Yield every number of this server as it is now."""
    yield health.Metric("convoy_sites_connected", "Sites with an open stream.", len(hub.lines))
    listed = sum(site.listed for site in state.sites.values())
    yield health.Metric("convoy_sites_known", "Sites of the federation.", listed)
    for name in ("submitted", "running", "ending"):
        count = sum(1 for job in state.jobs.values() if job.record.state == name)
        yield health.Metric("convoy_jobs", "Jobs that have not ended, by state.", count, labels=(("state", name),))
    for name in sorted(ENDED):
        yield health.Metric(
            "convoy_jobs_ended",
            "Jobs that have ended since the start.",
            state.ended.get(name, 0),
            "counter",
            (("state", name),),
        )
    rounds = sum(max(job.committed, 0) for job in state.jobs.values() if not job.over)
    yield health.Metric("convoy_rounds_committed", "Rounds committed, of the jobs that have not ended.", rounds)
    yield health.Metric("convoy_update_bytes_received", "Bytes of updates from sites.", transfers.received, "counter")
    yield health.Metric("convoy_model_bytes_sent", "Bytes of models to sites.", transfers.sent, "counter")
    yield health.Metric("convoy_storage_full", "1 while the disk is too full for new work.", bool(state.problem))
    yield health.Metric("convoy_resident_bytes", "Resident memory of the server process.", resident_bytes())
