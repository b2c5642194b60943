"""What is asked of Triton while inferences hang; the test stands in Triton's place."""

import asyncio
import contextlib
import json

import numpy as np
import uvloop

from server.tfserving import triton as module
from server.tfserving.triton import Triton
from server.tfserving.wire.tensors import Tensor
from tests.tfserving import BY_NAME

METADATA = json.dumps({"versions": ["1"], "inputs": [], "outputs": []}).encode()
X = {"x": Tensor(BY_NAME["DT_FLOAT"], (1,), np.float32([1]).tobytes())}


def test_inferences_that_hang_do_not_hold_up_what_is_asked_about_models(monkeypatch):
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 4)  # of which one model gets half
    hang, asked = asyncio.Event(), asyncio.Semaphore(0)

    async def handle(reader, writer):
        with contextlib.suppress(ConnectionError):
            if (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET"):
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
                writer.write(head % len(METADATA) + METADATA)
            else:
                asked.release()
            await hang.wait()
            writer.close()

    async def run():
        listener = await asyncio.start_server(handle, "127.0.0.1", 0)
        triton = Triton(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        inferences = [asyncio.create_task(triton.infer("hangs", None, X)) for _ in range(4)]
        for _ in range(2):
            await asked.acquire()
        assert (await triton.signature("other")).versions == (1,)
        hang.set()
        await triton.close()
        await asyncio.gather(*inferences, return_exceptions=True)
        listener.close()

    uvloop.run(asyncio.wait_for(run(), 60))
