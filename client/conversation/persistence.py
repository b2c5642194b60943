"""Asks again until there is an answer, as far as that helps, and tells once when a server is away.

It knows nothing of what is asked: `retrying` says how often and for how long, the conversation why a model is
not there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..common.identity import log
from ..errors import (
    InferenceFailed,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServerUnavailable,
    VisionError,
    gone,
    stopping,
)
from ..transport.protocol import Call, Flow, LocalWork, Pause, T
from .retrying import RETRIED, Deadline, Probes, Retries, RetryBudget, RetryPolicy

__all__ = ["Explain", "Persistence"]

# Why a model is not there; asks the server.
Explain = Callable[[ModelNotFound], Flow[ModelNotFound]]
# What a port that is another one than was meant answers, or seems to.
FIRST_CONTACT = (ServerUnavailable, ModelNotFound, InferenceFailed, InvalidInput)


class Persistence:
    """Of one client: what has answered it before, and since when its server is away.

    identify: says, within the seconds it is given, what listens at the address if it is not what the client
        speaks; else None.
    """

    def __init__(self, url: str, policy: RetryPolicy, identify: Callable[[float], str | None] | None) -> None:
        self._url = url
        self._policy = policy
        self._identify = identify
        self._budget = RetryBudget(policy.retries)
        self._probes = Probes(self._budget)
        self._answered: set[str | None] = set()  # models that answered before; None is the server itself
        self._outage_began: float | None = None
        self._outage_lock = threading.Lock()  # of many threads, the first tells of it

    def answered(
        self,
        attempt: Callable[[], Flow[T]],
        deadline: Deadline,
        model: str | None = None,
        explain: Explain | None = None,
    ) -> Flow[T]:
        """What `attempt` gives, made anew each time. Asking twice is safe: no request changes anything there.

        explain: makes the error for a model that is not there, or not ready. Raises VisionError.
        """
        retries = Retries(self._policy, deadline, self._budget)
        try:
            while True:
                try:
                    result = yield from attempt()
                except (*RETRIED, *FIRST_CONTACT) as failed:
                    error = yield from self.understood(failed, deadline)
                    what = model if isinstance(error, ModelNotReady) else None
                    may_retry = isinstance(error, RETRIED)
                    wait_s = retries.wait_s(error, what in self._answered) if may_retry else None
                    if wait_s is not None:
                        if retries.waited_s:
                            self._probes.away(what)
                            self._outage(error, model)
                        wait_s = yield from self._waited(wait_s, retries, what)
                    if wait_s is None:
                        raise (
                            yield from self._final(error, retries, deadline, explain)
                        ) from failed.__cause__
                else:
                    self._has_answered(model)
                    return result
        finally:
            self._probes.let_go(retries)

    def _waited(self, wait_s: float | None, retries: Retries, what: str | None) -> Flow[float | None]:
        """Until it may be asked again. Gives None where that will not be."""
        while wait_s is not None:
            yield Pause(wait_s)
            if not retries.waited_s or self._probes.may_ask(what, retries):
                break
            wait_s = retries.outage_wait_s()
        return wait_s

    def understood(self, error: VisionError, deadline: Deadline) -> Flow[VisionError]:
        """A server that stops says "unknown model", too, of every model that it has unloaded by then."""
        if not isinstance(error, ModelNotFound):
            return error
        try:
            live = yield Call("is_server_live", {}, deadline.remaining_s())
        except ServerUnavailable as unavailable:
            return unavailable
        except VisionError:
            return error
        if live:
            self._answered.add(None)
            return error
        return stopping(self._url, "it says that it is not live")

    def _final(
        self, error: VisionError, retries: Retries, deadline: Deadline, explain: Explain | None
    ) -> Flow[VisionError]:
        """The error that the caller gets, after all attempts."""
        if isinstance(error, ServerUnavailable) and retries.waited_s:
            return gone(self._url, error.detail, retries.waited_s)
        if isinstance(error, FIRST_CONTACT):
            error = yield from self.diagnosed(error, deadline)
        if isinstance(error, ModelNotFound) and explain:
            return (yield from explain(error))
        return error

    def diagnosed(self, error: VisionError, deadline: Deadline) -> Flow[VisionError]:
        """At the first contact: is that the right port at all?"""
        known = None in self._answered or not isinstance(error, FIRST_CONTACT)
        if known or not self._identify or not deadline.allows(0):
            return error
        found = yield LocalWork(self._identify, (deadline.remaining_s(),))
        return ServerUnavailable(found) if found else error

    def _has_answered(self, model: str | None) -> None:
        self._answered.update((None, model))
        self._budget.succeeded()
        self._probes.back(None, model)
        with self._outage_lock:
            began, self._outage_began = self._outage_began, None
        if began is not None:
            log.warning("%s answers again, after %.1f s", self._url, time.monotonic() - began)

    def _outage(self, error: VisionError, model: str | None) -> None:
        """Told once, however many questions meet it; not at all where nobody waits."""
        patience_s = self._policy.patience_s
        if patience_s == 0:
            return
        with self._outage_lock:
            if self._outage_began is not None:
                return
            self._outage_began = time.monotonic()
        limit = "as long as the time-out allows" if patience_s is None else f"up to {patience_s:g} s"
        if isinstance(error, ModelNotReady):
            what, why = f"model '{model}' at {self._url} is not ready any more", error.message
        else:
            what, why = f"{self._url} is stopping or restarting", getattr(error, "detail", "")
        log.warning("%s (%s); waiting for it, %s", what, why.rstrip("."), limit)
