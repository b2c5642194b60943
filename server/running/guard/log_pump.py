"""Pass on what a child writes, to several readers, none of which can make it wait for long.

Whoever writes its log to a pipe that nobody empties (a paused terminal, a stuck collector) stands still when
the pipe is full. Here a reader that takes nothing for a moment gets a buffer, and loses what does not fit.
"""

import contextlib
import os
import select
import time

CHUNK_BYTES = select.PIPE_BUF  # what a pipe that is reported as writable takes without blocking
BUFFER_BYTES = 2**20
PATIENCE_S = 0.5  # with a reader whose buffer is half full, as long as it goes on taking


class LogPump:
    """entry: the descriptor to write to, for the child. targets: descriptors that get everything.

    watched: words in it that `take_seen` tells of.
    """

    def __init__(self, targets: list[int], watched: bytes):
        self._watched, self._last, self._seen = watched, b"", False
        self._exit, self.entry = os.pipe()
        self._waiting = {target: bytearray() for target in targets}
        self._lost = dict.fromkeys(targets, 0)
        self._took = dict.fromkeys(targets, time.monotonic())

    def close_entry(self) -> None:
        """Once the child has it."""
        os.close(self.entry)

    def readable(self) -> list[int]:
        """Descriptors for select(): none while a reader that is behind is waited for."""
        return [self._exit] if self._exit >= 0 and self.timeout() is None else []

    def writable(self) -> list[int]:
        """Descriptors for select(): the targets that something is kept for."""
        return [target for target, waiting in self._waiting.items() if waiting]

    def timeout(self) -> float | None:
        """Seconds to wait for a reader that is behind, before it is overtaken; None if none is."""
        now = time.monotonic()
        left = [
            PATIENCE_S - (now - self._took[target])
            for target, waiting in self._waiting.items()
            if len(waiting) > BUFFER_BYTES // 2
        ]
        return max((seconds for seconds in left if seconds > 0), default=None)

    def take_seen(self) -> bool:
        """Whether `watched` has passed since this was asked last."""
        seen, self._seen = self._seen, False
        return seen

    def move(self, readable: list[int], writable: list[int]) -> None:
        """Do what select() said is possible."""
        if self._exit in readable:
            data = os.read(self._exit, 2**16)
            if not data:
                os.close(self._exit)
                self._exit = -1
            self._seen = self._seen or self._watched in self._last + data
            self._last = data[-len(self._watched) :]
            for target, waiting in self._waiting.items():
                self._take(target, waiting, data)
        for target in set(writable) & self._waiting.keys():
            waiting = self._waiting[target]
            try:
                del waiting[: os.write(target, waiting[:CHUNK_BYTES])]
                self._took[target] = time.monotonic()
            except BlockingIOError:
                pass  # somebody made it non-blocking, and was quicker
            except OSError:  # nobody reads there any more, or the disk is full
                self._lost[target] += len(waiting)
                waiting.clear()

    def _take(self, target: int, waiting: bytearray, data: bytes) -> None:
        if len(waiting) + len(data) > BUFFER_BYTES:
            self._lost[target] += len(data)
            return
        if self._lost[target]:
            told = f"triton-vision: {self._lost[target]} bytes of the log are lost here: nothing took them\n"
            waiting += told.encode()
            self._lost[target] = 0
        waiting += data

    def finish(self, timeout_s: float) -> None:
        """Pass on what is left, as far as the readers take it within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (self._exit >= 0 or self.writable()) and (left := deadline - time.monotonic()) > 0:
            wait_s = min(left, self.timeout() or left)
            self.move(*select.select(self.readable(), self.writable(), [], wait_s)[:2])
        with contextlib.suppress(OSError):
            os.close(self._exit)
