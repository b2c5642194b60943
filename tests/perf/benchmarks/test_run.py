"""Runs: profiles make sense, a sweep measures what it was asked for and keeps it, errors say what to do."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from perf import all as everything
from perf.benchmarks.batching import two_copies
from perf.benchmarks.profiles import Profile, get_profile, read_profiles
from perf.benchmarks.run import warnings
from perf.benchmarks.waterfall import stages
from perf.cli import COMMANDS
from perf.harness.analyzer import find_analyzer, read_report
from perf.harness.errors import PerfError
from perf.harness.in_process import measure_alone
from perf.harness.inputs import read_config, tensor_content, write_inputs, write_steps
from perf.harness.load import Load
from perf.harness.raw import RawError, output_path
from perf.harness.serving import configured, needed
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
            "1",
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
        (["run", "nothing"], "holds no model 'nothing', but: efficientnet_lite0"),
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


def test_all_profiles_name_models_that_there_are():
    for profile in read_profiles().values():
        if ".py:" in profile.model:
            assert (ROOT / profile.model.partition(":")[0]).is_file()
        else:
            read_config(profile.model, REPOSITORY)
        assert profile.loads(100.0)
        assert profile.title


def test_a_profile_with_a_word_that_means_nothing_is_refused(tmp_path):
    path = tmp_path / "profiles.toml"
    path.write_text('[a]\nmodel = "m"\nconcurency = [1]\n')
    with pytest.raises(PerfError, match=r"profile 'a'.* not concurency"):
        read_profiles(path)
    path.write_text('[a]\nmodel = "m"\nconcurrency = [1]\nshare = [0.5]\n')
    with pytest.raises(PerfError, match="not concurrency and share"):
        get_profile("a", path)
    path.write_text("[a\n")
    with pytest.raises(PerfError, match="holds no profiles"):
        read_profiles(path)


def test_an_option_replaces_the_levels_of_a_profile():
    profile = Profile("a", "m", concurrency=(1, 2)).changed(share=(0.5,), distribution=("poisson",))
    assert profile.loads(80.0) == [Load(request_rate=40.0, distribution="poisson")]


def test_what_a_model_calls_is_served_with_it():
    cnn = "efficientnet_lite0"
    assert needed("recognize_objects", REPOSITORY) == ["recognize_objects", cnn]
    with configured(""):
        assert needed("recognize_objects", REPOSITORY) == ["recognize_objects", "image_decoder", cnn]
    assert needed("read_text", REPOSITORY) == ["read_text", "text_recognizer"]


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


def test_results_that_could_not_be_written_are_told_before_measuring(tmp_path):
    with pytest.raises(RawError, match="cannot be"):
        output_path(tmp_path, "run")
    (tmp_path / "file").touch()
    with pytest.raises(RawError, match="cannot be made"):
        output_path(tmp_path / "file" / "raw.json", "run")


def test_stages_of_an_ensemble_add_up_to_the_latency():
    times = {"queue_us": 100.0, "input_us": 10.0, "infer_us": 1000.0, "output_us": 20.0}
    one = {
        "windows": [[1.0, 4000.0], [1.0, 4200.0]],
        "breakdown_us": {"Client Send": 30.0, "Client Recv": 10.0},
        "models": {
            "whole": {**times, "request_us": 3000.0},
            "image_decoder": {**times, "request_us": 1150.0},
            "cnn": {**times, "request_us": 1140.0},
        },
    }
    found = stages(one, "whole")
    assert found["decode"] == found["infer"] == 1.0
    assert found["between models"] == pytest.approx(0.71)
    assert sum(found.values()) == pytest.approx(4.1, abs=0.04)  # but for what Triton leaves out of its parts


def test_a_model_without_batching_is_the_same_but_for_that(tmp_path):
    repository = two_copies("efficientnet_lite0", REPOSITORY, tmp_path)
    with_it, without = (
        read_config(name, repository) for name in sorted(p.name for p in repository.iterdir())
    )
    assert with_it.HasField("dynamic_batching")
    assert not without.HasField("dynamic_batching")
    without.name = with_it.name
    with_it.ClearField("dynamic_batching")
    assert with_it == without
    with pytest.raises(PerfError, match="no dynamic_batching to do without"):
        two_copies("text_stream", REPOSITORY, tmp_path / "other")


def test_in_process_latencies_come_from_the_inputs_of_a_load(tmp_path):
    graph = max((REPOSITORY / "text_recognizer").glob("*/model.onnx"))
    data = write_inputs("text_recognizer", tmp_path / "lines.json", REPOSITORY).path
    told = measure_alone(graph, input_data=data, seconds=0.2)
    assert 0 < told["p50_ms"] <= told["p99_ms"]
    files = write_inputs("image_decoder", tmp_path / "files.json", REPOSITORY).path
    told = measure_alone(None, input_data=files, decoder=REPOSITORY, seconds=0.2)
    assert told["decode_ms"] > told["infer_ms"]


def test_steps_of_equal_shape_make_batches(tmp_path):
    graph = max((REPOSITORY / "text_recognizer").glob("*/model.onnx"))
    steps = [{"line": tensor_content(np.full((32, 64), n, np.uint8))} for n in range(4)]
    assert measure_alone(graph, input_data=write_steps(steps, tmp_path / "a.json"), batch=4, seconds=0.1)


def test_every_step_of_all_is_a_command_with_a_result():
    names = [step.name for step in everything.STEPS]
    assert len(set(names)) == len(names)
    for step in everything.STEPS:
        assert step.arguments[0] in COMMANDS
    assert sum(step.seconds for step in everything.STEPS) < 20 * 60


def test_scripts_refuse_without_perf_analyzer(tmp_path):
    for script in ("concurrency", "request-rate", "sequences"):
        path = ROOT / "perf" / "scripts" / f"{script}.sh"
        assert os.access(path, os.X_OK)
        done = subprocess.run(
            ["/bin/sh", str(path)],
            env={"PATH": "/usr/bin:/bin", "OUT": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "perf_analyzer is not on PATH" in done.stderr


@pytest.mark.parametrize(
    ("script", "arguments", "reports"),
    [
        ("concurrency", ["efficientnet_lite0", "1:1:1"], ["grpc", "grpc-shm", "http"]),
        ("request-rate", ["efficientnet_lite0", "20"], ["20-constant", "20-poisson"]),
        ("sequences", ["text_stream", "2:2:1"], ["grpc", "stream"]),
    ],
)
def test_scripts_measure_with_plain_perf_analyzer(script, arguments, reports, server, tmp_path):
    analyzer = find_analyzer()
    (tmp_path / "perf_analyzer").symlink_to(analyzer.binary)
    write_inputs(arguments[0], tmp_path / f"{arguments[0]}.json", REPOSITORY)
    done = subprocess.run(
        [str(ROOT / "perf" / "scripts" / f"{script}.sh"), *arguments],
        env={
            **analyzer.environment,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            **{"URL": server.grpc_url, "HTTP_URL": server.http_url, "OUT": str(tmp_path)},
            **{"INPUTS": str(tmp_path), "WINDOW_MS": "500", "STABILITY": "1000"},
            "SHARED_MEMORY": "yes",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "random values" not in done.stderr
    found = {path.stem.removeprefix(f"{arguments[0]}-"): path for path in tmp_path.glob("*.csv")}
    assert sorted(found) == reports
    assert all(float(read_report(path)[0]["Inferences/Second"]) > 0 for path in found.values())
