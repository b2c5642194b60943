"""Levels of several rounds are told as one."""

from perf.harness.load import BREAKDOWN
from perf.summaries.run import medians


def level(concurrency=1, throughput=100.0, transport="grpc", **values):
    return {
        "round": 1,
        "transport": transport,
        "concurrency": concurrency,
        "request_rate": None,
        "distribution": None,
        "throughput": throughput,
        **{f"p{p}_ms": p / 10 for p in (50, 90, 95, 99)},
        "breakdown_us": dict.fromkeys(BREAKDOWN, 100.0),
        "windows": [[throughput, 5000.0]],
        "stable": True,
        "models": {"cnn": {"inferences": 300, "executions": 100, "infer_us": 100.0}},
        **values,
    }


def test_rounds_are_told_as_medians():
    found = medians([level(throughput=t, stable=t != 300) for t in (100, 300, 120)])
    assert [(one["throughput"], one["stable"]) for one in found] == [(120, False)]
