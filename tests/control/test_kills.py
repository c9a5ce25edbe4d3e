"""A server that is killed at any moment: what it goes on from is still there, and no site has forgotten anything."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from convoy.control import effects, events, holders
from convoy.control.records import Round
from tests.control.test_machine import A, B, C, Drive, J, asked, joined, submitted, updated

SITES = (A, B, C)


class Server:
    """A machine whose effects are performed one by one, later than they are decided; it keeps who holds what."""

    def __init__(self):
        self.drive, self.queue, self.held = Drive(), deque(), set()
        self.durable, self.syncing, self.told = [], None, []
        self.disk = set()  # what is there even after a power cut
        self.post(*map(joined, SITES), submitted())
        self.free = self.perform_all()  # the workflow waits for nothing
        self.commit(best=False)
        self.post(*(events.MemberReady(J, site) for site in SITES))

    def post(self, *happened):
        self.queue.extend(self.drive(*happened))

    def commit(self, *, best):
        """The workflow asks all sites, hears of all, and commits; it goes on when it hears that this is durable."""
        if not self.free:
            return
        self.free, number = False, self.drive.job.committed + 1
        if number:
            question = f"{number}.0"
            self.held |= {holders.asked(question), *(holders.answer(question, site) for site in SITES)}
            self.post(asked(question, number), *(updated(site, site, question, state_bytes=1) for site in SITES))
        self.held |= {holders.model(number), holders.state(number)}
        self.post(events.CommitAsked(J, number, f"m{number}", {}, best, state=f"s{number}"))

    def perform(self):
        """Perform the effect that is next."""
        match self.queue.popleft() if self.queue else None:
            case effects.Save(record=Round() as record):
                self.durable.append(record)
            case effects.SyncModel() as effect:
                self.syncing = effect
            case effects.TellCommitted():
                self.free = True
            case effects.Release():
                self.held = {one for one in self.held if holders.stays(self.drive.job, one)}
            case effects.SendCommitted() as effect:
                self.told.append(effect)

    def perform_all(self):
        while self.queue:
            self.perform()
        return True

    def synced(self):
        """The newest model that was to be synced is on the disk for good."""
        if self.syncing is not None:
            effect, self.syncing = self.syncing, None
            self.disk |= {effect.model, effect.state, effect.best}
            self.post(events.ModelSynced(J, effect.round))

    def check(self):
        """A server that is killed now goes on from the last durable round."""
        last = self.durable[-1] if self.durable else None
        best = [record for record in self.durable if record.best][-1:]
        needed = {holders.model(record.round) for record in (last, *best) if record}
        needed |= {holders.state(last.round)} if last else set()
        assert needed <= self.held
        for said in self.told:
            assert said.round <= last.round  # it forgets what came before
            assert not said.after or int(said.after.partition(".")[0]) <= last.round  # the state that it goes on with
        self.check_power_cut()

    def check_power_cut(self):
        """A machine that loses its power goes on from the last round that is on the disk, and has the best one."""
        synced = [number for number, record in enumerate(self.durable) if record.model in self.disk]
        lasts = self.durable[: synced[-1] + 1] if synced else []
        for record in [record for record in lasts if record.best][-1:]:
            assert record.model in self.disk


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["commit", "best", "perform", "perform", "perform", "all", "synced"]), max_size=120))
def test_the_last_durable_round_can_be_gone_on_with_at_every_moment(moves):
    server = Server()
    for move in moves:
        match move:
            case "commit" | "best":
                server.commit(best=move == "best")
            case "perform":
                server.perform()
            case "all":
                server.perform_all()
            case "synced":
                server.synced()
        server.check()
    for _ in range(3):  # in the end nothing is kept that is not needed
        server.perform_all()
        server.synced()
    stays = {one for one in server.held if holders.stays(server.drive.job, one)}
    job = server.drive.job
    assert stays == server.held
    assert {one for one in stays if one.startswith("state")} == {holders.state(job.committed)}
    assert len([one for one in stays if one.startswith("model")]) <= 2
    assert not job.unsynced


def test_rounds_that_are_faster_than_the_disk_are_let_go_of_as_it_comes_along():
    server = Server()
    server.perform_all()
    for _ in range(50):  # each sync ends when the next round is decided
        server.commit(best=False)
        server.synced()
        server.perform_all()
    assert len(server.held) <= 12


def test_the_best_model_is_on_the_disk_though_the_round_after_it_was_decided_before_it_was_synced():
    server = Server()
    for best in (False, True, False):
        server.commit(best=best)
        server.perform_all()
    server.synced()  # of these models it was told of the newest last
    server.perform_all()
    server.check()
