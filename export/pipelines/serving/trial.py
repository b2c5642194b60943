"""Before a version is published, a real tritonserver loads it and answers through it, batched with others.

The server runs on a throw-away repository that holds exactly what will be published, on the CPU, since that
is what in-process answers are compared with. One server does for all models of an export.
"""

import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from export.common.devices import capability_here
from export.common.errors import ServingError
from export.pipelines.serving.comparison import Case, ServedCheck, ask_items, ask_sequences
from export.pipelines.serving.connections import GrpcConnection, words_of_the_server
from export.pipelines.serving.in_process import session_of
from export.pipelines.serving.remote import RemoteModel
from export.repository.configs.contract import parse_config, print_config, read_config_text
from export.repository.publish import CONFIG_FILE, GRAPH_FILE, newest_version, next_version, write_version
from server import InstallationError, ServerError, TritonServer

__all__ = ["TrialServer"]

CPU_CONFIG = "cpu"  # configs/cpu.pbtxt replaces config.pbtxt where no GPU is (docs/reference/serving.md)
CONFIGS = "configs"
LOG = "triton.log"
ARGUMENTS = (
    "--model-control-mode=explicit",
    f"--model-config-name={CPU_CONFIG}",
    "--exit-timeout-secs=5",
)
LOG_LINE = re.compile(r"[EW]\d{4} [\d:.]+ \d+ [\w.]+:\d+\] (?P<text>.*)")
FAILED_LINES = re.compile(r"fail|error|invalid|unexpected|must|unable", re.IGNORECASE)
SHOWN_LINES = 8
UNLOADING_S = 60.0
TRIAL_DELAY_US = 50_000
LONG_WAIT_US = 10 * TRIAL_DELAY_US  # a time-out of the queue that the delay does not come near
KEPT = "\n  (the policy of {} was kept, and the contract changed: edit it, or remove it to start anew)"
SKIP = "\n  (--no-serve-check publishes without asking)"


class TrialServer:
    """A tritonserver that candidates are tried on, started when the first one comes; a context manager.

    Where there is no tritonserver, `check` says so in what it returns, and nothing is refused.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._server: TritonServer | None = None
        self._connection: GrpcConnection | None = None
        self._missing = ""

    def __enter__(self) -> "TrialServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and remove its repository. Safe to call twice."""
        with contextlib.ExitStack() as stack:
            if self._folder:
                stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
            if self._server:
                stack.callback(self._server.stop)
            if self._connection:
                stack.callback(self._connection.close)
        self._folder = self._server = self._connection = None

    def check(
        self,
        folder: Path,
        texts: dict[str, str],
        graph: bytes | None,
        case: Case,
        data: Path | None = None,
    ) -> ServedCheck:
        """What the server did with the model of `folder` as it will be once it is published.

        texts, graph, data: as `publish` takes them. Raises `ServingError` when the server does not load it,
        or answers otherwise than `case` says.
        """
        if self._missing:
            return ServedCheck(missing=self._missing)
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="triton-vision-trial-"))
        candidate = self._folder / "repository" / folder.name
        results = []
        config = folder / CONFIG_FILE
        changed = config.is_file() and read_config_text(config) != texts.get(CONFIG_FILE)
        hint = KEPT.format(config) if changed else ""
        both = (folder / CONFIGS / f"{CPU_CONFIG}.pbtxt").is_file()
        try:
            for configs in (False, True) if both else (False,):
                notes = _put(candidate, folder, texts, configs)
                version = _put_version(candidate, folder, graph, data)
                connection = self._started(self._folder)
                if connection is None:
                    return ServedCheck(missing=self._missing)
                with self._loaded(connection, self._folder, folder.name, hint) as model:
                    results.append(self._asked(model, version / GRAPH_FILE, case, notes))
        finally:
            shutil.rmtree(candidate, ignore_errors=True)
        return results[0] if len(results) == 1 else results[0].and_also(results[1])

    def _started(self, folder: Path) -> GrpcConnection | None:
        if self._connection:
            return self._connection
        server = TritonServer(folder / "repository", arguments=ARGUMENTS, log=folder / LOG)
        try:
            self._server = server.start()
            self._connection = GrpcConnection(server.grpc_url)
        except InstallationError as error:
            self._missing = str(error)
            return None
        except ServerError as error:
            raise ServingError(f"no server could be started to try it: {error}{SKIP}") from error
        return self._connection

    @contextlib.contextmanager
    def _loaded(
        self, connection: GrpcConnection, folder: Path, name: str, hint: str
    ) -> Iterator[RemoteModel]:
        log = folder / LOG
        before = log.stat().st_size
        try:
            with words_of_the_server():
                connection.load(name)
            model = RemoteModel(connection, name)
        except ServingError as error:
            reason = _reason(str(error), log, before)
            version = connection.version
            self._restart_if_it_died(connection)
            raise ServingError(f"tritonserver {version} does not load it: {reason}{hint}{SKIP}") from error
        try:
            yield model
        except ServingError as error:
            if _died(connection):
                raise ServingError(
                    f"tritonserver {model.server} ended while it answered: {_reason(str(error), log, before)}"
                ) from error
            raise
        finally:
            self._unload(connection, name)

    def _asked(self, model: RemoteModel, graph: Path, case: Case, notes: list[str]) -> ServedCheck:
        ask = ask_sequences if case.states else ask_items
        return ask(model, session_of(graph), case, tuple(notes))

    def _unload(self, connection: GrpcConnection, name: str) -> None:
        """Wait until it is gone, so that the next one of this name is loaded anew."""
        try:
            with words_of_the_server():
                connection.unload(name)
                deadline = time.monotonic() + UNLOADING_S
                while any(
                    entry["name"] == name and entry.get("state", "") in ("READY", "LOADING", "UNLOADING")
                    for entry in connection.models()
                ):
                    if time.monotonic() > deadline:
                        raise ServingError(f"{name} is not unloaded after {UNLOADING_S:g} s")
                    time.sleep(0.02)
        except ServingError:
            self.stop()  # the next candidate starts another

    def _restart_if_it_died(self, connection: GrpcConnection) -> None:
        if _died(connection):
            self.stop()


def _died(connection: GrpcConnection) -> bool:
    try:
        with words_of_the_server():
            connection.models()
    except ServingError:
        return True
    return False


def _put(candidate: Path, folder: Path, texts: dict[str, str], configs: bool) -> list[str]:
    """Fill `candidate` with what `folder` will hold but versions; what had to be changed, in words."""
    shutil.rmtree(candidate, ignore_errors=True)
    candidate.mkdir(parents=True)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name[0].isdigit() or path.name.startswith(".") or (path.name == CONFIGS and not configs):
            continue
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, candidate / path.name)
    for name, text in texts.items():
        (candidate / name).write_text(text)
    notes: list[str] = []
    for path in (candidate / CONFIG_FILE, candidate / CONFIGS / f"{CPU_CONFIG}.pbtxt"):
        if path.is_file():
            notes += [note for note in _for_the_trial(path) if note not in notes]
    return notes


def _put_version(candidate: Path, folder: Path, graph: bytes | None, data: Path | None) -> Path:
    """The folder of the new graph, or of the newest there is."""
    if graph is not None:
        version = candidate / str(next_version(folder))
        write_version(version, graph, data)
    else:
        version = candidate / str(newest_version(folder))
        shutil.copytree(folder / version.name, version)
    return version


def _for_the_trial(path: Path) -> list[str]:
    """Rewrite a config where it needs a GPU, uses one, leaves the new version out, or waits too little."""
    config, notes = parse_config(read_config_text(path), path), []
    waits = _let_requests_wait(config)
    if asked := any(group.kind == ModelInstanceGroup.KIND_GPU for group in config.instance_group):
        notes.append("its instances of KIND_GPU were tried on the CPU")
    if asked or capability_here():
        for group in config.instance_group or [config.instance_group.add()]:
            group.kind = ModelInstanceGroup.KIND_CPU
            del group.gpus[:]
    if config.version_policy.HasField("specific"):
        config.ClearField("version_policy")
        notes.append("its version_policy names versions, and was left out")
    if notes or waits or capability_here():
        path.write_text(print_config(config))
    return notes


def _let_requests_wait(config: ModelConfig) -> bool:
    """For each other, or a fast model answers each before the next is there; whether that changes it."""
    batchers: list[Any] = []
    dynamic = config.dynamic_batching
    policies = [dynamic.default_queue_policy, *dynamic.priority_queue_policy.values()]
    waits = [wait for policy in policies if (wait := policy.default_timeout_microseconds)]
    if config.HasField("dynamic_batching") and min(waits, default=LONG_WAIT_US) >= LONG_WAIT_US:
        batchers.append(dynamic)  # a shorter time-out would refuse what waits
    if config.sequence_batching.HasField("oldest"):
        batchers.append(config.sequence_batching.oldest)
    short = [batcher for batcher in batchers if batcher.max_queue_delay_microseconds < TRIAL_DELAY_US]
    for batcher in short:
        batcher.max_queue_delay_microseconds = TRIAL_DELAY_US
    return bool(short)


def _reason(told: str, log: Path, start: int) -> str:
    """What the server says, and what its log adds where that says little, as for a config it cannot read."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    found = [match["text"].strip(' "') for line in lines if (match := LOG_LINE.match(line))]
    found = [text for text in dict.fromkeys(found) if FAILED_LINES.search(text) and text not in told]
    reason = "\n  ".join(told.strip().splitlines())
    if found and "failed to poll" in told:
        return "\n  ".join([reason, *found[-SHOWN_LINES:]])
    return reason
