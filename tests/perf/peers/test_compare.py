"""`python -m perf compare`: it measures what it says, refuses wrong answers, and leaves nothing behind."""

import contextlib
import dataclasses
import http.server
import os
import secrets
import subprocess
import threading

import pytest

from perf.cli import main
from perf.harness.errors import PerfError
from perf.harness.venvs import NotInstallable, environment
from perf.harness.wrk import Request, find_wrk
from perf.peers.compare import check, settings_for
from perf.peers.jobs import Job, opened, same
from perf.peers.limits import right_answers
from perf.peers.servers import MARK, Ours, marked, stop
from perf.summaries.compare import ratios, tables
from tests.processes import wait_until


def level(rate, p99):
    return {"rate": rate, "p99_ms": p99}


def round_of(ours, peers, limit=100.0):
    servers = {"triton-vision 2x1": {"levels": {"8": level(*ours)}}}
    servers |= {name: {"levels": {"8": level(*figures)}} for name, figures in peers.items()}
    return {"in_process": {"two processes": level(limit, 10.0)}, "servers": servers}


def raw_of(*rounds):
    return {"runs": [{"job": "jpeg", "rounds": list(rounds)}]}


def test_ratios_are_of_pairs_and_of_the_best_peer():
    raw = raw_of(
        round_of((90, 10), {"A": (60, 20), "B": (10, 1)}),
        round_of((40, 30), {"A": (50, 10), "B": (10, 1)}),  # a slow round of the machine
        round_of((80, 10), {"A": (50, 10), "B": (10, 1)}),
    )
    (row,) = ratios(raw)
    assert row["peer"] == "A"
    assert row["of_peer"] == pytest.approx(1.5)
    assert row["p99_of_peer"] == pytest.approx(1.0)
    assert row["of_limit"] == pytest.approx(0.8)


def test_tables_take_medians_over_runs_and_keep_what_failed():
    raw = raw_of(round_of((90, 10), {"A": (60, 20)}))
    raw["runs"].append({"job": "jpeg", "rounds": [round_of((70, 10), {}), round_of((75, 10), {})]})
    raw["runs"][1]["rounds"][0]["servers"]["A"] = {"error": "A did not start\nits log"}
    rows = {row["server"]: row for row in tables(raw)}
    assert rows["triton-vision 2x1"]["levels"]["8"] == (75, 10)
    assert rows["A"]["levels"]["8"] == (60, 20)
    assert rows["A"]["note"] == "A did not start"


@pytest.mark.parametrize(
    ("found", "right", "expected"),
    [
        ([[1, 0.6], [2, 0.3]], [[1, 0.6], [2, 0.3]], True),
        ([[2, 0.30004], [1, 0.3]], [[1, 0.30002], [2, 0.3]], True),  # neighbours that rounding exchanged
        ([[2, 0.6], [1, 0.3]], [[1, 0.6], [2, 0.3]], False),
        ([[1, 0.6], [7, 0.3]], [[1, 0.6], [2, 0.3]], False),
        ([[1, 0.6]], [[1, 0.6], [2, 0.3]], False),
    ],
)
def test_classes_count_as_the_same_up_to_rounding(tmp_path, found, right, expected):
    assert same(Job("jpeg", "", tmp_path, tmp_path, []), found, right) is expected


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.add((body, self.headers.get("X-Kind")))
        self.send_response(500 if body == b"bad" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def http_server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.bodies = set()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def wrk():
    try:
        return find_wrk()
    except PerfError as error:
        pytest.skip(str(error))


def test_wrk_posts_the_bodies_in_turn(wrk):
    bodies = [b"\x00\xff\r\n\r\n1", b"", b"23\n"]
    with http_server() as (server, host):
        found = wrk.run(host, [Request("/", body, (("X-Kind", "a"),)) for body in bodies], 2, 1)
    assert server.bodies == {(body, "a") for body in bodies}
    assert found["requests"] > len(bodies)
    assert 0 < found["p50_ms"] <= found["p99_ms"]


def test_a_load_with_errors_is_no_measurement(wrk):
    with http_server() as (_, host), pytest.raises(PerfError, match="status"):
        wrk.run(host, [Request("/", b"good"), Request("/", b"bad")], 2, 1)


def test_settings_of_photographs_are_not_measured_at_other_jobs(capsys):
    chosen = settings_for(("jpeg", "gru"), ("2x1", "int8"))
    assert [list(map(str, found)) for found in chosen.values()] == [
        ["triton-vision 2x1", "triton-vision 2x1, int8"],
        ["triton-vision 2x1"],
    ]
    assert "gru: without int8" in capsys.readouterr().err
    for job, ours in (("gru", "int8"), ("text", "ensemble"), ("gru", "int8,ensemble")):
        assert main(["compare", "--jobs", job, "--ours", ours]) == 1
        assert f"add the repository as it is (--ours 2x1,{ours})" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["jpeg", "text"])
def test_served_answers_are_the_in_process_ones(server, name):
    with opened(name) as job:
        right = right_answers(job)
        check(job, Ours(), server.http_url, right)
        wrong = dataclasses.replace(job, bodies=job.bodies[::-1])
        with pytest.raises(PerfError, match="in-process it is"):
            check(wrong, Ours(), server.http_url, right)


def test_a_peer_that_cannot_be_installed_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "peer").mkdir()
    requirements = tmp_path / "peer" / "requirements.txt"
    requirements.write_text("--no-index\nno-such-server==1.0\n")
    with pytest.raises(NotInstallable, match=r"no-such-server==1\.0"):
        environment(requirements)


def test_stopping_reaches_processes_that_left_their_parent():
    token = secrets.token_hex(8)
    script = "setsid sleep 600 & setsid sleep 600 & trap '' TERM; echo up; sleep 600"
    process = subprocess.Popen(
        ["bash", "-c", script], env={**os.environ, MARK: token}, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    wait_until(lambda: len(marked(token)) == 3)  # one that is being started has no environment yet
    stop(process, token, grace_s=0.2)
    process.stdout.close()
    assert marked(token) == []
