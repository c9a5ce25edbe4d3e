"""How a pod ended, in words: the cluster's reason before all, a container's last words only before it has called."""

import pytest

from convoy.pods.trouble import end_of

OOM = {"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137, "message": "a job's own words"}}}
NO_CONVOY = {"state": {"terminated": {"exitCode": 1, "message": "No module named convoy"}}}
DRAINED = {"type": "DisruptionTarget", "status": "True", "message": "Eviction API: evicting"}


@pytest.mark.parametrize(
    ("status", "gone", "called", "how"),
    [
        ({"phase": "Running"}, False, True, ""),
        ({"phase": "Succeeded"}, False, True, ""),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, True, True, "Evicted: low on memory"),
        ({"phase": "Running", "conditions": [DRAINED]}, True, True, "taken away: Eviction API: evicting"),
        ({"phase": "Running"}, True, True, "taken away"),
        ({"phase": "Failed", "containerStatuses": [OOM]}, False, True, "out of memory"),
        ({"phase": "Failed", "containerStatuses": [NO_CONVOY]}, False, False, "exit status 1: No module named convoy"),
        ({"phase": "Failed"}, False, True, "its pod failed"),
    ],
)
def test_a_pod_that_is_over_says_why(status, gone, called, how):
    meta = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if gone else {}
    said = end_of({"metadata": meta, "status": status}, called=called)
    assert how in said
    assert bool(said) is bool(how)
    assert "own words" not in said
