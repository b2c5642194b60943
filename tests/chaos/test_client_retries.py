"""How many requests the client makes of its questions while nobody answers: counted at the gateway."""

import asyncio
import io
import os
import signal

import pytest
from PIL import Image

from client import AsyncVisionClient, Prediction, ServerOverloaded, VisionError
from tests.chaos.fleet import fleet, tritonservers
from tests.client.conversation.held_server import FREE, MODEL, write_model
from tests.gateways import Served, needs_haproxy
from tests.held import Gate

pytestmark = [needs_haproxy, pytest.mark.slow]

MOST = 1.1  # requests for each question
QUESTIONS = 300
MODEL_NAME = "taker"


def image(shade):
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "png")
    return file.getvalue()


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def served(tmp_path, gate, tenants):
    code = gate.code + "\n\ndef pass_unloading_gate():\n    pass\n" + MODEL
    write_model(tmp_path / "models", MODEL_NAME, code)
    with Served(
        tmp_path / "models", tmp_path / "log", tenants, "--gateway-concurrency=2", servers=1
    ) as served:
        yield served


def client_of(served, **options):
    key = served.tenants.keys["alice"]
    return AsyncVisionClient(f"grpc://{served.target}", api_key=key, concurrency=QUESTIONS, **options)


async def ask(client, picture):
    try:
        return await client.classify(picture, model=MODEL_NAME)
    except VisionError as error:
        return error


def inferences(served):
    return [line for line in served.logged() if line["endpoint"] == "infer"]


def test_an_outage_is_not_amplified(served, told):
    """The server is killed; each question is asked once, and one at a time asks whether it is back."""

    async def run():
        async with client_of(served, timeout_s=1.0, patience_s=2.0) as client:
            assert isinstance(await ask(client, image(FREE - 1)), Prediction)
            os.kill(next(iter(tritonservers(served).values())), signal.SIGKILL)
            asked, found = 0, []
            while fleet(served)["servers"]["s1"]["restarts"] == 0:
                batch = [ask(client, image(FREE - 1)) for _ in range(QUESTIONS)]
                asked += len(batch)
                found += await asyncio.gather(*batch)
                if asked >= 2 * QUESTIONS:
                    break
            return asked, found

    asked, found = asyncio.run(run())
    failed = [
        line for line in inferences(served) if line["status"] != 200 or line["grpc_status"] not in ("", "0")
    ]
    answered = sum(isinstance(one, Prediction) for one in found)
    told(f"{asked} questions in an outage, {len(failed)} requests refused, {answered} answered after it")
    assert len(failed) <= MOST * asked


def test_an_overload_is_not_amplified(served, gate, told):
    async def run():
        async with client_of(served, timeout_s=20.0, retries=3) as client:
            assert isinstance(await ask(client, image(FREE - 1)), Prediction)
            before = len(inferences(served))
            with gate.closed():
                held = [asyncio.create_task(ask(client, image(200))) for _ in range(2)]
                await asyncio.to_thread(gate.wait_until_held, 2)
                found = await asyncio.gather(*(ask(client, image(200)) for _ in range(QUESTIONS)))
            await asyncio.gather(*held)
            return found, len(inferences(served)) - before - len(held)

    found, requests = asyncio.run(run())
    told(f"{len(found)} questions to a server that is busy, {requests} requests")
    assert all(isinstance(one, ServerOverloaded) for one in found)
    assert QUESTIONS <= requests <= MOST * QUESTIONS
