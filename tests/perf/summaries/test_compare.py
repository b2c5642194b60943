"""Rows and ratios of servers beside each other."""

import pytest

from perf.summaries.compare import ratios, tables


def level(rate, p99):
    return {"rate": rate, "p99_ms": p99}


def round_of(ours, peers, limit=100.0):
    servers = {"triton-vision 2x1": {"levels": {"8": level(*ours)}}}
    servers |= {name: {"levels": {"8": level(*figures)}} for name, figures in peers.items()}
    return {"in_process": {"two processes": level(limit, 10.0)}, "servers": servers}


def raw_of(*rounds):
    return {"runs": [{"job": "jpeg", "rounds": list(rounds)}]}


def test_ratios_are_of_pairs_and_of_the_best_peer():
    raw = raw_of(
        round_of((90, 10), {"A": (60, 20), "B": (10, 1)}),
        round_of((40, 30), {"A": (50, 10), "B": (10, 1)}),  # a slow round of the machine
        round_of((80, 10), {"A": (50, 10), "B": (10, 1)}),
    )
    (row,) = ratios(raw)
    assert row["peer"] == "A"
    assert row["of_peer"] == pytest.approx(1.5)
    assert row["p99_of_peer"] == pytest.approx(1.0)
    assert row["of_limit"] == pytest.approx(0.8)


def test_tables_take_medians_over_runs_and_keep_what_failed():
    raw = raw_of(round_of((90, 10), {"A": (60, 20)}))
    raw["runs"].append({"job": "jpeg", "rounds": [round_of((70, 10), {}), round_of((75, 10), {})]})
    raw["runs"][1]["rounds"][0]["servers"]["A"] = {"error": "A did not start\nits log"}
    rows = {row["server"]: row for row in tables(raw)}
    assert rows["triton-vision 2x1"]["levels"]["8"] == (75, 10)
    assert rows["A"]["levels"]["8"] == (60, 20)
    assert rows["A"]["note"] == "A did not start"
