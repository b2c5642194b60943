"""One Triton server in simpy: models in a row, the batcher of each, instances that share the cores."""

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import simpy
from numpy.typing import NDArray

from perf.capacity.simulation.batching import Batcher
from perf.capacity.simulation.observed import Observed

__all__ = ["SimulatedLoad", "simulate"]

# of Triton's batcher: default_wait_microseconds in core, src/dynamic_batch_scheduler.cc
LONGEST_SLEEP_S = 0.5

Arrivals = Sequence[float] | NDArray[np.float64]


class _Again(Protocol):
    """What a client does once it has its answer; it is given itself, to be passed on."""

    def __call__(self, again: "_Again", /) -> None: ...


@dataclass
class SimulatedLoad:
    """What a simulated load gave.

    latencies_s FP64 [answered requests], as the client sees them, in order of the answers
    seconds     simulated
    rejected    requests refused because a queue was full, or timed out in it
    batches     {model: Counter of batch sizes}
    busy        {model: share of the time that its instances were taken}
    """

    latencies_s: NDArray[np.float64]
    seconds: float
    rejected: int
    batches: dict[str, Counter[int]] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)

    def percentile_ms(self, percent: float) -> float:
        """Of the latencies, milliseconds; percent: 0 to 100. Infinite if nothing was answered."""
        return float(np.percentile(self.latencies_s, percent)) * 1e3 if len(self.latencies_s) else np.inf

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return len(self.latencies_s) / self.seconds


def simulate(
    observed: Observed,
    batchings: dict[str, Batcher],
    arrivals_s: Arrivals | None = None,
    *,
    concurrency: int = 0,
    seconds: float = 0.0,
    seed: int = 0,
) -> SimulatedLoad:
    """Run a load through the models of `batchings`, one after the other (more than one: an ensemble).

    The load is open, requests at the times `arrivals_s`, and ends when all are answered; or it is closed:
    `concurrency` requests always under way, for so many simulated `seconds`.
    """
    if (arrivals_s is None) == (concurrency == 0):
        raise ValueError("a simulated load is either arrivals or a concurrency")
    server = _Server(observed, batchings, np.random.default_rng(seed))
    if arrivals_s is None:
        for _ in range(concurrency):
            server.send(server.send)
        server.env.run(until=seconds)
    else:
        server.env.process(server.source(arrivals_s))
        server.env.run()
    # an open load is over with its last answer, though the batcher may sleep on
    elapsed = seconds if arrivals_s is None else server.last_s or float(server.env.now)
    return SimulatedLoad(
        np.array(server.latencies),
        elapsed,
        server.rejected,
        {name: station.batches for name, station in server.stations.items()},
        {name: station.taken_s / elapsed / station.instances for name, station in server.stations.items()},
    )


class _Request:
    __slots__ = ("again", "sent", "step", "waits_since")

    def __init__(self, sent: float, again: "_Again | None") -> None:
        self.sent, self.again, self.step, self.waits_since = sent, again, 0, sent


class _Server:
    """The load's path: client, front end, each station, front end, client."""

    def __init__(self, observed: Observed, batchings: dict[str, Batcher], random: np.random.Generator):
        self.env = simpy.Environment()
        self.observed, self.random = observed, random
        self.stations = {name: _Station(self, name, batching) for name, batching in batchings.items()}
        self.path = list(self.stations.values())
        self.instances = sum(station.instances for station in self.path)
        self.latencies: list[float] = []
        self.rejected = 0
        self.last_s = 0.0

    def after(self, seconds: float, action: Callable[..., None], *arguments: object) -> None:
        waiting = self.env.timeout(seconds)
        if waiting.callbacks is not None:  # it is of the past then, as a timeout that is new never is
            waiting.callbacks.append(lambda _: action(*arguments))

    def busy(self) -> int:
        """Instances at work; of a server of another size, as many of the measured one's at the same share."""
        taken = sum(station.instances - station.free for station in self.path)
        if self.instances == self.observed.instances:
            return taken
        return round(taken * self.observed.instances / self.instances)

    def drawn(self, pools: dict[int, NDArray[np.float64]]) -> float:
        pool = pools[min(self.busy(), max(pools))]
        return float(pool[self.random.integers(len(pool))])

    def source(self, arrivals_s: Arrivals) -> Generator[simpy.Event, None, None]:
        for time in arrivals_s:
            yield self.env.timeout(max(0.0, time - self.env.now))
            # the client's thread wakes late, too, which latency does not count
            self.after(self.drawn(self.observed.wake_s), self.send)

    def send(self, again: "_Again | None" = None) -> None:
        """A client sends; `again` is called once it has its answer."""
        request = _Request(self.env.now, again)
        self.after(self.drawn(self.observed.wake_s) + self.observed.fixed_s / 2, self.offer, request)

    def offer(self, request: _Request) -> None:
        self.path[request.step].offer(request)

    def passed(self, request: _Request) -> None:
        """A station has answered: on to the next, or back to the client."""
        request.step += 1
        if request.step < len(self.path):
            self.offer(request)
        else:
            self.after(self.drawn(self.observed.wake_s) + self.observed.fixed_s / 2, self.answered, request)

    def answered(self, request: _Request) -> None:
        self.last_s = float(self.env.now)
        self.latencies.append(self.last_s - request.sent)
        if request.again:
            request.again(request.again)

    def reject(self, request: _Request) -> None:
        self.rejected += 1
        if request.again:  # a closed load asks again, as perf_analyzer would not; not at once, or time stands
            self.after(1e-3, request.again, request.again)


class _Station:
    """A model: its queue, its batcher and its instances."""

    def __init__(self, server: _Server, name: str, batching: Batcher):
        self.server, self.batching = server, batching
        self.executions = server.observed.executions[name]
        self.instances = self.free = batching.instances
        self.queue: deque[_Request] = deque()
        self.waking = False
        self.batches: Counter[int] = Counter()
        self.taken_s = 0.0

    def offer(self, request: _Request) -> None:
        if self.batching.max_queue_size and len(self.queue) >= self.batching.max_queue_size:
            self.server.reject(request)
            return
        request.waits_since = self.server.env.now
        self.queue.append(request)
        self.wake(self.server.observed.wake_s, self.server.observed.missed_arrival)

    def wake(self, pools: dict[int, NDArray[np.float64]], missed: dict[int, float]) -> None:
        """The batcher looks at the queue when its thread gets to run, unless it misses the call."""
        if not self.free or not self.queue or self.waking:
            return
        if self.server.random.random() < missed[min(self.server.busy(), max(missed))]:
            self.server.after(LONGEST_SLEEP_S, self.form)
            return
        self.waking = True
        self.server.after(self.server.drawn(pools), self.form)

    def form(self) -> None:
        self.waking = False
        now, policy = self.server.env.now, self.batching
        while policy.timeout_s and self.queue and now - self.queue[0].waits_since > policy.timeout_s:
            self.server.reject(self.queue.popleft())
        while self.free and self.queue:
            waited = now - self.queue[0].waits_since
            size = policy.take(len(self.queue), waited)
            if not size:
                self.server.after(max(policy.delay_s - waited, 1e-6), self.form)
                return
            self.execute([self.queue.popleft() for _ in range(size)])

    def execute(self, batch: list[_Request]) -> None:
        answer_s, end_s = self.executions.draw(len(batch), self.server.busy(), self.server.random)
        self.free -= 1
        self.taken_s += end_s
        self.batches[len(batch)] += 1
        # A batch is answered piece by piece: evenly about the mean, up to the end.
        spread_s = min(end_s - answer_s, answer_s)
        for place, request in enumerate(batch):
            late = 2 * place / (len(batch) - 1) - 1 if len(batch) > 1 else 0  # -1 to 1
            self.server.after(answer_s + late * spread_s, self.server.passed, request)
        self.server.after(end_s, self.end)

    def end(self) -> None:
        self.free += 1
        self.wake(self.server.observed.next_s, self.server.observed.missed_end)
