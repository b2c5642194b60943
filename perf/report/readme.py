"""README's table, made from the raw results that are committed."""

import statistics
from pathlib import Path

from perf.batching import medians as batching_medians
from perf.raw import RawError, load
from perf.report.content import model_name, number
from perf.report.kinds.run import medians, series

__all__ = ["README", "START", "readme_table", "rewritten"]

README = Path("README.md")
START = "<!-- from perf/results by `python -m perf report --readme` -->"
END = "<!-- end of what was generated -->"
CONCURRENCIES = (1, 8, 32)
SHOWN = ("run", "batching", "throughput")


def readme_table(folder: Path) -> str:
    """Markdown of every committed run over concurrencies, and what else was found. Raises `RawError`."""
    raws = [load(path) for path in sorted(folder.glob("*.json"))]
    rows = [line for raw in raws if raw.get("kind") == "run" for line in run_rows(raw)]
    told = [sentence for raw in raws for sentence in sentences(raw)]
    if not rows and not told:
        raise RawError(f"{folder} holds nothing for README; `python -m perf run --profile cnn` makes some")
    if rows:
        headings = ["inferences a second (p99 in ms)", "over", *(f"concurrency {c}" for c in CONCURRENCIES)]
        rows[:0] = [f"| {' | '.join(headings)} |", f"|---|---|{'---|' * len(CONCURRENCIES)}"]
        rows.append("")
    machines = dict.fromkeys(machine(raw) for raw in raws if raw.get("kind") in SHOWN)
    return "\n".join([*rows, *told, *([""] if told else []), f"Taken on {'; and '.join(machines)}."])


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
