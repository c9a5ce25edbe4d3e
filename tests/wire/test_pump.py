"""The pump: bytes between files and streams, quick peers and slow ones."""

import asyncio
import os
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convoy.errors import RemoteFault, Unreachable
from convoy.wire import convoy_pb2 as pb
from convoy.wire.pump import CHUNK, Pump

MB = 1_000_000


@pytest.fixture
def file(tmp_path):
    """A file of ten megabytes and its bytes."""
    data = os.urandom(10 * MB)
    (tmp_path / "file").write_bytes(data)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    yield descriptor, data
    os.close(descriptor)


@pytest.fixture
def pump():
    made = Pump()
    yield made
    made.close()


def sender(pump, descriptor, ranges, moved=None):
    """Return what sends ranges to whoever comes, then waits for it to leave."""

    async def serve(stream):
        await pump.send(stream, descriptor, ranges, moved)
        await stream.read(pb.Up)

    return serve


async def received(way, pump, count):
    """Dial, and return the bytes that come."""
    taken, stream = bytearray(), await way.dial()
    try:
        await pump.receive(stream, count, taken.extend)
    finally:
        stream.close()
    return bytes(taken)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 10 * MB), max_size=6, unique=True))
async def test_exactly_the_bytes_of_the_ranges_come_in_their_order(cuts, door, file, pump):
    descriptor, data = file
    cuts = sorted(cuts)[: len(cuts) // 2 * 2]
    ranges = list(zip(cuts[::2], cuts[1::2], strict=True))
    moved = []
    async with door(sender(pump, descriptor, ranges, moved.append)) as way:
        wanted = b"".join(data[start:end] for start, end in ranges)
        assert await received(way, pump, len(wanted)) == wanted
    assert sum(moved) == len(wanted)


async def test_peers_that_do_not_read_keep_no_thread_from_one_that_does(door, file, pump):
    descriptor, data = file
    async with door(sender(pump, descriptor, [(0, 10 * MB)] * 3)) as way:
        idlers = [await way.dial() for _ in range(10)]
        theirs = Pump()
        assert await received(way, theirs, 30 * MB) == data * 3
        theirs.close()
        late = [received_on(idler, 30 * MB) for idler in idlers]  # and nothing of theirs is lost
        assert all(whole == data * 3 for whole in await asyncio.gather(*late))


async def received_on(stream, count):
    taken, pump = bytearray(), Pump()
    await pump.receive(stream, count, taken.extend)
    pump.close()
    stream.close()
    return bytes(taken)


async def test_a_peer_that_sends_byte_by_byte_is_heard_to_its_end(door, pump):
    async def trickle(stream):
        for byte in range(100):
            await stream._do(lambda byte=byte: stream.sock.send(bytes([byte])))
            await asyncio.wait({asyncio.create_task(stream.read(pb.Up))}, timeout=0.001 * byte)

    async with door(trickle) as way:
        assert await received(way, pump, 100) == bytes(range(100))


async def test_what_came_before_the_other_end_broke_off_has_been_fed(door, file, pump):
    descriptor, data = file

    async def break_off(stream):
        await pump.send(stream, descriptor, [(0, 3 * MB)])

    async with door(break_off) as way:
        taken, stream = bytearray(), await way.dial()
        with pytest.raises(Unreachable, match="lost"):
            await pump.receive(stream, 10 * MB, taken.extend)
        stream.close()
        assert bytes(taken) == data[: 3 * MB]


async def test_a_range_beyond_the_file_is_a_fault_and_not_a_wait(door, file, pump):
    fault = asyncio.get_running_loop().create_future()

    async def serve(stream):
        try:
            await pump.send(stream, file[0], [(9 * MB, 11 * MB)])
        except RemoteFault as problem:
            fault.set_result(problem)

    async with door(serve) as way:
        stream = await way.dial()
        assert "has no bytes" in str(await fault)
        stream.close()


async def test_what_the_feeder_refuses_ends_the_transfer(door, file, pump):
    def refuse(view):
        raise RemoteFault("not this one")

    async with door(sender(pump, file[0], [(0, 10 * MB)])) as way:
        stream = await way.dial()
        with pytest.raises(RemoteFault, match="not this one"):
            await pump.receive(stream, 10 * MB, refuse)
        stream.close()


async def test_a_transfer_that_is_cancelled_has_let_go_of_everything_when_it_ends(door, pump):
    async def nothing(stream):
        await stream.read(pb.Up)

    async with door(nothing) as way:
        stream = await way.dial()
        work = asyncio.create_task(pump.receive(stream, CHUNK, lambda _: None))
        await asyncio.wait({work}, timeout=0.05)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        stream.close()
        assert await received_by_another(pump)


async def received_by_another(pump):
    """Whether all threads of the pump are free."""
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(pump._in, lambda: None) for _ in range(3)))
    return True


async def test_one_peer_with_many_transfers_leaves_a_thread_for_others(door, file, pump):
    descriptor, data = file
    held, here = threading.Event(), Pump()

    def hold(_view):
        held.wait()

    async def take(peer, feed):
        stream = await way.dial()
        stream.peer = peer
        try:
            await here.receive(stream, MB, feed)
        finally:
            stream.close()

    taken = bytearray()
    async with door(sender(pump, descriptor, [(0, MB)])) as way:
        greedy = [asyncio.create_task(take("site-2", hold)) for _ in range(10)]
        await take("site-1", taken.extend)
        assert bytes(taken) == data[:MB]
        assert not any(task.done() for task in greedy)
        held.set()
        await asyncio.gather(*greedy)
    here.close()
