"""TV101 and TV708: `metric_tags` and `model_metrics`, which become labels and buckets of Prometheus."""

import math
import re
from collections.abc import Iterator
from itertools import pairwise

from export.lint.reading.repository import Model, Repository
from export.lint.rules import WARNING, Finding

__all__ = ["check"]

TAG = re.compile(
    r"(?!_)[A-Za-z0-9_]*"
)  # Triton puts a "_" in front, and labels with two are Prometheus's own
CUSTOMIZABLE = ("nv_inference_first_response_histogram_ms",)  # src/metric_model_reporter.h, to r26.06
LATENCIES = "--metrics-config histogram_latencies=true"


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """Tags in every release; histograms in those that know `model_metrics`."""
    for tag in sorted(model.config.metric_tags):
        if not TAG.fullmatch(tag):
            yield model.finding(
                "TV708",
                f"the metric tag {tag!r} becomes the label {'_' + tag!r}, which Prometheus does not allow: "
                "loading the model ends tritonserver",
                "write letters, digits and _, and no _ at the beginning",
                "metric_tags",
                tag,
            )
    if hasattr(model.config, "model_metrics"):
        yield from _histograms(model)


def _histograms(model: Model) -> Iterator[Finding]:
    """What core asks of them (src/model_config_utils.cc, r24.11), and prometheus-cpp 1.0.1 of buckets."""
    taking = [release for release in model.releases if release not in model.refused]
    where = ("model_metrics", "metric_control")
    for index, control in enumerate(model.config.model_metrics.metric_control):
        family, buckets = control.metric_identifier.family, list(control.histogram_options.buckets)
        missing = "" if family else "metric_identifier { family }"
        missing = missing or ("" if buckets else "histogram_options { buckets }")
        if missing:
            message = f"a metric_control lacks {missing}, and the model is refused"
            yield model.finding("TV101", message, f"write {missing}", *where, index, releases=taking)
            continue
        if family not in CUSTOMIZABLE:
            yield model.finding(
                "TV708",
                f"{family!r} is no metric that a config can change, so this has no effect",
                f"write {CUSTOMIZABLE[0]}",
                *where,
                index,
                releases=taking,
                severity=WARNING,
            )
        elif problem := _problem(buckets):
            what, severity = problem
            yield model.finding(
                "TV708",
                f"the buckets of {family} {what}",
                "write bounds above 0 in milliseconds, each larger than the one before",
                *where,
                index,
                "histogram_options",
                "buckets",
                releases=taking,
                severity=severity,
            )


def _problem(buckets: list[float]) -> tuple[str, str | None] | None:
    if any(before >= after for before, after in pairwise(buckets)):
        return f"do not rise: with {LATENCIES} loading the model ends tritonserver", None
    if not all(map(math.isfinite, buckets)):
        return (
            "hold what is no number: Prometheus gets a bucket twice, or one without an order",
            WARNING,
        )
    if buckets[0] <= 0:
        return "begin at or below 0, where no latency is", WARNING
    return None
