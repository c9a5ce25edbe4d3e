"""The process for experiment trackers is started again, whatever kept it from starting."""

import asyncio
from contextlib import suppress

from convoy.admin.token_access import TokenAccess
from convoy.node.isolation import Walls, probe
from convoy.server.tracking import Tracking
from convoy.spec.settings import Grants, Tracked


class Log:
    """Gives each warning to whoever waits for it."""

    def __init__(self):
        self.warnings = asyncio.Queue()

    def warning(self, _text, **facts):
        self.warnings.put_nowait(facts)

    def info(self, *_texts, **_facts):
        pass


async def test_a_process_that_cannot_start_is_started_later_and_finds_no_results_of_one_that_was_killed(tmp_path):
    folder, log = tmp_path / "tracking", Log()
    walls = Walls.build(probe(tmp_path), Grants(network=True), ())
    tracking = Tracking(
        Tracked(tensorboard=str(tmp_path)), folder, walls, TokenAccess("p", "127.0.0.1", 1, "", "t"), log
    )
    running = asyncio.create_task(tracking.run())
    for _ in range(2):
        said = await log.warnings.get()
        assert "No such file" in str(said["status"])
        assert tracking._writer is None
        tracking.submitted("j" * 32)  # there is nobody to tell
    left = folder / "convoy-track-old"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"model")
    (folder / "tracked.json").write_text('{"since": 0, "jobs": []}')
    while not isinstance((await log.warnings.get())["status"], int):  # it has run, and no server answers it
        pass
    assert [it.name for it in folder.iterdir() if it.name.startswith("convoy-track")] == []
    assert (folder / "tracked.json").exists()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
