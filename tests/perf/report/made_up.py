"""Raw results of each kind, as the commands write them, with figures that are made up."""

from perf.harness.load import BREAKDOWN
from perf.harness.raw import record
from perf.tuning.decision import Objective
from perf.tuning.policy import Policy
from perf.tuning.tuner import Outcome, content

MODEL = {"name": "cnn", "config_pbtxt": 'name: "cnn"', "version": 1, "sha256": {"model.onnx": "0" * 64}}


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


def run_of(levels, **values):
    inputs = {"content": "photographs", "real": True, "items": 2, "sequences": None}
    facts = {"title": "A <title>", "model": MODEL, "composing": [], "triton": "2.51.0", "inputs": inputs}
    return record("run", **{**facts, "levels": levels, "failed": [], **values})


def raws():
    """One raw result of each kind that this folder of the project measures itself."""
    row = {"round": 1, "sent": "pixels", "p50_ms": 5.0, "p99_ms": 6.0}
    cost = [
        {"round": 1, "x": x, "in_process_ms": x, "served_ms": x + 1, "compute_ms": x, "stable": True}
        for x in (1, 2048)
    ]
    rate = {"request_rate": 50.0, "distribution": "poisson"}
    both = {"with": level(), "without": level(throughput=40.0)}
    one = {"in_process": 200.0, "throughput": 180.0, "p50_ms": 1.0, "p99_ms": 2.0}
    return {
        "run": run_of([level(), level(8, 400.0), level(1, 90.0, "http")]),
        "run-rate": run_of([level(None, 50.0, **rate)]),
        "waterfall": record(
            "waterfall",
            model=MODEL,
            rows=[
                {**row, "way": "in-process", "stages_ms": {"infer": 5.0}},
                {**row, "way": "grpc", "stages_ms": {"network": 0.5, "infer": 5.0}},
            ],
        ),
        "batching": record("batching", model=MODEL, rounds=[both, both], concurrency=32, transport="grpc"),
        "cost": record(
            "cost",
            model=MODEL,
            curves=[
                {"name": "batch", "title": "Batches", "unit": "photographs", "model": "cnn", "rows": cost}
            ],
        ),
        "throughput": record(
            "throughput",
            model=MODEL,
            shared_memory=False,
            concurrency=8,
            sessions=2,
            threads=1,
            in_process_batch=4,
            rounds=[one, one],
        ),
        "tune": tuned(),
        "compare": compared(),
        "capacity": record(
            "capacity",
            model=MODEL,
            peak=340.0,
            comparison=[
                {
                    "share": 0.4,
                    "rate": 135.0,
                    **{key: compared_figure(10.0, 11.0) for key in ("throughput", "p50_ms", "p99_ms")},
                },
                {
                    **{"share": None, "rate": None, "concurrency": 12},
                    **{key: compared_figure(10.0, 11.0) for key in ("throughput", "p50_ms", "p99_ms")},
                },
            ],
        ),
        "precision": record(
            "precision",
            models=[MODEL, {**MODEL, "name": "cnn_int8"}],
            in_process={"1": [[100.0, 220.0], [110.0, 220.0]]},
            concurrency=8,
            served=[[level(), level(throughput=180.0)]],
        ),
        "decoders": record(
            "decoders",
            rounds=5,
            left_out={"libvips": "not installed"},
            rows=[
                {
                    **{"kind": "photographs", "decoder": "Pillow", "images": 22, "ms": 4.0},
                    **{"speed_to_served": 1.0, "max": 1, "beyond_1": 0.0, "same_top_1": 22},
                }
            ],
        ),
        "explanations": record(
            "explanations",
            model=MODEL,
            steps=2,
            random_orders=1,
            pasted=112,
            photographs=[explained("as they are"), explained("off-centre")],
        ),
        "surprise": record("surprise", anything=1),
    }


def explained(where):
    """One photograph as `perf explanations` keeps it."""
    curves = {"deletion": [0.8, 0.4, 0.0], "insertion": [0.0, 0.4, 0.8]}
    methods = ("heatmap", "centre", "random map")
    return {
        "name": "photo",
        "where": where,
        "probability": 0.8,
        "areas": {method: {"deletion": 0.4, "insertion": 0.4} for method in methods},
        "curves": dict.fromkeys(methods, curves),
        "pointed": [True, False],
        "heat_inside": [0.7, 0.2],
    }


def tuned():
    """As `perf tune` keeps it, with one policy tried."""
    outcome = content(Outcome(Policy(threads=1)))
    policy = outcome["current"]
    trial = {"stage": "current", "policy": policy, "levels": [level()], "error": "", "dropped": "far behind"}
    objective = vars(Objective("throughput", 60.0, None))
    return record("tune", model=MODEL, objective=objective, **{**outcome, "trials": [trial]})


def compared():
    """As `perf compare` keeps it: one job, ours and a peer, and one that failed."""

    def levels(rate):
        return {"levels": {c: {"rate": rate, "p99_ms": 20.0} for c in ("1", "8")}}

    limits = ("one loop, 1 thread", "one loop, 2 threads", "two processes")
    found = {
        "in_process": {name: {"rate": 100.0, "p99_ms": 17.0} for name in limits},
        "servers": {
            "triton-vision 2x1": levels(90.0),
            "FastAPI 2x1": levels(60.0),
            "Ray 2x1": {"error": "no"},
        },
    }
    one = {"job": "jpeg", "not_installable": {"bentoml": "tried\nno wheel"}, "rounds": [found]}
    return record("compare", runs=[one])


def compared_figure(measured, predicted):
    return {
        "measured": measured,
        "measured_spread": [measured - 1, measured + 1],
        "predicted": predicted,
        "error_percent": 10.0,
    }
