"""The client reads text on the real server: lines and streams, over every transport; and when things fail."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from client import (
    AsyncVisionClient,
    InferenceFailed,
    InvalidImage,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    Reading,
    ServerUnavailable,
    StreamLost,
    VisionClient,
    line_columns,
)
from export.networks.text.charset import CHARSET
from perf.harness.serving import configured
from server import TritonServer
from tests.conftest import ROOT
from tests.processes import wait_until
from tests.text_lines import TEXTS, encoded, rendered

pytestmark = pytest.mark.grpc_streams
PROTOCOLS = ("grpc", "http")
TRANSPORTS = [("grpc", True), ("grpc", False), ("http", False)]
LINE = rendered(TEXTS[0])
COLUMNS = line_columns(LINE)


def address(server, protocol):
    return f"{protocol}://{server.grpc_url if protocol == 'grpc' else server.http_url}"


@pytest.fixture(params=PROTOCOLS)
def vision(request, server):
    with VisionClient(address(server, request.param)) as client:
        yield client


@pytest.fixture(params=TRANSPORTS, ids=["grpc stream", "grpc", "http"])
def transport(request, server):
    """An address, and whether to use a gRPC stream."""
    protocol, grpc_stream = request.param
    return address(server, protocol), grpc_stream


@pytest.fixture(scope="module")
def expected(server):
    """What the stream reads, by plain requests of tritonclient: one strip after the other."""
    padded = np.pad(COLUMNS, ((0, 0), (0, -COLUMNS.shape[1] % 32 + 64)), constant_values=255)
    strips = np.split(padded, padded.shape[1] // 32, axis=1)
    best = []
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        for i, strip in enumerate(strips):
            tensor = tritonclient.grpc.InferInput("strip", [1, 32, 32], "UINT8")
            tensor.set_data_from_numpy(np.ascontiguousarray(strip)[np.newaxis])
            flags = {"sequence_start": i == 0, "sequence_end": i == len(strips) - 1}
            answer = client.infer("text_stream", [tensor], sequence_id=4711, **flags)
            best += answer.as_numpy("log_probs")[0].argmax(1).tolist()
    kept = [b for b, before in zip(best, [0, *best], strict=False) if b not in (0, before)]
    return "".join(CHARSET[number - 1] for number in kept)


@pytest.mark.slow
def test_one_line_and_several(vision):
    reading = vision.read_text(LINE)
    assert reading.text == TEXTS[0]
    assert 0.5 < reading.confidence <= 1
    assert (reading.source, reading.model) == ("image 1", "read_text")
    assert reading.weights
    assert not reading.has_random_weights
    readings = vision.read_text([encoded(rendered(text)) for text in TEXTS], beam_width=4)
    assert [reading.source for reading in readings] == [f"image {i + 1}" for i in range(len(TEXTS))]
    assert sum(reading.text == text for reading, text in zip(readings, TEXTS, strict=True)) >= len(TEXTS) - 1


def test_a_bad_line_among_good_ones(vision, tmp_path):
    (tmp_path / "empty.png").touch()
    images = [LINE, tmp_path / "empty.png", b"no image", tmp_path / "missing.png", LINE]
    results = list(vision.read_text_iter(images, on_error="return"))
    assert [type(result) for result in results] == [Reading, *[InvalidImage] * 3, Reading]
    said = [str(result) for result in results[1:4]]
    assert "empty.png: empty" in said[0]
    assert "image 3: not a JPEG, PNG, WEBP or GIF image" in said[1]
    assert "missing.png: no such file" in said[2]
    with pytest.raises(InvalidImage) as caught:
        vision.read_text(images)
    assert caught.value.index == 1


def test_what_the_server_or_the_model_cannot_do(vision):
    with pytest.raises(InvalidInput, match="beam_width is 65"):
        vision.read_text(LINE, 65)
    with pytest.raises(ModelNotFound, match=r"those that are ready: .*read_text"):
        vision.read_text(LINE, model="no_such_model")
    with pytest.raises(ModelNotFound, match=r"those that are ready: .*text_stream"):
        vision.stream_text(model="no_such_model").send(COLUMNS)
    with pytest.raises(InvalidInput, match="does not read lines of text"):
        vision.read_text(LINE, model="image_decoder")
    with pytest.raises(InvalidInput, match="does not read text in strips"):
        vision.stream_text(model="text_recognizer").send(COLUMNS)


@pytest.mark.parametrize("cut", [7, 32, 200, 10_000])
def test_a_stream_reads_the_same_over_every_transport_and_in_any_cut(transport, expected, cut):
    url, grpc_stream = transport
    grown = []
    with VisionClient(url) as client:
        with client.stream_text(grpc_stream=grpc_stream) as stream:
            for start in range(0, COLUMNS.shape[1], cut):
                grown.append(stream.send(COLUMNS[:, start : start + cut]))
        assert stream.text == expected
        assert all(later.startswith(before) for before, later in pairwise(grown))
        assert (stream.model, bool(stream.version), bool(stream.weights)) == ("text_stream", True, True)


def test_streams_of_asyncio_side_by_side(transport, expected):
    url, grpc_stream = transport

    async def one(client, delay):
        async with client.stream_text(grpc_stream=grpc_stream) as stream:
            for start in range(0, COLUMNS.shape[1], 50 + delay):
                await stream.send(COLUMNS[:, start : start + 50 + delay])
        return stream.text

    async def run():
        async with AsyncVisionClient(url) as client:
            assert (await client.read_text(LINE)).text == TEXTS[0]
            return await asyncio.gather(*(one(client, i) for i in range(10)))

    assert set(asyncio.run(run())) == {expected}


def test_streams_in_threads_do_not_mix(transport, expected):
    url, grpc_stream = transport

    def one(i):
        with client.stream_text(grpc_stream=grpc_stream) as stream:
            for start in range(0, COLUMNS.shape[1], 40 + i):
                stream.send(COLUMNS[:, start : start + 40 + i])
        return stream.text

    with VisionClient(url) as client, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(16))) == {expected}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A server that keeps one sequence at a time, for an hour: one that is left open blocks all others."""
    repository = tmp_path_factory.mktemp("narrow") / "repository"
    shutil.copytree(ROOT / "model_repository" / "text_stream", repository / "text_stream")
    path = repository / "text_stream" / "config.pbtxt"
    config = text_format.Parse(path.read_text(), ModelConfig())
    config.sequence_batching.max_sequence_idle_microseconds = 3_600_000_000
    config.sequence_batching.oldest.max_candidate_sequences = 1
    del config.instance_group[:]
    config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_CPU)
    path.write_text(text_format.MessageToString(config))
    with TritonServer(repository) as running:
        yield running


def ended_by_another(server, stream):
    """As when the server has let go of the sequence, without waiting for it."""
    tensor = tritonclient.grpc.InferInput("strip", [1, 32, 32], "UINT8")
    tensor.set_data_from_numpy(np.full((1, 32, 32), 255, np.uint8))
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        client.infer("text_stream", [tensor], sequence_id=stream.correlation_id, sequence_end=True)


@pytest.mark.parametrize(("protocol", "grpc_stream"), TRANSPORTS)
def test_a_lost_stream_says_so_and_what_to_do(narrow, expected, protocol, grpc_stream):
    with VisionClient(address(narrow, protocol)) as client:
        stream = client.stream_text(grpc_stream=grpc_stream)
        stream.send(COLUMNS[:, :64])
        ended_by_another(narrow, stream)
        with pytest.raises(StreamLost, match="Begin another stream and send the line again"):
            stream.send(COLUMNS[:, 64:128])
        with pytest.raises(InvalidInput, match="has failed"):
            stream.send(COLUMNS)
        assert stream.close() == stream.text
        with client.stream_text(grpc_stream=grpc_stream) as again:
            again.send(COLUMNS)
        assert again.text == expected


@pytest.mark.parametrize(("protocol", "grpc_stream"), TRANSPORTS)
def test_no_sequence_stays_open(narrow, expected, protocol, grpc_stream):
    """Each of these would take the only place there is, and the line after it would wait for an hour."""
    url = address(narrow, protocol)
    for way in ("bad columns", "client closed", "abandoned"):
        with VisionClient(url) as client:
            stream = client.stream_text(grpc_stream=grpc_stream)
            stream.send(COLUMNS)
            if way == "abandoned":
                stream.abandon()
            elif way == "bad columns":
                with suppress(InvalidImage), stream:
                    stream.send(COLUMNS / 255)
        with VisionClient(url) as client, client.stream_text(grpc_stream=grpc_stream) as stream:
            stream.send(COLUMNS)
        assert stream.text == expected


@pytest.mark.parametrize("grpc_stream", [True, False])
def test_a_cancelled_task_leaves_no_sequence_open(narrow, expected, grpc_stream):
    async def read_forever(client, begun):
        async with client.stream_text(grpc_stream=grpc_stream) as stream:
            while True:
                await stream.send(COLUMNS)
                begun.set()

    async def run():
        async with AsyncVisionClient(narrow.grpc_url) as client:
            begun = asyncio.Event()
            task = asyncio.create_task(read_forever(client, begun))
            await begun.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with client.stream_text(grpc_stream=grpc_stream) as stream:
                await stream.send(COLUMNS)
            return stream.text

    assert asyncio.run(run()) == expected


def test_closing_the_client_ends_a_stream_that_is_under_way(transport):
    url, grpc_stream = transport
    client = VisionClient(url)
    stream = client.stream_text(grpc_stream=grpc_stream)
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(stream.send, np.tile(COLUMNS, 200))
        wait_until(lambda: stream.version or sending.done())
        client.close()
        with pytest.raises(InferenceFailed, match="the client was closed"):
            sending.result()


def test_a_stream_leaves_no_thread(server):
    before = set(threading.enumerate())
    with VisionClient(server.grpc_url) as client, client.stream_text(grpc_stream=True) as stream:
        stream.send(COLUMNS)
    wait_until(lambda: not set(threading.enumerate()) - before)


def test_closing_ends_a_stream_of_asyncio_that_is_under_way(transport):
    url, grpc_stream = transport

    async def run():
        client = AsyncVisionClient(url)
        stream = client.stream_text(grpc_stream=grpc_stream)
        sending = asyncio.create_task(stream.send(np.tile(COLUMNS, 200)))
        while not (stream.version or sending.done()):
            await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(InferenceFailed, match="the client was closed"):
            await sending

    asyncio.run(run())


def test_a_program_ends_that_has_closed_nothing(server):
    program = f"""
import numpy as np
from client import VisionClient

client = VisionClient({server.grpc_url!r})
stream = client.stream_text(grpc_stream=True)
stream.send(np.full((32, 64), 255, np.uint8))
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_a_server_that_dies_ends_its_streams(tmp_path):
    (tmp_path / "text_stream").symlink_to(ROOT / "model_repository" / "text_stream")
    with TritonServer(tmp_path) as server:
        clients = [(VisionClient(address(server, protocol), retries=0), way) for protocol, way in TRANSPORTS]
        streams = [client.stream_text(grpc_stream=way) for client, way in clients]
        for stream in streams:
            stream.send(COLUMNS)
        for child in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        for stream in streams:
            with pytest.raises(StreamLost, match="its state is lost"):
                stream.send(COLUMNS)
            assert stream.close() == stream.text
        for client, _ in clients:
            with pytest.raises(ServerUnavailable):
                client.read_text(LINE)
            client.close()


@pytest.fixture
def run(server):
    def run(*arguments, **options):
        command = [sys.executable, "-m", "client", *map(str, arguments)]
        environment = {**os.environ, "TRITON_VISION_URL": server.grpc_url}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, **options)

    return run


@pytest.fixture(scope="module")
def line_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines with spaces")
    LINE.save(folder / "a line.png")
    rendered(TEXTS[4], ink="white", paper="black").save(folder / "inverted.jpg")
    (folder / "text.png").write_text("not an image")
    return folder


def test_the_command_reads_lines(run, line_files):
    result = run("read", line_files / "a line.png", line_files / "inverted.jpg")
    first, second = result.stdout.decode().splitlines()
    assert result.returncode == 0, result.stderr
    assert first.startswith(f"{line_files / 'a line.png'} (")
    assert first.endswith(f"%): {TEXTS[0]}")
    assert second.endswith(TEXTS[4])


def test_the_command_as_json_lines_with_a_bad_image(run, line_files, server):
    http = ("--protocol", "http", "--url", server.http_url)
    result = run("read", line_files, "--json", "--beam-width", 4, *http)
    line, inverted, bad = (json.loads(row) for row in result.stdout.splitlines())
    assert result.returncode == 1
    assert line.keys() == {"image", "model", "version", "weights", "text", "confidence"}
    assert (line["text"], inverted["text"]) == (TEXTS[0], TEXTS[4])
    assert bad["error"]["type"] == "InvalidImage"
    assert b"1 of 3 images failed" in result.stderr


def test_the_command_shows_the_text_grow(run, line_files, expected):
    result = run("read", "--stream", line_files / "a line.png", line_files / "text.png")
    assert result.returncode == 1
    *growing, last, bad = result.stdout.decode().splitlines()
    texts = [row.partition("columns  ")[2] for row in growing]
    assert len(texts) == -(-COLUMNS.shape[1] // 32)
    assert all(later.startswith(before) for before, later in pairwise(texts))
    assert last == f"{line_files / 'a line.png'}: {expected}"
    assert "error: cannot be decoded" in bad


def test_the_command_streams_json_and_standard_input(run, expected, server):
    http = ("--protocol", "http", "--url", server.http_url)
    result = run("read", "--stream", "-", "--json", *http, input=encoded(LINE))
    assert result.returncode == 0, result.stderr
    *growing, last = (json.loads(row) for row in result.stdout.splitlines())
    assert [row["columns"] for row in growing] == [*range(32, COLUMNS.shape[1], 32), COLUMNS.shape[1]]
    assert (last["image"], last["text"]) == ("-", expected)
    assert "confidence" not in last


def test_the_command_without_the_model(run, line_files):
    result = run("read", line_files / "a line.png", "--model", "no_such_model")
    assert result.returncode == 4
    assert b"those that are ready" in result.stderr


@pytest.mark.slow
def test_a_reader_without_its_recogniser(tmp_path):
    (tmp_path / "read_text").symlink_to(ROOT / "model_repository" / "read_text")
    with configured(""), TritonServer(tmp_path) as server:  # it asks its recogniser, as on a GPU
        for protocol in PROTOCOLS:
            client = VisionClient(address(server, protocol), retries=0)
            with client, pytest.raises(ModelNotReady, match="text_recognizer"):
                client.read_text(LINE)
