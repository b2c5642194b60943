"""The first minutes on a GPU machine: run every check, print one summary to send back.

    .venv/bin/python deploy/gpu_check.py               pip Triton with onnxruntime-gpu
    .venv/bin/python deploy/gpu_check.py --container   docker compose, too

docs/how-to/gpu-checklist.md says what each step should print. Logs and the summary go to
perf/out/gpu-check/. The summary holds GPUs, versions, results and the last lines of logs, with the home
folder written as ~.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "perf" / "out" / "gpu-check"
TAIL_LINES = 25
COMPOSE = ["docker", "compose", "--profile", "gpu"]
DOCTOR_INSIDE = ["python3", "-m", "server", "doctor", "--require-gpu", "--model-repository", "/models"]
ENVIRONMENT = {**os.environ, "PERF_USER": f"{os.getuid()}:{os.getgid()}"}  # the sweep's files become ours
URL, METRICS = "http://127.0.0.1:8000", "http://127.0.0.1:8002/metrics"


@dataclass(frozen=True)
class Step:
    """One command; `judge` looks at its log and returns what is wrong, or "": then the exit status counts.

    alone: run it whatever became of earlier steps; after: run it if that step was run.
    """

    name: str
    command: list[str]
    judge: Callable[[str], str] = lambda _: ""
    timeout_s: float = 600
    alone: bool = False
    after: str = ""


@dataclass(frozen=True)
class Result:
    name: str
    passed: bool
    seconds: float
    note: str
    log: str


def steps(container: bool) -> list[Step]:
    python = sys.executable
    listed = [
        Step("doctor", [python, "-m", "server", "doctor", "--require-gpu"], alone=True),
        Step("export", [python, "-m", "export", "--all"], timeout_s=1800, alone=True),
        Step("agreement", [python, "-m", "export", "--check"], alone=True),
        Step(
            "GPU tests",
            [python, "-m", "pytest", "-m", "gpu", "-q", f"--junitxml={OUT / 'tests.xml'}"],
            judge=judge_tests,
            timeout_s=3600,
            alone=True,
        ),
    ]
    if container:
        listed += [
            Step("compose config", [*COMPOSE, "config", "--quiet"]),
            Step("image", [*COMPOSE, "build"], timeout_s=3600),
            Step("start", [*COMPOSE, "up", "--detach", "--wait"], timeout_s=1200),
            Step("doctor inside", [*COMPOSE, "exec", "-T", "triton", *DOCTOR_INSIDE]),
            Step("health", [python, "-m", "client", "health"], judge=judge_endpoints),
            Step("sweep", [*COMPOSE, "run", "--rm", "-e", "CONCURRENCIES=1 8 32", "perf"], timeout_s=1800),
            Step("stop", [*COMPOSE, "stop", "triton"], judge=judge_stop),
            Step("logs", [*COMPOSE, "logs", "--no-color", "--tail", "200", "triton"], after="start"),
            Step("down", [*COMPOSE, "down"], after="start"),
        ]
    return listed


def judge_tests(_: str) -> str:
    """All GPU tests passed, and at least one ran: skipped tests prove nothing."""
    counts = test_counts(OUT / "tests.xml")
    if counts is None:
        return "pytest wrote no result"
    return "" if counts["passed"] else "no GPU test ran: all were skipped, or none was collected"


def test_counts(path: Path) -> dict[str, int] | None:
    if not path.is_file():
        return None
    suite = ElementTree.parse(path).getroot().find("testsuite")
    total, skipped = int(suite.get("tests")), int(suite.get("skipped"))
    failed = int(suite.get("failures")) + int(suite.get("errors"))
    return {"passed": total - skipped - failed, "failed": failed, "skipped": skipped}


def judge_endpoints(_: str) -> str:
    """The container's server is of the release that the lock names, is ready, and sees the GPU."""
    try:
        with urllib.request.urlopen(f"{URL}/v2", timeout=10) as response:
            version = json.load(response)["version"]
        with urllib.request.urlopen(METRICS, timeout=10) as response:
            metrics = response.read().decode()
    except (urllib.error.URLError, OSError) as error:
        return f"no answer: {error}"
    lock = json.loads((ROOT / "release.json").read_text())
    expected = lock["releases"][lock["container_release"]["value"]]["triton"]["value"]
    if version != expected:
        return f"the server is {version}, release.json has {expected}"
    return "" if "nv_gpu_memory_total_bytes{" in metrics else "the metrics name no GPU: Triton sees none"


def judge_stop(_: str) -> str:
    command = [*COMPOSE, "ps", "--all", "--format", "{{.ExitCode}}", "triton"]
    status = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return (
        "" if status == "0" else f"exit status {status or 'unknown'} instead of 0: it did not stop in order"
    )


def run(step: Step, number: int) -> Result:
    log = OUT / f"{number:02}-{step.name.replace(' ', '-')}.log"
    start = time.monotonic()
    with log.open("wb") as file:
        try:
            done = subprocess.run(
                step.command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                timeout=step.timeout_s,
                check=False,
            )
            fault = f"exit status {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            fault = f"not done within {step.timeout_s:g} s"
        except OSError as error:
            fault = str(error)
    text = log.read_text(errors="replace")
    fault = step.judge(text) or fault
    return Result(step.name, not fault, time.monotonic() - start, fault, text)


def machine() -> list[str]:
    """GPUs, driver and versions, from the doctor."""
    command = [sys.executable, "-m", "server", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return [f"the doctor cannot run: {done.stderr.strip()[-300:]}"]
    told = ("Python", "tritonserver", "ONNX Runtime", "driver", "container runtime")
    return [
        *(f"GPU {gpu['index']}: {gpu['name']}, {gpu['memory_mib']} MiB" for gpu in report["gpus"]),
        *([] if report["gpus"] else ["no GPU"]),
        *(f"{check['name']}: {check['found']}" for check in report["checks"] if check["name"] in told),
        f"{platform.system()} {platform.release()}, {platform.machine()}",
    ]


def revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def summary(results: list[Result], skipped: list[str]) -> str:
    lines = [f"GPU check of triton-vision {revision()}, {time.strftime('%Y-%m-%d', time.gmtime())}", ""]
    lines += [f"  {fact}" for fact in machine()] + [""]
    for result in results:
        state = "ok    " if result.passed else "FAILED"
        lines.append(f"  {state}  {result.name:<14} {result.seconds:7.1f} s  {result.note}")
    lines += [f"  not run {name}" for name in skipped]
    if counts := test_counts(OUT / "tests.xml"):
        lines.append("  GPU tests: " + ", ".join(f"{number} {state}" for state, number in counts.items()))
    for result in results:
        if not result.passed or result.name == "sweep":
            tail = result.log.strip().splitlines()[-TAIL_LINES:]
            lines += ["", f"--- {result.name}", *tail]
    failed = [result.name for result in results if not result.passed]
    lines += ["", f"FAILED: {', '.join(failed)}" if failed else "All steps passed."]
    text = "\n".join(lines) + "\n"
    return text.replace(str(ROOT), ".").replace(str(Path.home()), "~")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="deploy/gpu_check.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--container", action="store_true", help="check docker compose, too")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "tests.xml").unlink(missing_ok=True)
    results: list[Result] = []
    skipped: list[str] = []
    broken = False  # the container's steps need each other
    for number, step in enumerate(steps(arguments.container), 1):
        wanted = step.after in {result.name for result in results} if step.after else not broken
        if not (wanted or step.alone):
            skipped.append(step.name)
            continue
        print(f"{step.name} ...", flush=True)
        results.append(run(step, number))
        broken = broken or not (step.alone or results[-1].passed)
    text = summary(results, skipped)
    (OUT / "summary.txt").write_text(text)
    print(f"\n{text}\nwritten to {(OUT / 'summary.txt').relative_to(ROOT)}: send this file")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
