"""A stream whose server is killed: its state is lost and said to be, and the next stream waits."""

import json
import os
import signal

import pytest
from PIL import Image

from client import StreamLost, VisionClient, line_columns
from tests.client.conversation.held_server import (
    PATIENCE_S,
    PATIENT,
    Command,
    ports,
    serving,
    tritonserver,
    url_of,
)
from tests.conftest import ROOT
from tests.processes import wait_until
from tests.text_lines import TEXTS, rendered


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "grpc_stream"), [("grpc", True), ("grpc", False), ("http", False)])
def test_a_stream_that_loses_its_server_says_so_and_the_next_waits(protocol, grpc_stream, tmp_path):
    (tmp_path / "text_stream").symlink_to(ROOT / "model_repository" / "text_stream")
    columns = line_columns(rendered(TEXTS[0]))
    with serving(tmp_path) as first:
        again = ports(first)
        client = VisionClient(url_of(first, protocol), patience_s=PATIENCE_S)
        stream = client.stream_text(grpc_stream=grpc_stream)
        stream.send(columns)
        os.kill(tritonserver(first), signal.SIGKILL)
        first.wait()
        with pytest.raises(StreamLost, match=r"state is lost .* send the line again from its start"):
            stream.send(columns)
    with serving(tmp_path, **again), client:
        with client.stream_text(grpc_stream=grpc_stream) as stream:
            stream.send(columns)
        assert stream.text


@pytest.mark.slow
def test_the_command_reads_the_lines_after_one_that_was_lost(tmp_path):
    (tmp_path / "text_stream").symlink_to(ROOT / "model_repository" / "text_stream")
    lines = tmp_path / "lines"
    lines.mkdir()
    wide = Image.new("RGB", (60_000, 40), "white")
    wide.paste(rendered(TEXTS[0]).resize((59_000, 38)), (10, 1))
    wide.save(lines / "0.png")
    rendered(TEXTS[0]).save(lines / "1.png")
    with serving(tmp_path) as first:
        again = ports(first)
        command = Command(
            *("read", "--stream", lines, "--json", "--url", url_of(first, "grpc"), *PATIENT), pause_after=3
        )
        wait_until(lambda: len(command.lines) == 3)
        os.kill(tritonserver(first), signal.SIGKILL)
        first.wait()
    with serving(tmp_path, **again):
        status, errors = command.end()
    lost, read = (found for found in map(json.loads, command.lines) if "image" in found)
    assert (status, lost["error"]["type"]) == (1, "StreamLost"), errors
    assert read["text"]
