"""Models that a server lacks, for gateways on other machines: they ask, and send elsewhere what is for these.

A model that is to be loaded again is taken away only once each gateway has heard of it, and what it sent
before has arrived: so nobody is told that there is no such model.
"""

import threading
import time
from collections.abc import Mapping

__all__ = ["ARRIVE_S", "Absences"]

ARRIVE_S = 0.35  # from the choice of a server to its having the request: HAProxy's queue, a connection
ASKS_WITHIN_S = 3.0  # a gateway asks every half second: who was silent for longer has gone
LONGEST_S = 2.0  # that is waited for one
MOST_READERS = 64  # that are remembered, those who asked last: more are no gateways


class Absences:
    """Of one server; `tell` is for its `Supervisor`, the rest for its page. From any thread."""

    def __init__(self) -> None:
        self._models: dict[str, bool] = {}
        self._readers: dict[str, float] = {}  # when each asked last, in this order
        self._asked = threading.Condition()

    def tell(self, models: Mapping[str, bool]) -> None:
        """See `Supervisor.tell_absent`. Waits for gateways, where it is news to some."""
        with self._asked:
            news = models.items() - self._models.items()
            self._models = dict(models)
            now = time.monotonic()
            readers = [one for one, asked in self._readers.items() if now - asked < ASKS_WITHIN_S]
            if not news or not readers:
                return
            self._asked.wait_for(lambda: all(self._readers.get(one, now) > now for one in readers), LONGEST_S)
        time.sleep(ARRIVE_S)

    def read(self, reader: str) -> str:
        """A line for each: its name and, where it is being loaded again, " again". reader: who asks."""
        with self._asked:
            self._readers.pop(reader, None)
            self._readers[reader] = time.monotonic()
            if len(self._readers) > MOST_READERS:
                del self._readers[next(iter(self._readers))]
            self._asked.notify_all()
            return "".join(f"{name}{' again' * again}\n" for name, again in sorted(self._models.items()))
