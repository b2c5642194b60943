"""The Python processes of a running tritonserver: which model each serves, and which of them died.

tritonserver waits for a process when it unloads the model. One that ended before stays a zombie until then,
so a zombie is what tells a death from an orderly end.
"""

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, cast

from .stub_shell import started_stub

__all__ = ["ModelProcess", "ModelProcesses", "exit_signal", "process_state"]

STUB = "triton_python_backend_stub"
LONGEST_COMMAND_NAME = 15  # TASK_COMM_LEN of Linux, less the NUL
LOOK_FOR_NEW_S = 1.0
STOPPED_S = 2.0  # SIGSTOP: nobody waits for that long on purpose
# Shorter for a model's process: Triton 2.51 takes it for dead after about 1.2 s, and both spoil what they
# share if it goes on then. So it is ended before, at the second look that finds it stopped.
MODEL_STOPPED_S = 0.4


P = ParamSpec("P")
T = TypeVar("T")


def _locked(
    method: "Callable[Concatenate[ModelProcesses, P], T]",
) -> "Callable[Concatenate[ModelProcesses, P], T]":
    """One thread at a time: a model is watched while another is loaded."""

    @functools.wraps(method)
    def locked(self: "ModelProcesses", *arguments: P.args, **named: P.kwargs) -> T:
        with self._lock:
            return method(self, *arguments, **named)

    return cast("Callable[Concatenate[ModelProcesses, P], T]", locked)


@dataclass(frozen=True)
class ModelProcess:
    """One instance of one model."""

    pid: int
    model: str
    instance: str


class ModelProcesses:
    """Those below the tritonserver that is the first child of the guard `guard`.

    started: the folder of `stub_shell`, which knows what it started, even of one that died before anybody
        looked. Without it only processes that were seen alive are known.
    """

    def __init__(self, guard: int, started: Path | None = None):
        self._lock = threading.RLock()
        self._guard = guard
        self._started = started
        self._tritonserver: int | None = None
        self._known: dict[int, ModelProcess] = {}
        self._retired: dict[int, int] = {}  # process: which retirement, as a model may be retired again
        self._retirements = 0
        self._looked = 0.0
        self._stopped_since: dict[int, float] = {}

    @_locked
    def dead(self) -> list[ModelProcess]:
        """Those that have ended, and that tritonserver has not waited for, of models that are not retired."""
        self._look_for_new()
        found = []
        for pid, process in list(self._known.items()):
            state = process_state(pid)
            if state == "":
                self._known.pop(pid, None)  # tritonserver waited for it: an orderly end
            elif state == "Z":
                found.append(process)
        return found

    @_locked
    def living(self, model: str) -> list[ModelProcess]:
        """The processes that serve `model`."""
        self._look_for_new(at_once=True)
        return [p for p in self._known.values() if p.model == model and process_state(p.pid) not in ("", "Z")]

    @_locked
    def zombies(self) -> dict[int, str]:
        """Those that ended and were not waited for, by process id: the model, "" if never seen alive.

        Without those of retired models: one that is never freed keeps its zombies.
        """
        self._look_for_new(at_once=True)
        children = _children(self._tritonserver) if self._tritonserver else ()
        return {
            pid: self._known[pid].model if pid in self._known else ""
            for pid in children
            if pid not in self._retired
            and process_state(pid) == "Z"
            and _command_name(pid) == STUB[:LONGEST_COMMAND_NAME]
        }

    @_locked
    def end_stopped(self) -> list[ModelProcess]:
        """Kill those that have been stopped for `MODEL_STOPPED_S`, to be replaced; returns them."""
        overdue = self._long_stopped(self._known, MODEL_STOPPED_S)
        return [self._known[pid] for pid in overdue if _kill(pid)]

    @_locked
    def wake_stopped(self) -> list[str]:
        """Let tritonserver and the guard go on where they have been stopped for `STOPPED_S`; their names."""
        names = {self._guard: "the guard", self._tritonserver: "tritonserver"}
        return [names[pid] for pid in self._long_stopped(names, STOPPED_S) if _kill(pid, signal.SIGCONT)]

    @_locked
    def is_server_stopped(self) -> bool:
        """Whether tritonserver stands still, and answers nothing."""
        return self._tritonserver is not None and process_state(self._tritonserver) == "T"

    def _long_stopped(self, pids: Iterable[int | None], longest_s: float) -> list[int]:
        now, overdue = time.monotonic(), []
        for pid in pids:
            if pid is None:
                continue
            if process_state(pid) != "T":
                self._stopped_since.pop(pid, None)
            elif now - self._stopped_since.setdefault(pid, now) > longest_s:
                overdue.append(pid)
        return overdue

    @_locked
    def retire(self, model: str) -> list[ModelProcess]:
        """From now on the processes of `model` are of an instance that was unloaded; returns them."""
        self._look_for_new(at_once=True)
        retired = [process for process in self._known.values() if process.model == model]
        self._retirements += 1
        for process in retired:
            del self._known[process.pid]
            self._stopped_since.pop(process.pid, None)
            self._retired[process.pid] = self._retirements
        return retired

    @_locked
    def end_retired(self, processes: list[ModelProcess]) -> None:
        """Kill what is left of `processes`. The dead one's model is never freed, and holds its neighbours."""
        for process in processes:
            if process_state(process.pid) not in ("", "Z") and self._identify(process.pid) == process:
                _kill(process.pid)

    @_locked
    def stuck_models(self) -> int:
        """How many retired models tritonserver has not freed, as their zombies show."""
        return len({number for pid, number in self._retired.items() if process_state(pid) == "Z"})

    def _look_for_new(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._looked < LOOK_FOR_NEW_S:
            return
        self._looked = now
        if self._tritonserver is None:
            self._tritonserver = next(_children(self._guard), None)
        if self._tritonserver is None:
            return
        self._retired = {pid: number for pid, number in self._retired.items() if process_state(pid)}
        for pid in _children(self._tritonserver):
            if pid not in self._known and pid not in self._retired and (process := self._identify(pid)):
                self._known[pid] = process

    def _identify(self, pid: int) -> ModelProcess | None:
        if _command_name(pid) != STUB[:LONGEST_COMMAND_NAME]:
            return None
        if self._started and (found := started_stub(self._started, pid)):
            model, instance = found
            return ModelProcess(pid, model.parts[-3], instance)
        return _stub(pid)


def exit_signal(pid: int) -> int | None:
    """The signal that ended a zombie; None if none did, or if it cannot be seen."""
    with contextlib.suppress(OSError, ValueError):
        status = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[-1])
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return None


def process_state(pid: int) -> str:
    """As ps shows it: S sleeping, Z zombie, T stopped; "" where there is no such process."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):  # a thread that ends meanwhile
            yield from map(int, (task / "children").read_text().split())


def _stub(pid: int) -> ModelProcess | None:
    """From the command line: stub, model's file, shared memory (3), parent, library, handle, instance."""
    with contextlib.suppress(OSError, IndexError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        if os.path.basename(words[0]) == STUB and len(words) > 8:
            return ModelProcess(pid, Path(words[1]).parts[-3], words[8])
    return None


def _command_name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _kill(pid: int, number: int = signal.SIGKILL) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
