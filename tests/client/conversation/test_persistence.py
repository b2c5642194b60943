"""An outage is told of once, however many threads meet it."""

import threading
from types import SimpleNamespace

from client import ServerUnavailable
from client.conversation import persistence
from client.conversation.persistence import Persistence
from client.conversation.retrying import RetryPolicy


def test_of_threads_that_meet_one_outage_the_first_tells_of_it(monkeypatch, caplog):
    asking, error = Persistence("u", RetryPolicy(), None), ServerUnavailable("gone")
    second = threading.Thread(target=asking._outage, args=(error, None))

    def monotonic():
        """Asked by the first, after it looked and before it has noted the outage."""
        if threading.current_thread() is not second:
            second.start()
            second.join(0.5)  # it ends only where nothing holds it up
        return 0.0

    monkeypatch.setattr(persistence, "time", SimpleNamespace(monotonic=monotonic))
    asking._outage(error, None)
    second.join()
    assert len(caplog.records) == 1
