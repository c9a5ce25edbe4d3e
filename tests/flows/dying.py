"""A built-in workflow whose process ends abruptly in the middle of a round."""

from convoy.flows import catalog


class Dying:
    """A fleet whose workflow ends at the first answer to its question of this number, counted from 1.

    In a stream each `take` counts as a question.
    """

    def __init__(self, fleet, last):
        self._fleet, self._left = fleet, last

    def __getattr__(self, name):
        return getattr(self._fleet, name)

    def ask(self, *args, **options):
        self._left -= 1
        answers = self._fleet.ask(*args, **options)
        return answers if self._left else _killed(answers)

    def stream(self, *args, **options):
        return _DyingStream(self._fleet.stream(*args, **options), self._left)


class _DyingStream:
    def __init__(self, stream, last):
        self._stream, self._left = stream, last

    def take(self, *args):
        self._left -= 1
        answers = self._stream.take(*args)
        return answers if self._left else _killed(answers)


async def _killed(answers):
    async for update in answers:
        raise RuntimeError("killed")
        yield update


def dying(workflow, last, **parameters):
    """Return the workflow as an async function of a fleet."""
    return lambda fleet: catalog.built_in(workflow)(Dying(fleet, last), **parameters)
