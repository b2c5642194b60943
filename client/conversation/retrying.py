"""How often, and for how long, one question is asked again.

Two kinds of trouble are told apart. A server that never answered this client is probably not there: it is
tried `retries` times, within a second. One that did answer, and is gone or has the model no longer ready, is
probably being restarted, which takes it many seconds: it is asked again for as long as the patience lasts.
Overload, and processes of a model that died, are tried `retries` times as well.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..common.defaults import FIRST_WAIT_S, LONGEST_WAIT_S, PATIENCE_S, RETRIES
from ..errors import (
    InvalidInput,
    ModelNotReady,
    ProcessDied,
    RequestTimeout,
    ServerOverloaded,
    ServerUnavailable,
    VisionError,
)

__all__ = ["RETRIED", "Deadline", "Retries", "RetryPolicy"]

# A model is not ready for an instant, too, while a new version takes over.
RETRIED = (ServerUnavailable, ServerOverloaded, ModelNotReady, ProcessDied)
OUTAGES = (ServerUnavailable, ModelNotReady)


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off: waits of first, 2 x first, 4 x first, ... up to longest, each times 0.5..1.

    retries: attempts after the first; 0 is none at all, whatever the patience.
    patience_s: the sum of the waits for a server or model that answered before; they do not count as part of
        `timeout_s`, so one question takes `timeout_s + patience_s` at most. None: what `timeout_s` leaves.
    """

    retries: int = RETRIES
    first_wait_s: float = FIRST_WAIT_S
    longest_wait_s: float = LONGEST_WAIT_S
    patience_s: float | None = PATIENCE_S

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise InvalidInput(f"retries is {self.retries}; it must be 0 or more.")
        if self.patience_s is not None and not 0 <= self.patience_s < math.inf:
            raise InvalidInput(f"patience_s is {self.patience_s}; it must be 0 or more, and finite.")

    def wait_s(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """Seconds before attempt number 1 + `attempt` of those after the first; `draw` gives 0 to 1."""
        doubled = self.first_wait_s * 2.0 ** min(attempt, 30)
        return min(doubled, self.longest_wait_s) * (1 + draw()) / 2


class Deadline:
    """The moment, `seconds` from now on the monotonic clock, at which a question is given up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Always above 0. Raises RequestTimeout where nothing remains."""
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise RequestTimeout(f"no answer within {self._seconds:g} s. Allow more: --timeout or timeout_s.")
        return remaining

    def allows(self, seconds: float) -> bool:
        """Whether more than `seconds` remain."""
        return self._end - time.monotonic() > seconds

    def extend(self, seconds: float) -> None:
        """Puts it off: what is waited out of `patience_s` is no part of `timeout_s`."""
        self._end += seconds


class Retries:
    """The waits of one question."""

    def __init__(self, policy: RetryPolicy, deadline: Deadline) -> None:
        self._policy = policy
        self._deadline = deadline
        self._attempts = 0
        self._began: float | None = None  # the first wait for something that answered before
        self._left_s = policy.patience_s

    @property
    def waited_s(self) -> float:
        """Since the first failure of a server or model that answered before; 0 without one."""
        return time.monotonic() - self._began if self._began is not None else 0.0

    def wait_s(self, error: VisionError, has_answered: bool) -> float | None:
        """The seconds to wait after this error; None: it is final.

        has_answered: what this client asks has answered it before.
        """
        wait_s = self._policy.wait_s(self._attempts)
        self._attempts += 1
        if isinstance(error, OUTAGES) and has_answered and self._policy.retries:
            self._began = time.monotonic() if self._began is None else self._began
            if self._left_s is None:
                return wait_s if self._deadline.allows(wait_s) else None
            if wait_s <= self._left_s:
                self._left_s -= wait_s
                self._deadline.extend(wait_s)
                return wait_s
        if isinstance(error, ProcessDied):  # replaced within seconds, not within tenths of one
            wait_s = self._policy.longest_wait_s
        if self._attempts > self._policy.retries or not self._deadline.allows(wait_s):
            return None
        return wait_s
