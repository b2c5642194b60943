"""Capacity: the simulation gives textbook results, batches as Triton does, and plans follow from it.

What a calibration measures is not asserted, only that the simulation can draw from it.
"""

import json

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from perf.capacity import calibration, capacity, planning, traces
from perf.capacity.planning import Assumptions, Capacity, Replica, plan, replica_capacity
from perf.capacity.simulation import DISTRIBUTIONS, Batching, Executions, Observed, arrivals, simulate
from perf.cli import main
from perf.harness.errors import PerfError
from perf.harness.load import Load
from perf.harness.raw import record, save
from perf.harness.serving import configured
from tests.conftest import ROOT

REPOSITORY = ROOT / "model_repository"


def observed(seconds, batch=1, model="m"):
    """A server whose executions of `batch` take these times, and nothing else takes any."""
    times = np.broadcast_to(np.asarray(seconds, float), (max(np.size(seconds), 8),))
    return Observed({model: Executions({(batch, 0): np.stack([times, times], 1)})})


def mean_wait(service, rate, requests=20_000, **batching):
    result = simulate(observed(service), {"m": Batching(**batching)}, arrivals("poisson", rate, requests, 1))
    return result.latencies_s.mean() - np.mean(service)


def test_an_mm1_queue_waits_as_long_as_the_textbook_says():
    service = np.random.default_rng(0).exponential(1.0, 20_000)
    assert mean_wait(service, 0.6) == pytest.approx(0.6 / (1 - 0.6), rel=0.08)


def test_an_md1_queue_waits_half_as_long_as_mm1():
    assert mean_wait(1.0, 0.6) == pytest.approx(0.6 / (2 * (1 - 0.6)), rel=0.05)


def test_two_servers_wait_as_erlang_c_says():
    service = np.random.default_rng(0).exponential(1.0, 20_000)
    load = 1.2  # erlangs: a request finds both busy with load^2 / (2 + load), then waits 1 / (2 - load)
    waits = load**2 / (2 + load)
    assert mean_wait(service, load, 60_000, instances=2) == pytest.approx(waits / (2 - load), rel=0.08)


def test_a_batch_server_answers_at_most_batches_of_the_largest_size():
    times = {(size, 0): np.full((8, 2), 1.0) for size in (1, 4, 8)}
    server = Observed({"m": Executions(times)})
    batching = Batching(max_batch_size=8, preferred=(8,))
    result = simulate(server, {"m": batching}, concurrency=64, seconds=500)
    assert result.throughput == pytest.approx(8.0, rel=0.02)
    assert set(result.batches["m"]) == {8}


def test_a_batch_is_answered_piece_by_piece_as_it_was_measured():
    times = {(size, 0): np.tile([(size + 1) / 2, float(size)], (8, 1)) for size in (1, 4)}
    batching = Batching(max_batch_size=4, preferred=(4,))
    waiting = [0.0, 0.1, 0.2, 0.3, 0.4]  # one alone until 1, then four together, answered at 2, 3, 4 and 5
    result = simulate(Observed({"m": Executions(times)}), {"m": batching}, waiting)
    assert result.latencies_s.tolist() == pytest.approx([1, 1.9, 2.8, 3.7, 4.6])


def test_batches_grow_with_the_load():
    times = {(size, 0): np.full((8, 2), 1.0 + 0.1 * size) for size in range(1, 9)}
    server = Observed({"m": Executions(times)})

    def size(rate):
        batching = Batching(max_batch_size=8, preferred=(8,))
        result = simulate(server, {"m": batching}, arrivals("poisson", rate, 5_000))
        return 5_000 / result.batches["m"].total()

    assert 1 < size(0.5) < size(1.5) < size(3.0) <= 8


@pytest.mark.parametrize(
    ("waiting", "waited_s", "taken"),
    [(1, 0, 1), (3, 0, 3), (4, 0, 4), (7, 0, 4), (13, 0, 8), (40, 0, 32), (100, 9, 32)],
)
def test_without_a_delay_the_largest_preferred_size_that_waits_is_taken(waiting, waited_s, taken):
    assert Batching(2, 32, (4, 8, 16, 32)).take(waiting, waited_s) == taken


@pytest.mark.parametrize(
    ("waiting", "waited_s", "taken"), [(3, 0.0, 0), (3, 0.001, 0), (3, 0.002, 3), (9, 0.0, 8), (9, 0.002, 9)]
)
def test_a_delay_lets_requests_wait_for_a_preferred_size(waiting, waited_s, taken):
    assert Batching(1, 32, (8,), delay_s=0.002).take(waiting, waited_s) == taken


def test_a_delay_is_waited_and_no_longer():
    server = simulate(observed(0.01), {"m": Batching(1, 8, (8,), delay_s=0.005)}, [1.0])
    assert server.latencies_s == pytest.approx([0.015])


def test_what_a_config_says_is_simulated():
    config = text_format.Parse(
        """name: "m" max_batch_size: 16
        instance_group { count: 2 } instance_group { count: 3 }
        dynamic_batching {
          preferred_batch_size: [8, 4] max_queue_delay_microseconds: 2000
          default_queue_policy { max_queue_size: 64 default_timeout_microseconds: 5000000 }
        }""",
        model_config_pb2.ModelConfig(),
    )
    assert Batching.of_config(config) == Batching(5, 16, (4, 8), 0.002, 64, 5.0)
    config.dynamic_batching.default_queue_policy.timeout_action = model_config_pb2.ModelQueuePolicy.DELAY
    assert Batching.of_config(config).timeout_s == 0
    del config.dynamic_batching.preferred_batch_size[:]
    assert Batching.of_config(config).preferred == (16,)
    config.ClearField("dynamic_batching")
    assert Batching.of_config(config) == Batching(5)


def test_models_of_the_repository_are_read_and_others_refused():
    stations = calibration.batchings("recognize_objects", REPOSITORY)
    assert list(stations) == ["recognize_objects"]
    assert stations["recognize_objects"].max_queue_size == 256
    with configured(""):
        assert list(calibration.batchings("recognize_objects", REPOSITORY)) == [
            "image_decoder",
            "efficientnet_lite0",
        ]
    for model, reason in (("text_stream", "sequences"), ("read_text", "calls other models")):
        with pytest.raises(PerfError, match=reason):
            calibration.batchings(model, REPOSITORY)


def test_a_full_queue_refuses():
    everything_at_once = np.full(50, 1.0)
    result = simulate(observed(1.0), {"m": Batching(max_queue_size=9)}, everything_at_once)
    assert len(result.latencies_s) + result.rejected == 50
    assert result.rejected == 50 - 9 or result.rejected == 50 - 10  # one may already be executed


def test_a_request_that_waits_too_long_is_refused():
    result = simulate(observed(1.0), {"m": Batching(timeout_s=1.5)}, [0.0, 0.1, 0.2, 0.3])
    assert (len(result.latencies_s), result.rejected) == (2, 2)


def test_stations_of_an_ensemble_add_up():
    both = Observed({n: Executions({(1, 0): np.full((8, 2), t)}) for n, t in (("a", 0.1), ("b", 0.3))}, 2)
    result = simulate(both, {"a": Batching(), "b": Batching()}, concurrency=8, seconds=100)
    assert result.throughput == pytest.approx(1 / 0.3, rel=0.02)
    assert result.busy["a"] == pytest.approx(0.33, abs=0.02)
    assert simulate(both, {"a": Batching(), "b": Batching()}, [1.0]).latencies_s == pytest.approx([0.4])


def test_a_missed_call_leaves_an_instance_idle_until_the_next_arrival():
    server = observed(0.1)
    server.missed_end = {0: 1.0}
    result = simulate(server, {"m": Batching()}, [0.0, 0.01, 0.35])
    assert sorted(result.latencies_s.round(3)) == [0.1, 0.35, 0.44]  # Triton looks again after 0.5 s


def test_sizes_that_were_not_measured_lie_between_those_that_were():
    pools = {(size, 0): np.full((8, 2), seconds) for size, seconds in ((2, 2.0), (4, 3.0))}
    executions, random = Executions(pools), np.random.default_rng(0)
    assert executions.draw(3, 0, random) == pytest.approx((2.5, 2.5))
    assert executions.draw(8, 1, random) == pytest.approx((6.0, 6.0))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_arrivals_come_at_their_rate(distribution):
    times = arrivals(distribution, 200, 100_000, seed=3)
    assert len(times) / times[-1] == pytest.approx(200, rel=0.1)
    assert (np.diff(times) >= 0).all()


def test_bursts_vary_more_than_strangers():
    counts = {d: np.bincount(arrivals(d, 100, 50_000).astype(int)) for d in DISTRIBUTIONS}
    assert counts["constant"].std() < counts["poisson"].std() < counts["bursty"].std()


def test_what_was_observed_survives_its_file():
    times = np.random.default_rng(0).gamma(9, 1e-3, (1000, 2))
    one = Observed({"m": Executions({(1, 0): times, (4, 1): times * 3})}, 2, {0: times[:, 0]}, fixed_s=2e-4)
    again = Observed.of_json(json.loads(json.dumps(one.as_json())))
    assert again.executions["m"].mean(1, 0) == pytest.approx(one.executions["m"].mean(1, 0), rel=0.01)
    assert again.executions["m"].mean(4, 1) == pytest.approx(one.executions["m"].mean(4, 1), rel=0.01)
    assert np.median(again.wake_s[0]) == pytest.approx(np.median(times[:, 0]), rel=0.01)
    assert (again.instances, again.fixed_s) == (2, pytest.approx(2e-4))


def test_a_rate_within_the_slo_is_found_and_falls_with_the_slo(monkeypatch):
    monkeypatch.setattr(planning, "REQUESTS", 3000)
    service = np.random.default_rng(0).gamma(16, 0.01 / 16, 2000)
    replica = Replica(1, {"m": Batching()})
    tight, wide = (replica_capacity(observed(service), replica, slo) for slo in (25, 80))
    assert tight.rate < wide.rate < wide.peak
    assert tight.p99_ms <= 25
    assert tight.utilisation == pytest.approx(tight.rate / tight.peak)
    with pytest.raises(PerfError, match=r"p99 of 5 ms: on an idle replica it is 1\d\.\d ms"):
        replica_capacity(observed(service), replica, 5)
    double = replica_capacity(observed(service), replica.times(2), 25)
    assert double.rate > 2 * tight.rate  # one queue for two


def test_more_requests_never_take_less():
    replica = Replica(2, {"m": Batching()})
    one = Capacity(150.0, 55.0, 300.0, 0.5, "m", {"m": 0.5})
    rows = [plan(rate, replica, one, 150_000, Assumptions()) for rate in np.geomspace(10, 1e6, 30)]
    for figure in ("replicas", "replicas_n_plus_1", "cores", "gbit", "balancers"):
        values = [getattr(row, figure) for row in rows]
        assert values == sorted(values)
    assert rows[0].breaks_first == "nothing"
    assert rows[-1].breaks_first == "one replica (m)"
    assert rows[-1].broken[1] == "one balancer's network"
    by_network = plan(1e4, replica, one, 1e8, Assumptions(node_gbit=1))
    assert by_network.breaks_first == "one replica's network"
    assert by_network.node_gbit <= 0.7
    assert rows[-1].replicas == 6667  # 1e6 / 150
    with pytest.raises(PerfError, match="above 0"):
        plan(0, replica, one, 150_000, Assumptions())


def trace_file(path, *batches):
    """Triton's trace of batches (start ms, end ms, requests), each request queued 1 ms before its start.

    The last answer is computed by the end, each one before it a millisecond earlier.
    """
    entries, number = [], 0
    for start, last, requests in batches:
        for end in range(last - requests + 1, last + 1):
            number += 1
            entries.append({"id": number, "model_name": "m", "model_version": 1})
            times = {
                "REQUEST_START": start - 1,
                "QUEUE_START": start - 1,
                "COMPUTE_START": start,
                "COMPUTE_OUTPUT_START": end - 1,
                "INFER_RESPONSE_COMPLETE": end - 0.5,
                "COMPUTE_END": end,
            }
            stamps = [{"name": name, "ns": int(1e9 + time * 1e6)} for name, time in times.items()]
            entries += [{"id": number, "timestamps": stamps[:3]}, {"id": number, "timestamps": stamps[3:]}]
    path.write_text(json.dumps(entries))
    return path


def test_a_trace_tells_executions_and_who_ran_beside_them(tmp_path):
    read = traces.read_trace(trace_file(tmp_path / "a.json", (10, 20, 1), (15, 30, 4), (40, 48, 1)))
    assert read["m"].executions[:, 3].tolist() == [1, 4, 1]
    found = traces.observe([read], {"m": 2}, 1e-4)
    pools = found.executions["m"].pools
    assert {key: pool.tolist() for key, pool in pools.items()} == {
        (1, 0): [pytest.approx([0.0095, 0.010]), pytest.approx([0.0075, 0.008])],
        (4, 1): [pytest.approx([0.0130, 0.015])],  # answered after 11.5, 12.5, 13.5 and 14.5 ms
    }
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(ValueError, match=r"b\.json holds no complete trace"):
        traces.read_trace(tmp_path / "b.json")


@pytest.fixture
def calibrated(tmp_path, monkeypatch):
    """A file as a calibration writes it, of a made-up machine; simulations of it are short."""
    monkeypatch.setattr(planning, "REQUESTS", 2000)
    times = np.random.default_rng(0).gamma(100, 6e-5, 300)
    pools = {(size, k): np.stack([times, times], 1) * size for size in (1, 4) for k in (0, 1)}
    one = Observed({"efficientnet_lite0": Executions(pools)}, 2, fixed_s=3e-4)
    raw = record(
        "capacity",
        model=capacity.model_facts(REPOSITORY, "efficientnet_lite0"),
        composing=[],
        bytes={"request": {"JPEG": 95_000, "pixels": 150_528}, "answer": 4000},
        observed=one.as_json(),
        comparison=[],
    )
    save(tmp_path / "raw.json", raw)
    return tmp_path / "raw.json"


def test_a_calibration_answers_without_measuring(calibrated, capsys):
    assert main(["capacity", "--rate=5000", f"--from={calibrated}", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (size,) = answer["replicas"]
    rows = {row["rate"]: row for row in size["plans"]["JPEG"]}
    assert sorted(rows) == [100, 1000, 5000, 10_000, 100_000, 1_000_000]
    assert rows[5000]["replicas_n_plus_1"] == rows[5000]["replicas"] + 1
    assert rows[5000]["replicas"] == -(-5000 // size["capacity"]["rate"])
    assert main(["capacity", "--rate=5000", f"--from={calibrated}"]) == 0
    assert "replicas" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate=0"], "--rate is above 0"),
        (["--slo-p99-ms=3"], "no number of replicas reaches a p99 of 3 ms"),
        (["--slo-p99-ms=0"], "an SLO is above 0 ms"),
        (["--check"], "--measure --check"),
        (["mobilenet_v2"], "is a calibration of efficientnet_lite0, not of mobilenet_v2"),
    ],
)
def test_what_cannot_be_planned_is_said(calibrated, capsys, arguments, message):
    assert main(["capacity", *arguments, f"--from={calibrated}"]) == 1
    assert message in capsys.readouterr().err


def test_without_a_calibration_the_command_that_takes_one_is_named(tmp_path, capsys):
    assert main(["capacity", f"--from={tmp_path / 'none.json'}"]) == 1
    assert "--measure` takes one" in capsys.readouterr().err


def test_a_short_calibration_can_be_drawn_from(tmp_path, monkeypatch):
    one = calibration.Calibrator("efficientnet_lite0", REPOSITORY, tmp_path)
    one.traced(Load(4), 0.3)
    load, times = calibration.Arrivals.poisson(30, 2.0, 1, tmp_path)
    assert load.intervals.read_text().count("\n") == len(times)
    one.traced(load, 0.5)
    found = one.observed()
    assert {size for size, _ in found.executions["efficientnet_lite0"].pools} <= set(range(1, 33))
    assert simulate(found, one.batchings, times).percentile_ms(50) > 0
