"""What tests of a node's processes share."""

import pytest

from convoy.node.child import Child


@pytest.fixture
def abandoned(monkeypatch):
    """The children that nobody waits for any more."""
    found, abandon = [], Child.abandon
    monkeypatch.setattr(Child, "abandon", lambda child, sign: found.append(child) or abandon(child, sign))
    return found
