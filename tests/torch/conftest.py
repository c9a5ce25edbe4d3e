"""The scripted node of the tests of workers, for trainers with torch."""

from tests.worker.conftest import job, trainer

__all__ = ["job", "trainer"]
