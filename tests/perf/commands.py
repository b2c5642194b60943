"""How each documented command of perf is run by the tests, or why not: a part of `tests/commands.py`."""

from tests.ways_to_run import NAME, Here, NotRun, RunBy

__all__ = ["PERF"]

CAPACITY = "python -m perf capacity efficientnet_lite0 --rate 800 --slo-p99-ms 100 --scale 1,4 --json"
QUICK = "--rounds=1 --seconds=0.2"

PERF: tuple[Here | RunBy | NotRun, ...] = (
    Here("python -m perf all*", "python -m perf all --only waterfall", long=True),
    Here("python -m perf run --list"),
    NotRun("python -m perf run MODEL", NAME),
    NotRun("python -m perf run", NAME),
    Here("python -m perf run --profile cnn", f"python -m perf run --profile cnn --concurrency=1 {QUICK}"),
    Here(
        "python -m perf run --profile *",
        f"python -m perf run --profile jpeg --concurrency=1 {QUICK}",
        long=True,
    ),
    RunBy(
        "python -m perf run *",
        "tests/perf/benchmarks/test_run.py::test_a_run_keeps_every_level_with_what_was_sent_and_served",
    ),
    Here("python -m perf inputs *", "python -m perf inputs efficientnet_lite0 recognize_objects text_stream"),
    Here("python -m perf report", long=True),
    Here("python -m perf report [[]FILE...]", "python -m perf report perf/results/run-cnn.json"),
    Here("python -m perf report perf/out/*", "python -m perf report perf/results/run-jpeg.json"),
    Here("python -m perf report --readme*", "python -m perf report --readme"),
    Here("python -m perf waterfall", f"python -m perf waterfall {QUICK}", long=True),
    Here(
        "python -m perf batching*",
        "python -m perf batching efficientnet_lite0 --concurrency 16 --rounds=1 --seconds=1",
    ),
    Here("python -m perf cost*", f"python -m perf cost width {QUICK}", long=True),
    RunBy(
        "python -m perf throughput*",
        "tests/perf/benchmarks/test_throughput.py::test_throughput_reports_both_sides_and_the_breakdown",
    ),
    NotRun(
        "python -m perf precision*",
        "it takes some minutes; tests/perf/report/test_report.py draws what it wrote",
    ),
    RunBy("python -m perf explanations*", "tests/perf/benchmarks/test_explanations.py::test_a_short_run"),
    Here(
        "python -m perf decoders*",
        "python -m perf decoders --rounds=1 --output perf/out/decoders.json",
        long=True,
    ),
    NotRun(
        "python -m perf streaming*",
        "it takes minutes; tests/serving/test_text_stream.py holds the memory of sequences",
    ),
    NotRun(
        "python -m perf kills*",
        "it takes minutes; tests/server/watching/test_supervisor.py kills each kind of process",
    ),
    RunBy("python -m perf haproxy*", "tests/perf/benchmarks/gateways/test_haproxy.py::test_a_short_run"),
    RunBy("python -m perf gateway*", "tests/perf/benchmarks/gateways/test_tfserving.py::test_a_short_run"),
    Here("python -m perf compare --show *"),
    NotRun("python -m perf compare --install", "it downloads 1.9 GB"),
    Here(
        "python -m perf compare*",
        "python -m perf compare --jobs jpeg --peers none --ours 2x1 --concurrency 1 --rounds 1 --seconds 1",
        long=True,
    ),
    NotRun("python -m perf capacity", NAME),
    NotRun(
        "python -m perf capacity --measure*",
        "it takes minutes; tests/perf/capacity/simulation simulates and compares",
    ),
    NotRun("python -m perf capacity * --measure", "it takes minutes"),
    Here("python -m perf capacity --rate *", CAPACITY),
    Here("python -m perf capacity efficientnet_lite0 *", CAPACITY),
    NotRun("python -m perf tune", NAME),
    RunBy(
        "python -m perf tune *", "tests/perf/tuning/test_tune.py::test_a_winner_is_written_on_a_real_server"
    ),
    RunBy("perf/scripts/*", "tests/perf/test_scripts.py::test_scripts_measure_with_plain_perf_analyzer"),
)
