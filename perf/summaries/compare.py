"""The same jobs behind several servers ("compare"): rows of medians, and our share of the best peer's."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from perf.harness.raw import RawResult

__all__ = ["ALONE", "ratios", "tables"]

ALONE = "any"  # the concurrency of what is measured without a server
OURS = "triton-vision"
# What the rate at a concurrency is held against: one client that waits keeps one loop busy
LIMIT_OF_ONE = ("one loop, 1 thread", "one loop, 2 threads")
LIMIT_OF_MANY = "two processes"

Row = dict[str, Any]
Round = Mapping[str, Any]


def tables(raw: RawResult) -> list[Row]:
    """One row for each job and server, in-process ones first: medians over all rounds of all runs.

    job, server; levels, {concurrency: (answers/s, p99 in ms)}, `ALONE` of what is in-process; note, what went
    wrong, or "".
    """
    rows: list[Row] = []
    for job, rounds in by_job(raw).items():
        for name in names(one["in_process"] for one in rounds):
            found = [one["in_process"][name] for one in rounds if name in one["in_process"]]
            rows.append({"job": job, "server": name, "levels": {ALONE: summary(found)}, "note": ""})
        for name in names(one["servers"] for one in rounds):
            found = [one["servers"][name] for one in rounds if name in one["servers"]]
            good = [one["levels"] for one in found if "levels" in one]
            errors = [one["error"].splitlines()[0] for one in found if "error" in one]
            levels = {c: summary([one[c] for one in good if c in one]) for c in names(good)}
            rows.append({"job": job, "server": name, "levels": levels, "note": errors[0] if errors else ""})
    return rows


def ratios(raw: RawResult) -> list[Row]:
    """One row for each job, setting of ours and concurrency: our rate and p99 over those of the best peer.

    The best peer is the one with the highest median rate there. Ratios are medians of the rounds' own, where
    both were measured in the same rounds; otherwise, of medians. of_limit: over the in-process limit.
    """
    rows: list[Row] = []
    for job, rounds in by_job(raw).items():
        medians = {row["server"]: row["levels"] for row in tables(raw) if row["job"] == job}
        for ours in (name for name in medians if name.startswith(OURS)):
            for concurrency in medians[ours]:
                peers = {
                    name: levels[concurrency][0]
                    for name, levels in medians.items()
                    if not name.startswith(OURS) and concurrency in levels
                }
                if not peers:
                    continue
                peer = max(peers, key=peers.__getitem__)
                limits = LIMIT_OF_ONE if concurrency == "1" else (LIMIT_OF_MANY,)
                limit = max(limits, key=lambda name: medians[name][ALONE][0])
                rows.append(
                    {
                        "job": job,
                        "ours": ours,
                        "concurrency": concurrency,
                        "peer": peer,
                        "of_peer": ratio(rounds, ours, peer, concurrency, "rate"),
                        "p99_of_peer": ratio(rounds, ours, peer, concurrency, "p99_ms"),
                        "limit": limit,
                        "of_limit": medians[ours][concurrency][0] / medians[limit][ALONE][0],
                    }
                )
    return rows


def by_job(raw: RawResult) -> dict[str, list[Round]]:
    """The rounds of all runs of each job, in their order."""
    jobs: dict[str, list[Round]] = {}
    for one in raw["runs"]:
        jobs.setdefault(one["job"], []).extend(one["rounds"])
    return jobs


def names(dictionaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every key, once, in the order in which they occur."""
    return list(dict.fromkeys(name for one in dictionaries for name in one))


def summary(found: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Medians: answers/s, and p99 in ms. Raises `StatisticsError` if nothing was found."""
    rate, p99 = (statistics.median(one[key] for one in found) for key in ("rate", "p99_ms"))
    return rate, p99


def ratio(rounds: Sequence[Round], ours: str, peer: str, concurrency: str, key: str) -> float:
    """Ours over the peer's figure `key`: the median over rounds that have both, else that of medians."""
    pairs = list(values(rounds, (ours, peer), concurrency, key))
    if pairs:
        return statistics.median(a / b for a, b in pairs)
    alone = [
        statistics.median(v for (v,) in values(rounds, (name,), concurrency, key)) for name in (ours, peer)
    ]
    return alone[0] / alone[1]


def values(
    rounds: Sequence[Round], servers: tuple[str, ...], concurrency: str, key: str
) -> Iterator[tuple[float, ...]]:
    """The figures of several servers in each round that has them all."""
    for one in rounds:
        levels = [one["servers"].get(name, {}).get("levels", {}).get(concurrency) for name in servers]
        if all(levels):
            yield tuple(level[key] for level in levels)
