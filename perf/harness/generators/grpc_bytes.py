"""A gRPC load of ready-made bytes: whatever a method takes, sent over and over, its answers not parsed.

So two servers that take different messages are compared by the same client, at the same cost.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

import grpc

from perf.harness.errors import PerfError

__all__ = ["Driven", "drive"]

WARM_UP_REQUESTS = 20
TIMEOUT_S = 60.0


class Driven(TypedDict):
    """Of one load; latencies as the client sees them."""

    requests: int
    throughput: float
    p50_ms: float
    p99_ms: float


def drive(url: str, method: str, body: Path, concurrency: int, seconds: float, *, key: str = "") -> Driven:
    """Send the bytes of the file `body`, in a process of its own; key: for a gateway that asks for one.

    Raises `PerfError` with its last words.
    """
    command = [sys.executable, "-m", "perf.harness.generators.grpc_bytes", url, method, str(body)]
    command += [str(concurrency), str(seconds), key]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        told = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise PerfError(f"{method} at {url} cannot be measured: {told}")
    answer: Driven = json.loads(done.stdout)
    return answer


async def _drive(url: str, method: str, body: bytes, concurrency: int, seconds: float, key: str) -> Driven:
    metadata = [("x-api-key", key)] if key else []
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(url, options=[("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary(method)
        for _ in range(WARM_UP_REQUESTS):
            await call(body, timeout=TIMEOUT_S, metadata=metadata)
        start = time.perf_counter()
        end = start + seconds

        async def send() -> None:
            while (before := time.perf_counter()) < end:
                await call(body, timeout=TIMEOUT_S, metadata=metadata)
                latencies.append(1000 * (time.perf_counter() - before))

        await asyncio.gather(*[send() for _ in range(concurrency)])
        elapsed = time.perf_counter() - start
    latencies.sort()
    return {
        "requests": len(latencies),
        "throughput": len(latencies) / elapsed,
        "p50_ms": statistics.median(latencies),
        "p99_ms": latencies[int(len(latencies) * 0.99)],
    }


def main() -> None:
    """Print the answer as JSON."""
    parser = argparse.ArgumentParser(prog="python -m perf.harness.generators.grpc_bytes", description=__doc__)
    parser.add_argument("url", help="host:port")
    parser.add_argument("method", help="/package.Service/Method")
    parser.add_argument("body", type=Path, help="a file with the bytes of the request")
    parser.add_argument("concurrency", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("key", help='sent as x-api-key; "" is none')
    given = parser.parse_args()
    load = _drive(
        given.url, given.method, given.body.read_bytes(), given.concurrency, given.seconds, given.key
    )
    print(json.dumps(asyncio.run(load)))


if __name__ == "__main__":
    main()
