"""README's table, made from the raw results that are committed."""

import statistics
import sys
from pathlib import Path

from perf.benchmarks.batching import medians as batching_medians
from perf.harness.raw import RawError, load, reading
from perf.report.content import model_name, number
from perf.report.kinds.run import medians, series

__all__ = ["README", "START", "readme_table", "rewritten"]

README = Path("README.md")
START = "<!-- from perf/results by `python -m perf report --readme` -->"
END = "<!-- end of what was generated -->"
CONCURRENCIES = (1, 8, 32)
SHOWN = ("run", "batching", "throughput")


def readme_table(folder: Path) -> str:
    """Markdown of every committed run over concurrencies, and what else was found.

    A file that is no raw result is skipped and named on standard error. Raises `RawError` if none is left.
    """
    rows, told, machines = [], [], []
    for path in sorted(folder.glob("*.json")):
        try:
            raw = load(path)
            with reading(path):
                found = run_rows(raw) if raw.get("kind") == "run" else []
                said = sentences(raw)
                taken_on = [machine(raw)] if raw.get("kind") in SHOWN else []
        except RawError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        rows, told, machines = rows + found, told + said, machines + taken_on
    if not rows and not told:
        raise RawError(f"{folder} holds nothing for README; `python -m perf run --profile cnn` makes some")
    if rows:
        headings = ["inferences a second (p99 in ms)", "over", *(f"concurrency {c}" for c in CONCURRENCIES)]
        rows[:0] = [f"| {' | '.join(headings)} |", f"|---|---|{'---|' * len(CONCURRENCIES)}"]
        rows.append("")
    return "\n".join(
        [*rows, *told, *([""] if told else []), f"Taken on {'; and '.join(dict.fromkeys(machines))}."]
    )


def run_rows(raw: dict) -> list[str]:
    levels = medians([level for level in raw["levels"] if level["concurrency"] in CONCURRENCIES])
    rows = []
    for over in dict.fromkeys(map(series, levels)):
        found = {level["concurrency"]: level for level in levels if series(level) == over}
        cells = [
            f"{number(found[c]['throughput'])} ({number(found[c]['p99_ms'])})" if c in found else ""
            for c in CONCURRENCIES
        ]
        rows.append(f"| {raw['title']} | {over} | {' | '.join(cells)} |")
    return rows


def sentences(raw: dict) -> list[str]:
    if raw.get("kind") == "batching":
        ratio = batching_medians(raw)[2]
        name, concurrency = model_name(raw), raw["concurrency"]
        return [f"- Dynamic batching makes `{name}` {ratio:.1f} times as fast at concurrency {concurrency}."]
    if raw.get("kind") == "throughput":
        ratio = statistics.median(one["throughput"] / one["in_process"] for one in raw["rounds"])
        over = "gRPC with shared memory" if raw["shared_memory"] else "gRPC"
        return [
            f"- Over {over}, concurrency {raw['concurrency']}, `{model_name(raw)}` reaches {ratio:.2f} "
            f"of in-process ONNX Runtime ({len(raw['rounds'])} alternating rounds)."
        ]
    return []


def machine(raw: dict) -> str:
    facts = raw["machine"]
    triton = f"Triton {raw['triton']}" if "triton" in raw else f"nvidia-pytriton {facts['nvidia-pytriton']}"
    runtime = facts.get("onnxruntime") or facts.get("onnxruntime-gpu")
    return f"{facts['cpu']}, {facts['cores']} cores, {triton}, onnxruntime {runtime}"


def rewritten(text: str, table: str) -> str:
    """README with the table between its two comments. Raises `RawError` if they are not there."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise RawError(f"{README} has no lines {START!r} and {END!r} to write between")
    return f"{before}{START}\n\n{table}\n\n{END}{after}"
