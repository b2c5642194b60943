"""One level of load. What is measured is not asserted: a number from a busy machine makes a flaky test."""

import pytest

from perf.harness.generators import analyzer
from perf.harness.load import Load, Target, _stable, measure


def test_a_level_tells_throughput_latency_and_executions(server):
    target = Target("efficientnet_lite0", server.grpc_url, server.http_url)
    level = measure(analyzer.find_analyzer(), target, Load(2), seconds=0.5)
    assert level["throughput"] > 0
    assert level["p50_ms"] <= level["p99_ms"]
    assert len(level["windows"]) == 3
    model = level["models"]["efficientnet_lite0"]
    assert 0 < model["executions"] <= model["inferences"]
    assert model["infer_us"] < model["request_us"] < 1e6


@pytest.mark.slow
def test_windows_within_which_nothing_is_answered_grow(server, tmp_path):
    real = analyzer.find_analyzer()
    hurried = tmp_path / "perf_analyzer"
    hurried.write_text(
        "#!/bin/sh\n"
        f"echo once >> {tmp_path}/calls\n"
        f'if [ $(wc -l < {tmp_path}/calls) -gt 2 ]; then exec {real.binary} "$@"; fi\n'
        "echo 'No valid requests recorded within time interval.' >&2\n"
        "exit 99\n"
    )
    hurried.chmod(0o755)
    target = Target("efficientnet_lite0", server.grpc_url, server.http_url)
    level = measure(analyzer.Analyzer(hurried, real.environment), target, Load(1), seconds=0.5)
    assert level["window_s"] == 2.0
    assert level["throughput"] > 0


def test_a_server_that_answers_nothing_is_an_error(server, tmp_path):
    mute = tmp_path / "perf_analyzer"
    mute.write_text("#!/bin/sh\necho 'No valid requests recorded within time interval.' >&2\nexit 99\n")
    mute.chmod(0o755)
    target = Target("efficientnet_lite0", server.grpc_url, server.http_url)
    with pytest.raises(analyzer.NothingAnsweredError, match="more --seconds"):
        measure(analyzer.Analyzer(mute, {}), target, Load(1), seconds=0.1)


@pytest.mark.parametrize(
    ("windows", "stable"),
    [
        ([[100.0, 10.0], [105.0, 10.0], [95.0, 10.0]], True),
        ([[100.0, 10.0], [100.0, 10.0], [70.0, 10.0]], False),
        ([[100.0, 10.0], [100.0, 10.0], [100.0, 14.0]], False),
    ],
)
def test_a_level_is_stable_if_rate_and_latency_of_its_windows_are(windows, stable):
    assert _stable(windows, 10.0) is stable


def test_a_load_is_either_a_concurrency_or_a_rate():
    assert Load(request_rate=2.5, distribution="poisson").arguments() == [
        "--request-rate-range=2.5",
        "--request-distribution=poisson",
    ]
    for load in (Load(), Load(1, 2.0)):
        with pytest.raises(ValueError, match="either"):
            load.arguments()
