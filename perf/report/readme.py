"""The table of docs/why/figures.md, made from the raw results that are committed."""

import statistics
import sys
from pathlib import Path

from perf.harness.raw import RawError, RawResult, load, reading
from perf.report.content import number
from perf.summaries import batching, run, throughput

__all__ = ["PAGE", "START", "readme_table", "rewritten"]

PAGE = Path("docs/why/figures.md")
START = "<!-- from perf/results by `python -m perf report --readme` -->"
END = "<!-- end of what was generated -->"
CONCURRENCIES = (1, 8, 32)
SHOWN = ("run", "batching", "throughput")


def readme_table(folder: Path) -> str:
    """Markdown of every committed run over concurrencies, and what else was found.

    A file that is not a raw result is skipped and named on standard error. Raises `RawError` if none is left.
    """
    rows: list[str] = []
    told: list[str] = []
    machines: list[str] = []
    for path in sorted(folder.glob("*.json")):
        try:
            raw = load(path)
            with reading(path):
                found = run_rows(raw) if raw.kind == "run" else []
                said = sentences(raw)
                taken_on = [machine(raw)] if raw.kind in SHOWN else []
        except RawError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        rows, told, machines = rows + found, told + said, machines + taken_on
    if not rows and not told:
        raise RawError(f"{folder} holds nothing for {PAGE}; `python -m perf run --profile cnn` makes some")
    if rows:
        headings = ["inferences a second (p99 in ms)", "over", *(f"concurrency {c}" for c in CONCURRENCIES)]
        rows[:0] = [f"| {' | '.join(headings)} |", f"|---|---|{'---|' * len(CONCURRENCIES)}"]
        rows.append("")
    return "\n".join(
        [*rows, *told, *([""] if told else []), f"Taken on {'; and '.join(dict.fromkeys(machines))}."]
    )


def run_rows(raw: RawResult) -> list[str]:
    """Of a run, a line of Markdown for each series: inferences/s (p99 in ms) at `CONCURRENCIES`."""
    levels = run.medians([level for level in raw["levels"] if level["concurrency"] in CONCURRENCIES])
    rows = []
    for over in dict.fromkeys(map(run.series, levels)):
        found = {level["concurrency"]: level for level in levels if run.series(level) == over}
        cells = [
            f"{number(found[c]['throughput'])} ({number(found[c]['p99_ms'])})" if c in found else ""
            for c in CONCURRENCIES
        ]
        rows.append(f"| {raw['title']} | {over} | {' | '.join(cells)} |")
    return rows


def sentences(raw: RawResult) -> list[str]:
    """Markdown of a result of kind "batching" or "throughput"; none for any other."""
    if raw.kind == "batching":
        ratio = batching.medians(raw)[2]
        name, concurrency = raw["model"]["name"], raw["concurrency"]
        return [f"- Dynamic batching makes `{name}` {ratio:.1f} times as fast at concurrency {concurrency}."]
    if raw.kind == "throughput":
        ratio = statistics.median(throughput.ratios(raw))
        return [
            f"- Over {throughput.over(raw)}, concurrency {raw['concurrency']}, `{raw['model']['name']}` "
            f"reaches {ratio:.2f} of in-process ONNX Runtime ({len(raw['rounds'])} alternating rounds)."
        ]
    return []


def machine(raw: RawResult) -> str:
    """What a result was taken on: processor, cores, and the versions of Triton and ONNX Runtime."""
    facts = raw.machine
    version = raw.content.get("triton")
    triton = f"Triton {version}" if version else f"nvidia-pytriton {facts['nvidia-pytriton']}"
    runtime = facts.get("onnxruntime") or facts.get("onnxruntime-gpu")
    return f"{facts['cpu']}, {facts['cores']} cores, {triton}, onnxruntime {runtime}"


def rewritten(text: str, table: str) -> str:
    """The page with the table between its two comments. Raises `RawError` if they are not there."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise RawError(f"{PAGE} has no lines {START!r} and {END!r} to write between")
    return f"{before}{START}\n\n{table}\n\n{END}{after}"
