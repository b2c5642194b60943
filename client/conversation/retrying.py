"""How often, and for how long, one question is asked again.

Two kinds of trouble are told apart. A server that never answered this client is probably not there: it is
tried `retries` times, within a second. One that did answer, and is gone or has the model no longer ready, is
probably being restarted, which takes it many seconds: it is asked again for as long as the patience lasts.
Overload, and processes of a model that died, are tried `retries` times as well; overload only if the server
says when to come back, or is Triton itself, whose queue is full for milliseconds.

Many questions of one client must not turn an outage into a storm. So all of them share a `RetryBudget`, and
of those that wait for a server to come back one at a time asks whether it has (`Probes`).
"""

from __future__ import annotations

import math
import random
import threading
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

__all__ = ["RETRIED", "Deadline", "Probes", "Retries", "RetryBudget", "RetryPolicy"]

# A model is not ready for an instant, too, while a new version takes over.
RETRIED = (ServerUnavailable, ServerOverloaded, ModelNotReady, ProcessDied)
OUTAGES = (ServerUnavailable, ModelNotReady)
FEWEST_TOKENS = 10.0
TOKENS_BACK = 0.1  # for a success
HANDOVER_S = 1.0  # before another question asks in place of one that was given up: many are at the same time


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


class RetryBudget:
    """What all questions of a client may spend on asking again: gRPC's retry throttling.

    A failure takes a token, a success gives a tenth of one back, and nothing is asked again while half of
    them or fewer are left: https://github.com/grpc/proposal/blob/master/A6-client-retries.md. There are
    enough for one question, asked alone, to use all of its `retries`. Safe to share between threads.
    """

    def __init__(self, retries: int) -> None:
        self._most = self._tokens = max(FEWEST_TOKENS, 2.0 * (retries + 1))
        self._lock = threading.Lock()

    def failed(self) -> None:
        """Take a token."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1)

    def succeeded(self) -> None:
        """Give some of one back."""
        with self._lock:
            self._tokens = min(self._most, self._tokens + TOKENS_BACK)

    def allows(self) -> bool:
        """Whether something may be asked again."""
        return self._tokens > self._most / 2


class Probes:
    """Of the questions that wait for a server, or a model, to come back, the one that asks whether it has.

    The first that waits does so for all, until it has its answer or is given up; then another may. `what` is
    the model, or None for the server. Safe to share between threads.
    """

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._asking: dict[str | None, Retries | None] = {}  # what is away, and who asks for it
        self._let_go: dict[str | None, float] = {}  # when the last one was over that did
        self._lock = threading.Lock()

    def may_ask(self, what: str | None, who: Retries) -> bool:
        """Whether this question may be asked again."""
        with self._lock:
            if what not in self._asking and self._budget.allows():
                return True
            if self._asking.get(what) is None:
                if time.monotonic() - self._let_go.get(what, -math.inf) < HANDOVER_S:
                    return False
                self._asking[what] = who
            return self._asking[what] is who

    def away(self, what: str | None) -> None:
        """It answered before, and does not now."""
        with self._lock:
            self._asking.setdefault(what, None)

    def back(self, *what: str | None) -> None:
        """It has answered, so all may ask again."""
        with self._lock:
            for one in what:
                self._asking.pop(one, None)

    def let_go(self, who: Retries) -> None:
        """That question is over."""
        with self._lock:
            for what, asking in self._asking.items():
                if asking is who:
                    self._asking[what] = None
                    self._let_go[what] = time.monotonic()


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

    def __init__(self, policy: RetryPolicy, deadline: Deadline, budget: RetryBudget) -> None:
        self._policy = policy
        self._budget = budget
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
        self._budget.failed()
        if isinstance(error, OUTAGES) and has_answered and self._policy.retries:
            self._began = time.monotonic() if self._began is None else self._began
            if (waits := self.outage_wait_s()) is not None or self._left_s is None:
                return waits
        else:
            self._attempts += 1
        wait_s = self._policy.wait_s(self._attempts - 1)
        if isinstance(error, ProcessDied):  # replaced within seconds, not within tenths of one
            wait_s = self._policy.longest_wait_s
        if isinstance(error, ServerOverloaded):
            if error.retry_after_s is None:
                return None
            wait_s += error.retry_after_s
        if self._attempts > self._policy.retries or not self._deadline.allows(wait_s):
            return None
        return wait_s if self._budget.allows() else None

    def outage_wait_s(self) -> float | None:
        """The same, once more, for what answered before, out of the patience."""
        wait_s = self._policy.wait_s(self._attempts)
        self._attempts += 1
        if self._left_s is None:
            return wait_s if self._deadline.allows(wait_s) else None
        if wait_s > self._left_s:
            return None
        self._left_s -= wait_s
        self._deadline.extend(wait_s)
        return wait_s
