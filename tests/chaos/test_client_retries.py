"""How many requests the client makes of its questions while nobody answers: counted at the gateway."""

import asyncio
import io
from pathlib import Path

import pytest
from PIL import Image

from client import AsyncVisionClient, Prediction, ServerOverloaded, VisionError
from server.operations.gateway.runtime import Runtime
from tests.chaos.fleet import fleet
from tests.client.conversation.held_server import FREE, MODEL, write_model
from tests.gateways import Served, needs_haproxy
from tests.held import Gate

pytestmark = [needs_haproxy, pytest.mark.chaos]

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
    """No server is ready: each question is asked once, and one at a time asks whether one is back."""
    runtime = Runtime(Path(fleet(served)["gateway"]["socket"]))

    async def run():
        async with client_of(served, timeout_s=1.0, patience_s=3.0) as client:
            assert isinstance(await ask(client, image(FREE - 1)), Prediction)
            before = len(inferences(served))
            runtime.state("s1", "maint")
            found = await asyncio.gather(*(ask(client, image(FREE - 1)) for _ in range(QUESTIONS)))
            requests = len(inferences(served)) - before
            runtime.state("s1", "ready")
            return found, requests

    found, requests = asyncio.run(run())
    told(f"{len(found)} questions in an outage, {requests} requests")
    assert all(isinstance(one, VisionError) for one in found)
    assert QUESTIONS <= requests <= MOST * QUESTIONS


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
