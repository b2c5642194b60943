"""Pass on what a child writes, to several readers, none of which can make it wait.

Whoever writes its log to a pipe that nobody empties (a paused terminal, a stuck collector) stands still when
the pipe is full. So a reader that is slow gets a buffer here, and loses what does not fit.
"""

import contextlib
import os
import select
import time

CHUNK_BYTES = select.PIPE_BUF  # what a pipe that is reported as writable takes without blocking
BUFFER_BYTES = 2**20


class LogPump:
    """entry: the descriptor to write to, for the child. targets: descriptors that get everything."""

    def __init__(self, targets: list[int]):
        self._exit, self.entry = os.pipe()
        self._waiting = {target: bytearray() for target in targets}
        self._lost = dict.fromkeys(targets, 0)

    def close_entry(self) -> None:
        """Once the child has it."""
        os.close(self.entry)

    def readable(self) -> list[int]:
        return [self._exit] if self._exit >= 0 else []

    def writable(self) -> list[int]:
        return [target for target, waiting in self._waiting.items() if waiting]

    def move(self, readable: list[int], writable: list[int]) -> None:
        """Do what select() said is possible."""
        if self._exit in readable:
            data = os.read(self._exit, 2**16)
            if not data:
                os.close(self._exit)
                self._exit = -1
            for target, waiting in self._waiting.items():
                self._take(target, waiting, data)
        for target in set(writable) & self._waiting.keys():
            waiting = self._waiting[target]
            try:
                del waiting[: os.write(target, waiting[:CHUNK_BYTES])]
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
            waiting += (
                b"triton-vision: %d bytes of the log are lost here: nothing took them\n" % self._lost[target]
            )
            self._lost[target] = 0
        waiting += data

    def finish(self, timeout_s: float) -> None:
        """Pass on what is left, as far as the readers take it within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.readable() or self.writable():
            left = deadline - time.monotonic()
            readable, writable, _ = select.select(self.readable(), self.writable(), [], max(0.0, left))
            if left <= 0 and not readable and not writable:
                break
            self.move(readable, writable)
        with contextlib.suppress(OSError):
            os.close(self._exit)
