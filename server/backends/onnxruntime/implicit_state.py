"""Implicit state: what one request of a sequence leaves behind for the next.

Triton's core keeps it for backends that call TRITONBACKEND_StateUpdate; a Python-based backend cannot. The
rest core does for us (core, src/sequence_batch_scheduler, release 24.10): it refuses sequences that were not
started, ends idle ones, keeps a sequence on one instance with one request under way, and feeds each state's
input, always with the initial state. So all that is kept here is the arrays of each live sequence.
"""

import contextlib
import ctypes
import threading
import time

import numpy as np
import ort_config
import ort_settings

START, END = 1, 2  # TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, ..._END
GRACE_S = 5.0  # a request that core took at the last moment may wait this long in a queue
SHORTEST_SWEEP_S = 0.1


class StateError(ValueError):
    """A request whose sequence has no state here, or may not be started now."""


def of_config(config: dict) -> "ImplicitState | None":
    """What keeps the states of a model, if it has any. Raises `ort_settings.SettingsError`."""
    if not ort_config.states(config):
        return None
    restart = ort_settings.parameter(config, "sequence_restart", "reset")
    if restart not in ("reset", "refuse"):
        raise ort_settings.SettingsError(f"parameter sequence_restart is '{restart}'; choose reset or refuse")
    return ImplicitState(config["sequence_batching"], refuse_restart=restart == "refuse")


def warnings(config: dict) -> list[str]:
    """What goes well here and badly on NVIDIA's backend."""
    states = sorted(ort_config.states(config), key=lambda state: state["input_name"])
    found = [
        f"state '{state['input_name']}' has no initial_state: zeros here, but what was in memory with "
        "NVIDIA's backend; add initial_state { ... zero_data: true }"
        for state in states
        if not state.get("initial_state")
    ]
    outputs = [state["output_name"] for state in states]
    if outputs != sorted(outputs):
        found.append(
            "the names of the state inputs and those of the state outputs sort in different orders: right "
            "here, but Triton's core swaps such states for NVIDIA's backend (server issue 8586); rename them"
        )
    return found


class ImplicitState:
    """The states of the live sequences of one instance, by correlation ID (an int and a str never meet).

    sequence_batching: that section of the model's configuration, with `state`.
    refuse_restart: a START for a live sequence is an error. Without it such a START begins anew, as it does
        on the C++ backend, and whoever else uses that correlation ID goes on with a state that is not theirs.
    """

    def __init__(self, sequence_batching: dict, refuse_restart: bool = False):
        states = sequence_batching["state"]
        self.input_of_output = {state["output_name"]: state["input_name"] for state in states}
        self._given = {state["input_name"]: bool(state.get("initial_state")) for state in states}
        self._idle_s = int(sequence_batching["max_sequence_idle_microseconds"]) / 1e6
        self._refuse_restart = refuse_restart
        self._initial: dict[str, np.ndarray] = {}
        self._live: dict[int | str, tuple[float, dict[str, np.ndarray]]] = {}  # last used, arrays by input
        self._lock = threading.Lock()
        threading.Thread(target=self._expire, name="implicit state", daemon=True).start()

    def restore(self, sequence: int | str, flags: int, feed: dict[str, np.ndarray]) -> None:
        """Put the state of `sequence` into `feed`, which has the initial state where Triton fed it.

        A START leaves the initial state behind, an END nothing, whatever becomes of the request. Raises
        `StateError`.
        """
        if flags & START and not self._initial:
            self._initial = {name: self._first(name, feed) for name in self._given}
        now = time.monotonic()
        with self._lock:
            used, state = self._live.pop(sequence, (0.0, None))
            if flags & START:
                if state and self._refuse_restart and now - used < self._idle_s:
                    if not flags & END:
                        self._live[sequence] = used, state
                    raise StateError(
                        f"sequence {sequence!r} is live already, and this model refuses to start it again "
                        "(sequence_restart); end it first, or take another correlation ID"
                    )
                state = self._initial
            if state and not flags & END:
                self._live[sequence] = now, state
        if not state:
            raise StateError(
                f"sequence {sequence!r} has no state here: it was idle for more than {self._idle_s:g} s, or "
                "ended by another request with its correlation ID; start it again"
            )
        feed.update(state)

    def keep(self, sequence: int | str, flags: int, state: dict[str, np.ndarray]) -> None:
        """Remember arrays, by input name, for the next request; copies, so that no batch stays in memory."""
        if not flags & END:
            copies = {name: array.copy() for name, array in state.items()}
            with self._lock:
                self._live[sequence] = time.monotonic(), copies

    def _first(self, name: str, feed: dict[str, np.ndarray]) -> np.ndarray:
        if name not in feed:
            raise StateError(
                f"Triton fed no initial state '{name}', its log says why; use_growable_memory needs KIND_GPU"
            )
        # Without initial_state core feeds whatever was in that memory.
        first = feed[name].copy()
        return first if self._given[name] or first.dtype == np.object_ else np.zeros_like(first)

    def _expire(self) -> None:
        lifetime_s = self._idle_s + GRACE_S
        while True:
            time.sleep(max(self._idle_s / 2, SHORTEST_SWEEP_S))
            limit = time.monotonic() - lifetime_s
            with self._lock:
                expired = [sequence for sequence, (used, _) in self._live.items() if used < limit]
                for sequence in expired:
                    del self._live[sequence]
            if expired:
                with contextlib.suppress(
                    AttributeError
                ):  # glibc alone has it; others give memory back or not
                    ctypes.CDLL(None).malloc_trim(0)
