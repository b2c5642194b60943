"""What gateways are told of models that a server lacks, and how long the server waits for them."""

import threading
from types import SimpleNamespace

import pytest

from server import Supervisor, TritonServer
from server.running.api import ModelStatus
from server.watching import absences as module
from server.watching.absences import Absences
from server.watching.status_page import StatusPage
from tests.launcher import get, write_model
from tests.processes import wait_until


@pytest.fixture(autouse=True)
def long(monkeypatch):
    """However slow the machine is."""
    monkeypatch.setattr(module, "ARRIVE_S", 0)
    monkeypatch.setattr(module, "ASKS_WITHIN_S", 600)
    monkeypatch.setattr(module, "LONGEST_S", 600)


def test_it_waits_until_each_gateway_has_heard():
    absences = Absences()
    assert absences.read("first") == absences.read("second") == ""
    telling = threading.Thread(target=absences.tell, args=({"b": True, "a": False},))
    telling.start()
    wait_until(lambda: absences.read("first") == "a\nb again\n")
    assert telling.is_alive()
    absences.read("second")
    telling.join()
    telling = threading.Thread(target=absences.tell, args=({"b": True, "a": True},))
    telling.start()
    wait_until(lambda: absences.read("first") == "a again\nb again\n")
    assert telling.is_alive()
    absences.read("second")
    telling.join()


def test_it_waits_for_nobody_who_has_gone_and_for_nothing_that_is_there_again(monkeypatch):
    absences = Absences()
    absences.tell({"a": True})  # nobody asks
    absences.read("first")
    absences.tell({"a": True})
    absences.tell({})
    monkeypatch.setattr(module, "ASKS_WITHIN_S", 0)
    absences.tell({"b": True})


def test_it_remembers_those_who_asked_last_and_no_more():
    absences = Absences()
    for number in range(600):
        absences.read(str(number))
        absences.read("a gateway")
    assert list(absences._readers) == [*map(str, range(601 - module.MOST_READERS, 600)), "a gateway"]


def test_its_page(tmp_path):
    write_model(tmp_path / "models", "echo")
    supervisor, absences = Supervisor(TritonServer(tmp_path / "models")), Absences()
    absences.tell({"echo": True})
    with StatusPage(supervisor, "127.0.0.1", 0, absences=absences) as page:
        assert get(f"{page.url}/absent") == (200, "echo again\n")
    with StatusPage(supervisor, "127.0.0.1", 0) as page:  # of a server behind a launcher's own gateway
        assert get(f"{page.url}/absent")[0] == 404


def test_what_failed_at_the_start_is_told_before_any_wait(tmp_path):
    told, ended = [], threading.Event()
    write_model(tmp_path / "models", "bad")
    index = [ModelStatus("bad", "1", "UNAVAILABLE", "why"), ModelStatus("good", "1", "READY", "")]
    server = SimpleNamespace(models=lambda: index, served_repository=tmp_path / "models")
    ended.set()
    Supervisor(server, tell_absent=told.append)._follow_missing(ended)
    assert told == [{"bad": False}]
