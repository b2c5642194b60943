"""Who may take one of a number of places: no kind so many that nothing is left for others.

A kind may hold as many as are free. So one that never gives any back takes half of them, a second one half of
what is left, and so on. The rule is that of shared buffers in switches (Choudhury and Hahne, Dynamic Queue
Length Thresholds for Shared-Memory Packet Switches, 1998).
"""

import asyncio
from collections import Counter, deque

__all__ = ["Full", "Shares"]


class Full(Exception):
    """Too many of this kind wait already."""


class Shares:
    """most: places. most_waiting: those who wait for one, shared by the same rule. For one event loop."""

    def __init__(self, most: int, most_waiting: float):
        self._free, self._held = most, Counter[str]()
        self._seats = most_waiting
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of their turns

    async def take(self, kind: str) -> None:
        """A place, at once or in turn. Raises `Full`."""
        queue = self._waiting.get(kind)
        if not queue and self._may(kind):
            self._take(kind)
            return
        if len(queue or ()) >= self._seats:
            raise Full
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(kind, deque()).append(turn)
        self._seats -= 1
        try:
            await turn
        except BaseException:
            if turn.cancelled():
                self._leave(kind, turn)
                self._next()  # who came behind it may find places that were free already
            else:
                self.give_back(kind)  # it came just as nobody waited for it any more
            raise

    def give_back(self, kind: str) -> None:
        """One that was taken."""
        self._free += 1
        self._held[kind] -= 1
        if not self._held[kind]:
            del self._held[kind]
        self._next()

    def _may(self, kind: str) -> bool:
        return self._held[kind] < self._free

    def _take(self, kind: str) -> None:
        self._free -= 1
        self._held[kind] += 1

    def _leave(self, kind: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting[kind]
        queue.remove(turn)
        self._seats += 1
        if not queue:
            del self._waiting[kind]

    def _next(self) -> None:
        """Let in whoever may be: the first of each kind, and kinds in turn."""
        for kind in list(self._waiting):
            turn = next((one for one in self._waiting[kind] if not one.done()), None)  # else it is leaving
            if turn and self._may(kind):
                self._leave(kind, turn)
                self._take(kind)
                turn.set_result(None)
                if kind in self._waiting:
                    self._waiting[kind] = self._waiting.pop(kind)  # behind the others
