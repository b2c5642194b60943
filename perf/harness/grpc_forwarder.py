"""A gRPC server that hands the bytes of one method on to another server, and its bytes back, unread.

What one of Python's gRPC costs before it does anything: a request more to take and one more to send.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

import grpc

from perf.harness.errors import PerfError

__all__ = ["forwarding"]

UNBOUNDED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@contextlib.contextmanager
def forwarding(url: str, method: str) -> Iterator[tuple[str, int]]:
    """Within, a process serves `method` of the server at `url`: its own host:port, and its process id.

    Raises `PerfError` if it does not start.
    """
    command = [sys.executable, "-m", "perf.harness.grpc_forwarder", url, method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            where = process.stdout.readline().strip()
            if not where:
                raise PerfError("the forwarder did not start; its message is above")
            yield where, process.pid
        finally:
            process.terminate()


async def _serve(url: str, method: str) -> None:
    package, _, name = method.lstrip("/").partition("/")
    async with grpc.aio.insecure_channel(url, options=UNBOUNDED) as channel:
        call = channel.unary_unary(method)

        async def handed_on(body: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            answer: bytes = await call(body)
            return answer

        server = grpc.aio.server(options=[*UNBOUNDED, ("grpc.so_reuseport", 0)])
        handler = {name: grpc.unary_unary_rpc_method_handler(handed_on)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(package, handler)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"127.0.0.1:{port}", flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("method")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.url, arguments.method))
