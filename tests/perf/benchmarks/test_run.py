"""Runs: profiles make sense, a sweep measures what it was asked for and keeps it, errors say what to do."""

import json
import subprocess
import sys

import pytest

from perf.benchmarks.run import warnings
from tests.conftest import ROOT

REPOSITORY = ROOT / "model_repository"


def perf(*arguments):
    command = [sys.executable, "-m", "perf", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def swept(server, tmp_path_factory):
    """A run of two levels over three transports against the tests' server."""
    output = tmp_path_factory.mktemp("perf") / "run.json"
    done = perf(
        *("run", "text_recognizer", "--url", server.http_url, "--grpc-url", server.grpc_url),
        *(
            "--concurrency",
            "1,2",
            "--transport",
            "grpc,http,grpc+shm",
            "--seconds",
            "0.2",
            "--output",
            output,
        ),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text()), done


def test_a_run_keeps_every_level_with_what_was_sent_and_served(swept):
    raw, _ = swept
    assert [(level["concurrency"], level["transport"]) for level in raw["levels"]] == [
        (c, transport) for c in (1, 2) for transport in ("grpc", "http", "grpc+shm")
    ]
    assert all(level["throughput"] > 0 and level["p50_ms"] <= level["p99_ms"] for level in raw["levels"])
    assert raw["inputs"]["real"]
    assert 'name: "text_recognizer"' in raw["model"]["config_pbtxt"]
    assert raw["triton"]
    assert raw["machine"]["cores"]


def test_a_run_tells_progress_and_prints_a_table(swept):
    _, done = swept
    assert "6/6  grpc+shm, concurrency 2" in done.stderr
    assert "infer/s" in done.stdout


@pytest.mark.slow
def test_sequences_at_a_rate_share_a_server_of_their_own(tmp_path):
    done = perf(
        *("run", "text_stream", "--request-rate", "20", "--distribution", "poisson", "--seconds", "1"),
        *("--transport", "grpc-stream", "--output", tmp_path / "run.json", "--json"),
    )
    assert done.returncode == 0, done.stderr
    raw = json.loads(done.stdout)
    assert raw == json.loads((tmp_path / "run.json").read_text())
    (level,) = raw["levels"]
    assert (level["request_rate"], level["distribution"]) == (20, "poisson")
    assert raw["inputs"]["sequences"] > 1
    assert len(raw["model"]["sha256"]["model.onnx"]) == 64


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run"], "name a model, or a profile"),
        (["run", "nothing"], "holds no model 'nothing', but: detect_faces, "),
        (["run", "--profile", "nothing"], "has no profile 'nothing'; there are cnn"),
        (["run", "read_text", "--transport", "pigeon"], "there are grpc, grpc+shm"),
        (["run", "read_text", "--concurrency", "0"], "concurrency must be greater than 0"),
        (["run", "read_text", "--url", "127.0.0.1:9"], "no Triton answers on http://127.0.0.1:9/v2"),
        (["run", "read_text", "--url", "10.0.0.1:9", "--transport", "grpc+shm"], "on this machine"),
        (["run", "read_text", "--url", "10.0.0.1:9", "--transport", "grpc+cuda"], "on this machine"),
        (["cost", "nothing"], "there is no curve 'nothing', but batch"),
        (["all", "--only", "nothing"], "no step is called nothing"),
    ],
)
def test_errors_say_what_there_is(arguments, told):
    done = perf(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_a_server_has_not_is_told(server):
    done = perf("run", "nothing", "--url", server.http_url)
    assert done.returncode == 1
    assert "serves no model 'nothing'" in done.stderr


def level(**values):
    return {
        "transport": "grpc",
        "concurrency": None,
        "request_rate": None,
        "distribution": None,
        "throughput": 100.0,
        "windows": [[90.0, 1.0], [110.0, 1.0]],
        "stable": True,
        **values,
    }


def test_warnings_say_what_is_doubtful_and_what_to_do():
    raw = {"window_seconds": 3, "failed": [], "levels": [level(concurrency=1)]}
    assert warnings(raw) == []
    raw["levels"].append(level(concurrency=2, stable=False))
    raw["levels"].append(level(request_rate=200.0, distribution="constant"))
    raw["failed"].append({"level": "grpc, 500/s", "error": "[request id: 1] Exceeds maximum queue size"})
    unstable, late, refused = warnings(raw)
    assert "1 of 3 levels" in unstable
    assert "--seconds 6" in unstable
    assert "asked for 200/s, measured 100.0/s" in late
    assert "max_queue_size" in refused
