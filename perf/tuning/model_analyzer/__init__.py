"""NVIDIA's Model Analyzer on the same model: its own search and reports, beside ours.

It has an environment of its own, as its dependencies contradict ours, and measures on a server of ours
(launch mode "remote") that also serves the folder where it writes its variants of the model. It changes
nothing in the model repository. docs/why/tuning.md tells what it searches, and what it does not.
"""

import csv
import json
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from perf.harness.errors import PerfError
from perf.harness.generators.analyzer import Analyzer
from perf.harness.inputs import write_inputs
from perf.harness.venvs import environment
from perf.tuning.decision import Objective
from server import TritonServer
from server.running.ending import end

__all__ = ["analyze", "settings"]

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
RESULTS = "metrics-model-inference.csv"
MOST_INSTANCES = 4
MEASURING_S = 120  # seconds that one perf_analyzer run may take
TOLD_LINES = 8


def analyze(
    repository: Path,
    model: str,
    analyzer: Analyzer,
    objective: Objective,
    *,
    max_concurrency: int,
    limit_s: float,
    folder: Path,
) -> dict[str, Any]:
    """Run Model Analyzer's quick search; its reports go to `folder`.

    The answer, for a raw result: version, seconds, finished (False if it was stopped after `limit_s`), the
    configs that it measured with their figures, as in its CSV file, and the config.pbtxt of each.
    Raises `PerfError` if it could not be installed or measured nothing.
    """
    made = environment(REQUIREMENTS)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        variants = Path(scratch) / "variants"
        variants.mkdir()
        inputs = write_inputs(model, Path(scratch) / "inputs.json", repository)
        with TritonServer(
            repository,
            log=folder / "triton.log",
            arguments=["--model-control-mode=explicit", f"--model-repository={variants}"],
        ) as server:
            written = settings(
                repository.resolve(),
                model,
                variants,
                analyzer,
                objective,
                inputs.path,
                max_concurrency,
                folder,
            )
            written |= {
                "triton_http_endpoint": server.http_url,
                "triton_grpc_endpoint": server.grpc_url,
                "triton_metrics_url": server.metrics_url,
            }
            (folder / "settings.yaml").write_text(json.dumps(written, indent=1))  # JSON is YAML, too
            command = [made.folder / "bin" / "model-analyzer", "profile", "-f", folder / "settings.yaml"]
            start = time.monotonic()
            finished = _run(list(map(str, command)), analyzer.environment, folder / "log.txt", limit_s)
            seconds = time.monotonic() - start
        configs = {path.parent.name: path.read_text() for path in sorted(variants.glob("*/config.pbtxt"))}
    table = folder / "results" / RESULTS
    if not table.is_file():
        told = "\n".join((folder / "log.txt").read_text().splitlines()[-TOLD_LINES:])
        raise PerfError(f"Model Analyzer gave no results after {seconds:.0f} s; its log ends with\n{told}")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        "version": made.versions()["triton-model-analyzer"],
        "seconds": seconds,
        "finished": finished,
        "measurements": rows,
        "configs": configs,
    }


def settings(
    repository: Path,
    model: str,
    variants: Path,
    analyzer: Analyzer,
    objective: Objective,
    inputs: Path,
    max_concurrency: int,
    folder: Path,
) -> dict[str, Any]:
    """Model Analyzer's own settings, but for the server's addresses (docs/config.md of its repository)."""
    limit = {"perf_latency_p99": {"max": round(objective.slo_p99_ms)}} if objective.slo_p99_ms else {}
    return {
        "model_repository": str(repository),
        "output_model_repository_path": str(variants),
        "override_output_model_repository": True,
        "triton_launch_mode": "remote",
        "client_protocol": "grpc",
        "perf_analyzer_path": str(analyzer.binary),
        "perf_analyzer_timeout": MEASURING_S,
        "checkpoint_directory": str(folder / "checkpoints"),
        "export_path": str(folder),
        "run_config_search_mode": "quick",
        "run_config_search_max_instance_count": MOST_INSTANCES,
        "run_config_search_max_concurrency": max_concurrency,
        "gpus": [],
        "profile_models": {
            model: {
                "cpu_only": True,
                "constraints": limit,
                "perf_analyzer_flags": {"input-data": str(inputs)},
            }
        },
    }


def _run(command: list[str], environment: dict[str, str], log: Path, limit_s: float) -> bool:
    """True if it ended by itself. After `limit_s` it is asked to stop, and saves what it has."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(limit_s)
            return True
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # it ends after the measurement under way
            process.wait(MEASURING_S + 30)
            return False
        finally:
            end(process, signal.SIGKILL, MEASURING_S)
