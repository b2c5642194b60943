"""`python -m client` as scripts and people run it: a process of its own against the real server."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from client.cli.main import main
from tests.conftest import ROOT
from tests.pictures import pixels


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos with spaces")
    (folder / "more").mkdir()
    for name, place in (("chelsea", "cat.jpg"), ("coffee", "more/cup.png"), ("rocket", "more/rocket.webp")):
        Image.fromarray(pixels(name)).save(folder / place)
    (folder / "notes.txt").write_text("not a photograph")
    return folder


@pytest.fixture(scope="module")
def with_a_bad_one(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad") / "photos"
    shutil.copytree(photos, folder)
    cut = (folder / "cat.jpg").read_bytes()[:2000]
    (folder / "more" / "cut.jpg").write_bytes(cut)
    return folder


@pytest.fixture
def run(server):
    def run(*arguments, url=server.grpc_url, **options):
        command = [sys.executable, "-m", "client", *map(str, arguments)]
        environment = {**os.environ, "TRITON_VISION_URL": url, "COLUMNS": "200"}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, **options)

    return run


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_folder_as_json_lines(run, photos):
    result = run("classify", photos, "--json", "--top", 2)
    assert result.returncode == 0, result.stderr
    cat, cup, rocket, skipped = lines(result)
    assert [line["image"] for line in (cat, cup, rocket)] == [
        str(photos / name) for name in ("cat.jpg", "more/cup.png", "more/rocket.webp")
    ]
    assert "cat" in cat["classes"][0]["label"]
    assert [len(line["classes"]) for line in (cat, cup, rocket)] == [2, 2, 2]
    assert cat["model"] == "recognize_objects"
    assert cat["weights"].startswith("pretrained")
    assert skipped == {"skipped": {".txt": 1}}
    skipped_line, closing = result.stderr.decode().splitlines()
    assert skipped_line == "skipped 1 that are no images: 1 .txt."
    assert re.fullmatch(r"3 images in [\d.]+ s, [\d,.]+ a second\.", closing)


def test_one_bad_image_among_good_ones(run, with_a_bad_one, server):
    result = run("classify", with_a_bad_one, "--json", "--protocol", "http", "--url", server.http_url)
    assert result.returncode == 1
    *_, bad, last, _ = lines(result)
    assert bad["image"].endswith("cut.jpg")
    assert bad["error"]["type"] == "InvalidImage"
    assert last["classes"]
    assert b" a second; 1 of 4 images failed: 1 InvalidImage.\n" in result.stderr


def test_a_table(run, with_a_bad_one):
    result = run("classify", with_a_bad_one / "more", with_a_bad_one / "cat.jpg")
    assert result.returncode == 1
    text = result.stdout.decode()
    assert "recognize_objects version 1, weights: pretrained" in text
    assert text.index("cup.png") < text.index("cut.jpg") < text.index("rocket.webp") < text.index("cat.jpg")
    assert text.count("%") == 15
    assert "truncated" in text


def test_an_image_on_stdin(run, photos):
    result = run("classify", "-", "--json", "--top", 1, input=(photos / "cat.jpg").read_bytes())
    assert result.returncode == 0, result.stderr
    assert lines(result)[0]["image"] == "-"
    assert "cat" in lines(result)[0]["classes"][0]["label"]
    nothing = run("classify", "-", "--json", input=b"")
    assert nothing.returncode == 1
    assert "no bytes" in lines(nothing)[0]["error"]["message"]


def test_models(run):
    result = run("models", "--json")
    assert result.returncode == 0
    assert {line["name"]: line["state"] for line in lines(result)}["recognize_objects"] == "READY"
    table = run("models").stdout.decode()
    assert "onnxruntime" in table
    assert "pretrained" in table


def test_health(run):
    result = run("health", "--json")
    assert result.returncode == 0
    assert lines(result)[0]["ready"] is True
    assert b"is ready" in run("health").stdout


@pytest.mark.slow
def test_no_server(run):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{unused.getsockname()[1]}"
        for command in (["health"], ["models"], ["classify", "any.jpg"]):
            result = run(*command, url=url)
            assert (result.returncode, result.stdout) == (3, b"")
            assert b"make serve" in result.stderr
            assert b"Traceback" not in result.stderr


def test_no_model(run, photos):
    result = run("classify", photos, "--model", "nonesuch")
    assert result.returncode == 4
    assert b"'nonesuch' not found; those that are ready: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify"], "PHOTO"),
        ([], "COMMAND"),
        (["classify", str(ROOT / "docs" / "decisions")], "no images in"),
        (["classify", "x.jpg", "--top", "0"], "top_k is 0"),
        (["classify", "x.jpg", "--concurrency", "0"], "concurrency is 0"),
        (["health", "--url", "ftp://x"], "choose one of"),
        (["health", "--header", "nonsense"], "'Name: value'"),
        (["health", "--root-certificates", "missing.pem"], "missing.pem"),
    ],
)
def test_wrong_usage(arguments, said, capsys):
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["classify", "models", "health"])
def test_help_documents_exit_codes(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert "130  interrupted" in capsys.readouterr().out


def test_output_that_is_read_only_in_part(run, server, photos):
    script = 'python -m client classify "$@" --json --top 1000 | head -c 10'
    environment = {
        **os.environ,
        "TRITON_VISION_URL": server.grpc_url,
        "PATH": f"{Path(sys.executable).parent}:/bin",
    }
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "-", *[photos] * 10],
        cwd=ROOT,
        env=environment,
        capture_output=True,
    )
    assert (result.returncode, result.stderr, len(result.stdout)) == (0, b"", 10)


def test_ctrl_c_in_the_middle(server, photos):
    command = [sys.executable, "-m", "client", "classify", *[photos] * 1000, "--json"]
    with subprocess.Popen(
        [*command, "--url", server.grpc_url], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline().startswith(b"{")
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read()  # communicate forgets lines read ahead
    assert process.returncode == 130
    (closing,) = errors.decode().splitlines()
    answered = re.match(r"interrupted: ([\d,]+) of 3,000 images in [\d.]+ s, ", closing)
    printed = 1 + rest.count(b"\n")
    assert int(answered[1].replace(",", "")) in (printed, printed + 1)  # one may be on its way to the pipe


def test_a_progress_bar_for_people_only(server, photos):
    """With a terminal on standard error a bar shows there, and standard output still gets every line."""
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "client", "classify", photos, "--json", "--url", server.grpc_url]
    result = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(terminal)
    shown = b""
    while chunk := _read(screen):
        shown += chunk
    os.close(screen)
    assert result.returncode == 0
    assert len(lines(result)) == 4  # with what was skipped
    assert b"recognising" in shown
    assert b"classes" not in shown


def _read(screen):
    try:
        return os.read(screen, 65536)
    except OSError:  # the other end is closed
        return b""
