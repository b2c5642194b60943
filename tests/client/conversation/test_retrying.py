"""The client in the middle of a batch when the server is killed, stops, restarts, or loads its model anew."""

import asyncio
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from client import (
    AsyncVisionClient,
    ModelNotFound,
    ModelNotReady,
    Prediction,
    ServerUnavailable,
    VisionClient,
)
from tests.client.conversation.held_server import (
    CONCURRENCY,
    FREE,
    IMAGES,
    PATIENCE_S,
    PATIENT,
    PROTOCOLS,
    Command,
    Launcher,
    ask,
    ports,
    serving,
    tritonserver,
    url_of,
)
from tests.processes import wait_until


def refuses(question):
    try:
        question()
    except InferenceServerException:
        return True
    return False


# Over HTTP a server that stops goes on answering on the connections that stand, for up to 30 s.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "ended_by"), [("grpc", signal.SIGKILL), ("grpc", signal.SIGTERM), ("http", signal.SIGKILL)]
)
def test_a_folder_goes_on_after_a_restart(protocol, ended_by, repository, gate, photos):
    concurrency = CONCURRENCY if ended_by == signal.SIGKILL else 1
    with serving(repository) as first, gate.closed():
        again = ports(first)
        command = Command(
            *("classify", photos, "--json", "--model", "taker", "--url", url_of(first, protocol)),
            *("--concurrency", concurrency, *PATIENT),
        )
        gate.wait_until_held(concurrency)
        wait_until(lambda: len(command.lines) == FREE)
        os.kill(tritonserver(first), ended_by)
        if ended_by == signal.SIGTERM:  # what is under way is answered, and nothing else
            with tritonclient.grpc.InferenceServerClient(first.grpc_url) as triton:
                wait_until(lambda: refuses(triton.is_server_ready))
            gate.open()
        first.wait()
        assert len(command.lines) < IMAGES
    with serving(repository, **again):
        status, errors = command.end()
    assert status == 0, errors
    names = [Path(json.loads(line)["image"]).name for line in command.lines]
    assert names == [f"{number:02}.png" for number in range(IMAGES)]
    assert all(json.loads(line)["classes"] for line in command.lines)
    assert "is stopping or restarting" in errors
    assert "answers again, after" in errors
    assert errors.count("waiting for it") == 1  # however many images wait


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("form", [["--json"], []])
def test_what_was_answered_is_kept_when_the_server_stays_away(protocol, form, repository, gate, photos):
    with serving(repository) as server, gate.closed():
        command = Command(
            *("classify", photos, "--model", "taker", "--url", url_of(server, protocol), "--patience", 1),
            *("--concurrency", CONCURRENCY, *form),
        )
        gate.wait_until_held(CONCURRENCY)
        os.kill(tritonserver(server), signal.SIGKILL)
        status, errors = command.end()
    assert status == 3, errors
    assert "answered before and has not come back" in errors
    assert "--patience" in errors
    answered = int(errors.split(f" of {IMAGES} images were answered before this")[0].split()[-1])
    assert answered == FREE
    shown = len(command.lines) if form else sum(".png" in line for line in command.lines)
    assert shown == answered
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_asyncio_outlasts_a_restart_too(protocol, repository, gate, photos):
    async def run(first):
        url, patient = url_of(first, protocol), {"patience_s": PATIENCE_S, "timeout_s": PATIENCE_S}
        async with AsyncVisionClient(url, concurrency=CONCURRENCY, **patient) as client:
            files = sorted(photos.glob("*.png"))
            with gate.closed():
                answers = asyncio.create_task(client.classify(files, model="taker"))
                await asyncio.to_thread(gate.wait_until_held, CONCURRENCY)
                os.kill(tritonserver(first), signal.SIGKILL)
                first.wait()
            second = await asyncio.to_thread(serving(repository, **ports(first)).start)
            try:
                return await answers
            finally:
                await asyncio.to_thread(second.stop)

    with serving(repository) as first:
        found = asyncio.run(run(first))
    assert len(found) == IMAGES
    assert all(isinstance(prediction, Prediction) for prediction in found)


@pytest.mark.slow
@pytest.mark.parametrize("program", [b"triton_python_backend_stub", b"bin/tritonserver"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_folder_goes_on_while_the_launcher_replaces_what_died(protocol, program, repository, gate, photos):
    with Launcher(repository) as launcher:
        command = Command(
            *("classify", photos, "--json", "--model", "taker", "--concurrency", CONCURRENCY, *PATIENT),
            *("--url", f"{protocol}://{launcher.urls[protocol]}"),
        )
        with gate.closed():
            gate.wait_until_held(CONCURRENCY)
            launcher.kill(program)
        status, errors = command.end()
    assert (status, len(command.lines)) == (0, IMAGES), errors
    assert all(json.loads(line)["classes"] for line in command.lines)


def test_a_server_that_unloads_its_models_is_stopping_not_without_them(repository, unloading, photos):
    """While it does, it says "unknown model"; live clients of gRPC see that."""
    with (
        serving(repository) as server,
        VisionClient(server.grpc_url, retries=0) as client,
        unloading.closed(),
    ):
        ask(client, photos)
        os.kill(tritonserver(server), signal.SIGTERM)
        seen = []
        with tritonclient.grpc.InferenceServerClient(server.grpc_url) as triton:

            def unloaded():
                try:
                    return not triton.get_model_config("taker")
                except InferenceServerException as error:
                    seen.append(error.message())
                    return True

            wait_until(unloaded)
        assert "unknown model" in seen[0]
        with pytest.raises(ServerUnavailable, match=r"is stopping|no Triton server answers"):
            ask(client, photos)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_is_loaded_anew_is_waited_for(protocol, with_broken, gate, unloading, photos, caplog):
    arguments = ["--model-control-mode=explicit", "--load-model=*"]
    with (
        serving(with_broken, arguments=arguments) as server,
        VisionClient(url_of(server, protocol), concurrency=CONCURRENCY, patience_s=PATIENCE_S) as client,
        tritonclient.grpc.InferenceServerClient(server.grpc_url) as triton,
    ):
        with ThreadPoolExecutor(1) as threads, unloading.closed(), gate.closed():
            answers = threads.submit(client.classify, sorted(photos.glob("*.png")), model="taker")
            gate.wait_until_held(CONCURRENCY)
            triton.unload_model("taker")
            gate.open()
            unloading.wait_until_held()
            wait_until(lambda: "; waiting for it" in caplog.text)
            unloading.open()
            triton.load_model("taker")
            assert len(answers.result()) == IMAGES
        with pytest.raises(ModelNotReady, match="luck"):  # it never was there: no reason to wait
            client.classify(photos / "00.png", model="broken")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_is_not_there_is_no_reason_to_wait(protocol, repository, photos, monkeypatch):
    with (
        serving(repository) as server,
        VisionClient(url_of(server, protocol), patience_s=PATIENCE_S) as client,
    ):
        ask(client, photos)
        monkeypatch.setattr(client._given_up, "wait", lambda seconds: pytest.fail(f"waited {seconds} s"))
        with pytest.raises(ModelNotFound, match="'nonesuch' not found; those that are ready: taker"):
            client.classify(photos / "00.png", model="nonesuch")


def test_closing_ends_the_waiting(repository, photos):
    with serving(repository) as server:
        client = VisionClient(server.grpc_url, patience_s=PATIENCE_S)
        ask(client, photos)
        os.kill(tritonserver(server), signal.SIGKILL)
        server.wait()
        failed = []
        waiting = threading.Thread(target=lambda: failed.append(caught(lambda: ask(client, photos))))
        waiting.start()
        client.close()
        waiting.join()
        assert len(failed) == 1


def caught(function):
    try:
        return function()
    except Exception as error:
        return error
