"""One request at a time: from ONNX Runtime alone up to the ensemble."""

from matplotlib.axes import Axes

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import stacked_bars
from perf.summaries.waterfall import FILES, PIXELS, STAGES, medians

__all__ = ["section"]

SENT = {PIXELS: "pixels", FILES: "JPEG"}


def section(raw: RawResult) -> Section:
    """Of kind "waterfall": a bar of stages for each way, milliseconds."""
    rows = medians(raw["rows"])
    stages = [name for name in STAGES if any(name in row["stages_ms"] for row in rows)]

    def draw(axes: Axes) -> None:
        bars = [(f"{SENT[row['sent']]}, {row['way']}", row["stages_ms"]) for row in rows]
        stacked_bars(axes, bars, stages)
        axes.set_xlabel("mean milliseconds of one request, nothing else under way")

    table = Table(
        "Milliseconds, medians of the rounds",
        ["sent", "way", "p50", "p99", *stages],
        [
            [SENT[row["sent"]], row["way"], number(row["p50_ms"]), number(row["p99_ms"])]
            + [number(row["stages_ms"].get(stage)) for stage in stages]
            for row in rows
        ],
        left=2,
    )
    p50 = {(row["sent"], row["way"]): row["p50_ms"] for row in rows}
    added = "; ".join(
        f"{SENT[sent]}: {number(p50[sent, 'in-process'])} ms in-process, {number(p50[sent, 'grpc'])} served"
        for sent in (PIXELS, FILES)
        if (sent, "grpc") in p50
    )
    unstable = sum(not row.get("stable", True) for row in raw["rows"])
    return Section(
        "Where the time of one request goes",
        f"Median latency: {added}.",
        f"{len({row['round'] for row in raw['rows']})} alternating rounds.",
        [f"{unstable} of {len(raw['rows'])} measurements were unstable."] if unstable else [],
        [
            Figure(
                "waterfall", "From ONNX Runtime alone up to the ensemble", draw, height=0.9 + 0.42 * len(rows)
            )
        ],
        [table],
    )
