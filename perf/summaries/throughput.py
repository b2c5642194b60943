"""Served against in-process throughput ("throughput")."""

from perf.harness.raw import RawResult

__all__ = ["over", "ratios"]


def ratios(raw: RawResult) -> list[float]:
    """Of each round: what is served a second over what ONNX Runtime alone does."""
    return [one["throughput"] / one["in_process"] for one in raw["rounds"]]


def over(raw: RawResult) -> str:
    """How requests were sent."""
    return "gRPC with shared memory" if raw["shared_memory"] else "gRPC"
