"""What a killed process costs: kill models' processes, and tritonserver, under a steady load, and watch.

    python -m perf kills --output perf/results/kills.json

Starts `python -m server` with all models, sends requests to some of them one after the other, and kills with
SIGKILL: `--kills` times a process of one of these models, then `--server-kills` times tritonserver (the
launcher starts it again five times in ten minutes at most). Afterwards nothing may be left: no process, no
shared memory. The exit code is 1 if a model was away for more than 15 s, another one failed, or something was
left.
"""

import argparse
import contextlib
import io
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import tritonclient.grpc as grpc
from PIL import Image
from tritonclient.utils import InferenceServerException

from perf.harness.commands import add_repository_option, add_result_options, say
from perf.harness.errors import PerfError
from perf.harness.machine import children, processes
from perf.harness.raw import RawResult, check_output, record, save
from server.running.model_processes import ModelProcess, ModelProcesses

LIMIT_S = 15.0
STEADY_S = 3.0  # between two kills, so that each finds a steady load
LOOK_S = 0.02
OURS = "triton-vision:"  # begins the launcher's own lines
PAUSE_S = 0.05  # between two requests of one sender
IMAGE_MODELS = (
    "image_decoder",
    "recognize_objects",
)  # those with processes of their own; they get a photograph
PIXEL_MODEL = "efficientnet_lite0"  # served inside tritonserver


def run(arguments: argparse.Namespace) -> int:
    """Kill, watch, stop the launcher, and count what is left; returns the exit code that the module explains.

    That is 1 as well if the launcher ends with another status than 0. Raises `PerfError` if not all models
    are ready, or if one never comes back.
    """
    check_output(arguments.output)
    random.seed(arguments.seed)
    began = time.monotonic()
    with launcher(arguments.model_repository) as (process, urls, log), SteadyLoad(urls["gRPC"]) as load:
        start_s = time.monotonic() - began
        watched = ModelProcesses(next(children(process.pid)))
        kills = [
            kill_model(load, watched, urls["HTTP"], random.choice(IMAGE_MODELS))
            for _ in range(arguments.kills)
        ]
        shown = urlopen(f"{urls['status']}/metrics").read().decode()
        servers = [kill_server(load, process.pid, urls) for _ in range(arguments.server_kills)]
        load.stop()
        below = list(processes(process.pid))[1:]
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status = process.wait()
        stop_s = time.monotonic() - asked
        left = [one for one in below if one.exists()]
        segments = [
            name for name in os.listdir("/dev/shm") if name.startswith(f"triton-vision-{process.pid}-")
        ]
        told = log.read_text().splitlines()
    report = record(
        "kills",
        start_s=round(start_s, 2),
        models=kills,
        servers=servers,
        counters=[line for line in shown.splitlines() if not line.startswith("#")],
        stop_s=round(stop_s, 2),
        exit_status=status,
        processes_left=len(left),
        segments_left=len(segments),
        told=[line for line in told if line.startswith(OURS)],
    )
    print_summary(report)
    if arguments.output:
        save(arguments.output, report)
        say(f"raw results: {arguments.output}")
    broken = [kill for kill in kills if kill["served_again_s"] > LIMIT_S or kill["failed_elsewhere"]]
    return 1 if broken or left or segments or status else 0


def kill_model(load: "SteadyLoad", watched: ModelProcesses, http_url: str, model: str) -> dict[str, Any]:
    """Kill one of its processes, and wait until it serves again."""
    victim = random.choice(living(watched, model))
    mark = load.mark()
    killed = time.monotonic()
    os.kill(victim.pid, signal.SIGKILL)
    watched.retire(model)  # its neighbours live on for a while, but serve nothing any more
    away = wait(lambda: not is_ready(f"http://{http_url}/v2/models/{model}/ready"))
    back = wait(lambda: is_ready(f"http://{http_url}/v2/models/{model}/ready"))
    time.sleep(STEADY_S)
    failed = load.failed_since(mark)
    result = {
        "model": model,
        "not_ready_s": round(away - killed, 2),
        "served_again_s": round(back - killed, 2),
        "failed_in_flight": failed[model, "failed"],
        "refused_meanwhile": failed[model, "refused"],
        "failed_elsewhere": sum(count for (name, _), count in failed.items() if name != model),
    }
    print("  ".join(f"{name} {value}" for name, value in result.items()), flush=True)
    return result


def kill_server(load: "SteadyLoad", launcher_pid: int, urls: dict[str, str]) -> dict[str, Any]:
    """Kill tritonserver, and wait until everything is served again."""
    (guard,) = children(launcher_pid)
    mark, killed = load.mark(), time.monotonic()
    os.kill(next(children(guard)), signal.SIGKILL)
    away = wait(lambda: not is_ready(f"{urls['status']}/ready"))
    back = wait(lambda: is_ready(f"{urls['status']}/ready"))
    failed = load.failed_since(mark)
    result = {
        "not_ready_s": round(away - killed, 2),
        "served_again_s": round(back - killed, 2),
        "failed": sum(failed.values()),
    }
    print("tritonserver  " + "  ".join(f"{name} {value}" for name, value in result.items()), flush=True)
    return result


class SteadyLoad:
    """One sender a model: a request, a pause, a request, until `stop`. Remembers what failed, and when."""

    def __init__(self, grpc_url: str):
        self._url = grpc_url
        self._stopped = threading.Event()
        self._failures: list[tuple[str, str]] = []
        self.answered: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._send, args=(model, make()), daemon=True)
            for model, make in {**dict.fromkeys(IMAGE_MODELS, photograph), PIXEL_MODEL: pixels}.items()
        ]

    def __enter__(self) -> "SteadyLoad":
        for thread in self._threads:
            thread.start()
        wait(lambda: len(self.answered) == len(self._threads))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Wait for the request that each sender has under way, and end."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def mark(self) -> int:
        """Now, for `failed_since`: how many requests have failed up to here."""
        return len(self._failures)

    def failed_since(self, mark: int) -> Counter[tuple[str, str]]:
        """Requests that failed since `mark`, by model and kind: "failed", or "refused" as not available."""
        return Counter(self._failures[mark:])

    def _send(self, model: str, inputs: list[grpc.InferInput]) -> None:
        while not self._stopped.is_set():
            with contextlib.closing(grpc.InferenceServerClient(self._url)) as client:
                try:
                    while not self._stopped.wait(PAUSE_S):
                        client.infer(model, inputs)
                        self.answered[model] += 1
                except InferenceServerException as error:
                    refused = "no available versions" in str(error)
                    self._failures.append((model, "refused" if refused else "failed"))


def photograph() -> list[grpc.InferInput]:
    """The inputs of a request: `encoded_image` BYTES [1, 1], a JPEG of noise of 640 x 480 pixels."""
    image, file = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8), io.BytesIO()
    Image.fromarray(image).save(file, "JPEG")
    tensor = grpc.InferInput("encoded_image", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[file.getvalue()]], object))
    return [tensor]


def pixels() -> list[grpc.InferInput]:
    """The inputs of a request: `image` UINT8 [1, 224, 224, 3], zeros."""
    tensor = grpc.InferInput("image", [1, 224, 224, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 224, 224, 3), np.uint8))
    return [tensor]


@contextlib.contextmanager
def launcher(repository: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str], Path]]:
    """`python -m server` on free ports, all models ready: its process, its addresses by name, its log."""
    command = [sys.executable, "-m", "server", "--model-repository", str(repository)]
    command += [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    with tempfile.TemporaryDirectory() as scratch, open(Path(scratch) / "log", "w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        urls = {}
        try:
            assert process.stdout is not None  # a pipe
            for line in process.stdout:
                name, _, rest = line.strip().partition(" ")
                if name in ("HTTP", "gRPC", "status"):
                    urls[name] = rest.split()[0].removesuffix("/ready")
                if "Ctrl-C" in line or "Not all models" in line:
                    break
            if "Ctrl-C" not in line:
                raise PerfError(
                    "not every model is ready; `python -m server` says which, `make export` makes them"
                )
            urls["HTTP"] = urls["HTTP"].removeprefix("http://")
            yield process, urls, Path(log.name)
        except PerfError as error:
            told = [line for line in Path(log.name).read_text().splitlines() if line.startswith(OURS)]
            raise PerfError("\n".join([f"{error}; the launcher said:", *told])) from error
        finally:
            process.terminate()
            process.wait()
            if process.stdout:
                process.stdout.close()


def living(watched: ModelProcesses, model: str) -> list[ModelProcess]:
    """The processes of a model, once it has some."""
    found: list[ModelProcess] = []

    def look() -> bool:
        found[:] = watched.living(model)
        return bool(found)

    wait(look)
    return found


def is_ready(url: str) -> bool:
    """Whether `url` answers 200; not if it answers otherwise, or nothing within 10 s."""
    try:
        with urlopen(url, timeout=10) as response:
            return bool(response.status == 200)
    except (HTTPError, OSError):
        return False


def wait(condition: Callable[[], bool], timeout_s: float = 120) -> float:
    """When it came true: seconds of the monotonic clock. Raises `PerfError` if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise PerfError(f"nothing changed for {timeout_s:g} s")
        time.sleep(LOOK_S)
    return time.monotonic()


def print_summary(report: RawResult) -> None:
    """For people: medians and maxima in seconds, requests that failed, and what was left."""
    for kind, title in (("models", "a model's process"), ("servers", "tritonserver")):
        rows = report[kind]
        if rows:
            no, again = ([row[name] for row in rows] for name in ("not_ready_s", "served_again_s"))
            print(
                f"{title}, {len(rows)} kills: not ready after {statistics.median(no):.2f} s "
                f"(at most {max(no):.2f}), serves again after {statistics.median(again):.2f} s "
                f"(at most {max(again):.2f})"
            )
    kills = report["models"]
    print(
        f"first start {report['start_s']} s; "
        f"failed in flight {sum(kill['failed_in_flight'] for kill in kills)}, "
        f"refused meanwhile {sum(kill['refused_meanwhile'] for kill in kills)}, "
        f"of other models {sum(kill['failed_elsewhere'] for kill in kills)}; "
        f"stopped in {report['stop_s']} s with status {report['exit_status']}; left: "
        f"{report['processes_left']} processes, {report['segments_left']} segments"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    add_repository_option(parser)
    parser.add_argument("--kills", type=int, default=20, help="of a model's process (default: %(default)s)")
    parser.add_argument("--server-kills", type=int, default=5, help="of tritonserver (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of which process is killed")
    add_result_options(parser, kept=False, json=False)
