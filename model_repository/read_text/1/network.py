"""A network of the model repository inside another model's process: its sessions, and who else is at work.

`recognize_objects`, `explain_objects` and `read_text` run theirs with it where there is no GPU.

Under load, an instance for each core with one thread each answers most; a request alone would then wait for
one core while the others idle. So each instance has two sessions, one of its own cores and one over all, and
takes the second while no other instance computes (docs/decisions/0012).

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

__all__ = ["NICE", "STUB", "AtWork", "Network", "all_cores"]

STUB = "/proc/self/exe"  # the program that every Python model of this server runs in; a local file
NICE = 5  # Triton's own for threads that compute: those that take requests in are not kept waiting
LOOK_EVERY_S = 1.0  # for a newer version


class AtWork:
    """Says whether another instance computes.

    Each holds a shared lock on one file while it computes, and is alone if it could have had it exclusively.
    The kernel keeps the locks (flock), so an instance that is killed leaves nothing behind. A microsecond.

    path: a file that all of them can read, on a local file system: NFS locks differently, and none is alone.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.was_alone = True

    def begin(self) -> bool:
        """This instance computes from now on; True if it is the only one. May be asked again meanwhile.

        It then was the only one when it asked before, too: another that is between two batches looks idle for
        a moment, and would have to share its core with our threads for all of an image.
        """
        before, self.was_alone = self.was_alone, self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._lock(fcntl.LOCK_SH)  # a refused exclusive lock has cost the shared one
        return before and self.was_alone

    def end(self) -> None:
        """This instance computes no longer. Does no harm where nothing was begun."""
        self._lock(fcntl.LOCK_UN)
        self.was_alone = True

    def _lock(self, operation: int) -> bool:
        try:
            fcntl.flock(self.file, operation)
        except OSError:  # another has it, or this file system keeps no such locks
            return False
        return True


class Network:
    """The newest version of a model: a batch of all its inputs in, one of each of `outputs` out.

    folder: of the model, with its version folders
    example: a batch by input, computed once after loading; the first request is then as fast as the next
    threads, lone_threads: of one operator under load, and while no other instance computes, the latter at
        most one per core; 0 is one per core

    Raises `FileNotFoundError` if no version is there, and `ValueError` if the graph has other tensors.
    """

    def __init__(
        self,
        folder: Path,
        example: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        threads: int,
        lone_threads: int,
    ):
        self.folder, self.threads, self.lone_threads = folder, threads, lone_threads
        self.example, self.outputs = example, list(outputs)
        self.looked = time.monotonic()
        self.loading: threading.Thread | None = None
        self.failed = 0  # a version that could not be loaded
        self._load(self.newest())

    def newest(self) -> int:
        """The highest version with a model.onnx. Raises `FileNotFoundError` if there is none."""
        names = [path.parent.name for path in self.folder.glob("[1-9]*/model.onnx")]
        versions = [int(name) for name in names if name.isdecimal()]  # as Triton: not "1.old", nor "01"
        if not versions:
            raise FileNotFoundError(f"{self.folder} has no version with a model.onnx; run `make export`")
        return max(versions)

    def run(self, batch: Mapping[str, NDArray[Any]], alone: bool) -> list[NDArray[Any]]:
        """A batch by input in, one of each output out, as the graph has them.

        Raises what ONNX Runtime raises. alone: what `AtWork.begin` said; True computes over all cores.
        """
        return self.sessions[alone].run(self.outputs, batch)

    def follow(self) -> None:
        """Move to a newer version if one was published; it loads beside the answers, which go on."""
        if time.monotonic() - self.looked < LOOK_EVERY_S or (self.loading and self.loading.is_alive()):
            return
        self.looked = time.monotonic()
        try:
            newest = self.newest()
            if newest not in (self.version, self.failed):
                self.loading = threading.Thread(target=self._move, args=(newest,), daemon=True)
                self.loading.start()
        except (OSError, RuntimeError):  # taken away, not to be read, or no more threads: what runs goes on
            return

    def _move(self, version: int) -> None:
        try:
            self._load(version)
        except Exception as error:  # the version that runs goes on
            self.failed = version
            reason = f"{self.folder.name} version {version} cannot be loaded: {error}"
            print(f"{reason}; version {self.version} goes on, export the model again", flush=True)

    def _load(self, version: int) -> None:
        path = self.folder / str(version) / "model.onnx"
        narrow, wide = ort.SessionOptions(), ort.SessionOptions()
        narrow.intra_op_num_threads = self.threads
        spread(wide, self.lone_threads)
        sessions = [self._session(path, narrow)]
        sessions.append(self._session(path, wide) if self.lone_threads != self.threads else sessions[0])
        self.sessions, self.version = sessions, version

    def _session(self, path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs, outputs = (
            {node.name for node in nodes} for nodes in (session.get_inputs(), session.get_outputs())
        )
        if inputs != set(self.example) or not outputs.issuperset(self.outputs):
            raise ValueError(
                f"{path} has inputs {listed(inputs)} and outputs {listed(outputs)}, not "
                f"{listed(self.example)} and {listed(self.outputs)}"
            )
        session.run(self.outputs, self.example)
        return session


def listed(names: Iterable[str]) -> str:
    """Sorted and quoted, for messages."""
    return ", ".join(f"'{name}'" for name in sorted(names))


def all_cores() -> list[int]:
    """Those that tritonserver may run on: a host policy keeps an instance's own process on some of them."""
    try:
        return sorted(os.sched_getaffinity(os.getppid()))
    except OSError:  # it has ended
        return sorted(os.sched_getaffinity(0))


def spread(options: ort.SessionOptions, threads: int) -> None:
    """Give a session up to `threads` threads on all cores, never more than there are; 0: as many.

    The calling thread stays where its process is; each further one gets a core, first those of the others.
    """
    cores, own = all_cores(), os.sched_getaffinity(0)
    options.intra_op_num_threads = threads = min(threads or len(cores), len(cores))
    if threads > 1:
        others = [core for core in cores if core not in own] + sorted(own)
        # ONNX Runtime counts processors from 1
        placed = ";".join(str(core + 1) for core in others[: threads - 1])
        options.add_session_config_entry("session.intra_op_thread_affinities", placed)
    # They wait busily for the next operator of a run, but not for the next run.
    options.add_session_config_entry("session.force_spinning_stop", "1")
