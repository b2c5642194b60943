"""The simulation gives textbook results, and batches as Triton does."""

import numpy as np
import pytest

from perf.capacity.simulation import Batcher, ExecutionTimes, Observed, arrivals, simulate


def observed(seconds, batch=1, model="m"):
    """A server whose executions of `batch` take these times, and nothing else takes any."""
    times = np.broadcast_to(np.asarray(seconds, float), (max(np.size(seconds), 8),))
    return Observed({model: ExecutionTimes({(batch, 0): np.stack([times, times], 1)})})


def mean_wait(service, rate, requests=20_000, **batching):
    result = simulate(observed(service), {"m": Batcher(**batching)}, arrivals("poisson", rate, requests, 1))
    return result.latencies_s.mean() - np.mean(service)


def test_an_mm1_queue_waits_as_long_as_the_textbook_says():
    service = np.random.default_rng(0).exponential(1.0, 20_000)
    assert mean_wait(service, 0.6) == pytest.approx(0.6 / (1 - 0.6), rel=0.08)


def test_an_md1_queue_waits_half_as_long_as_mm1():
    assert mean_wait(1.0, 0.6) == pytest.approx(0.6 / (2 * (1 - 0.6)), rel=0.05)


@pytest.mark.slow
def test_two_servers_wait_as_erlang_c_says():
    service = np.random.default_rng(0).exponential(1.0, 20_000)
    load = 1.2  # erlangs: a request finds both busy with load^2 / (2 + load), then waits 1 / (2 - load)
    waits = load**2 / (2 + load)
    assert mean_wait(service, load, 60_000, instances=2) == pytest.approx(waits / (2 - load), rel=0.08)


def test_a_batch_server_answers_at_most_batches_of_the_largest_size():
    times = {(size, 0): np.full((8, 2), 1.0) for size in (1, 4, 8)}
    server = Observed({"m": ExecutionTimes(times)})
    batching = Batcher(max_batch_size=8, preferred=(8,))
    result = simulate(server, {"m": batching}, concurrency=64, seconds=500)
    assert result.throughput == pytest.approx(8.0, rel=0.02)
    assert set(result.batches["m"]) == {8}


def test_a_batch_is_answered_piece_by_piece_as_it_was_measured():
    times = {(size, 0): np.tile([(size + 1) / 2, float(size)], (8, 1)) for size in (1, 4)}
    batching = Batcher(max_batch_size=4, preferred=(4,))
    waiting = [0.0, 0.1, 0.2, 0.3, 0.4]  # one alone until 1, then four together, answered at 2, 3, 4 and 5
    result = simulate(Observed({"m": ExecutionTimes(times)}), {"m": batching}, waiting)
    assert result.latencies_s.tolist() == pytest.approx([1, 1.9, 2.8, 3.7, 4.6])


def test_batches_grow_with_the_load():
    times = {(size, 0): np.full((8, 2), 1.0 + 0.1 * size) for size in range(1, 9)}
    server = Observed({"m": ExecutionTimes(times)})

    def size(rate):
        batching = Batcher(max_batch_size=8, preferred=(8,))
        result = simulate(server, {"m": batching}, arrivals("poisson", rate, 5_000))
        return 5_000 / result.batches["m"].total()

    assert 1 < size(0.5) < size(1.5) < size(3.0) <= 8


def test_a_delay_is_waited_and_no_longer():
    server = simulate(observed(0.01), {"m": Batcher(1, 8, (8,), delay_s=0.005)}, [1.0])
    assert server.latencies_s == pytest.approx([0.015])


def test_a_full_queue_refuses():
    everything_at_once = np.full(50, 1.0)
    result = simulate(observed(1.0), {"m": Batcher(max_queue_size=9)}, everything_at_once)
    assert len(result.latencies_s) + result.rejected == 50
    assert result.rejected == 50 - 9 or result.rejected == 50 - 10  # one may already be executed


def test_a_request_that_waits_too_long_is_refused():
    result = simulate(observed(1.0), {"m": Batcher(timeout_s=1.5)}, [0.0, 0.1, 0.2, 0.3])
    assert (len(result.latencies_s), result.rejected) == (2, 2)


def test_stations_of_an_ensemble_add_up():
    both = Observed({n: ExecutionTimes({(1, 0): np.full((8, 2), t)}) for n, t in (("a", 0.1), ("b", 0.3))}, 2)
    result = simulate(both, {"a": Batcher(), "b": Batcher()}, concurrency=8, seconds=100)
    assert result.throughput == pytest.approx(1 / 0.3, rel=0.02)
    assert result.busy["a"] == pytest.approx(0.33, abs=0.02)
    assert simulate(both, {"a": Batcher(), "b": Batcher()}, [1.0]).latencies_s == pytest.approx([0.4])


def test_a_missed_call_leaves_an_instance_idle_until_the_next_arrival():
    server = observed(0.1)
    server.missed_end = {0: 1.0}
    result = simulate(server, {"m": Batcher()}, [0.0, 0.01, 0.35])
    assert sorted(result.latencies_s.round(3)) == [0.1, 0.35, 0.44]  # Triton looks again after 0.5 s
