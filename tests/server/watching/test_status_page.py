"""The launcher's own port while a server starts: what a health check waits for, and what it need not."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from server import Supervisor, TritonServer
from server.watching.status_page import StatusPage
from tests.launcher import CONFIG, get, write_model
from tests.processes import wait_until


@pytest.fixture
def supervisor(tmp_path):
    """Of a server that is about to be started."""
    write_model(tmp_path / "models", "echo")
    return Supervisor(TritonServer(tmp_path / "models"))


def test_a_check_waits_until_the_start_is_over(supervisor):
    with StatusPage(supervisor, "127.0.0.1", 0) as page, ThreadPoolExecutor() as pool:
        asked = pool.submit(get, f"{page.url}/ready?wait=50000")
        wait_until(lambda: page._clients._value < 16)  # it has been taken
        status, text = get(f"{page.url}/ready")
        assert (status, json.loads(text)["troubles"]) == (503, {"tritonserver": "is starting"})
        assert not asked.done()
        supervisor.starting = False
        status, text = asked.result()
        assert (status, json.loads(text)["troubles"]) == (503, {"tritonserver": "the server was not started"})


def test_it_does_not_wait_for_a_model_that_was_never_exported(supervisor, tmp_path):
    (tmp_path / "models" / "empty").mkdir()
    (tmp_path / "models" / "empty" / "config.pbtxt").write_text(CONFIG)
    with StatusPage(supervisor, "127.0.0.1", 0) as page:
        status, text = get(f"{page.url}/ready?wait=50000")
    assert status == 503
    assert json.loads(text)["troubles"]["empty"] == "nothing to load; run `python -m export empty`"


@pytest.mark.parametrize("query", ["", "?", "?wait=0", "?wait=-1", "?wait=x", "?await=50000", "?wait=100000"])
def test_other_questions_are_answered_at_once(supervisor, query):
    with StatusPage(supervisor, "127.0.0.1", 0) as page:
        assert get(f"{page.url}/ready{query}")[0] == 503


@pytest.mark.slow
def test_a_balancer_sends_nobody_to_a_server_that_is_being_started_again(tmp_path):
    """Some of its models are only not loaded yet, and would be told of as missing."""
    for name in ("echo", "loose"):
        write_model(tmp_path / "models", name)
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as server:
        supervisor = Supervisor(server)
        supervisor.starting = False
        supervisor.troubles = lambda: {"loose": "is not loaded"}
        server.missing = supervisor.troubles
        with StatusPage(supervisor, "127.0.0.1", 0) as page:
            assert get(f"{page.url}/serves")[0] == 200
            supervisor._starting_again = True
            assert get(f"{page.url}/serves")[0] == 503
