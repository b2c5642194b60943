"""Rollouts on a real launcher with a gateway, under load over HTTP and gRPC: none of the requests fails."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from server.operations.gateway.keys import Grant
from tests.conftest import ROOT
from tests.gateways import TINY_CONFIG, Served, Tenants, kill_tritonserver, needs_haproxy
from tests.graphs import publish
from tests.processes import wait_until
from tests.rollouts import Asking, command, failing, plus, publish_sleepy, roll_out, run, state_in, status

pytestmark = needs_haproxy

MODELS = ("right", "other", "faulty", "broken", "cancelled", "killed", "again")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        publish(folder, name, plus(1), TINY_CONFIG)
    return folder


@pytest.fixture(scope="module")
def served(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    tenants = Tenants(folder / "keys", Grant("alice", rate=100_000, concurrency=100))
    with state_in(folder / "state"), Served(repository, folder / "log", tenants) as running:
        yield running


def versions(served, model):
    return list(status(served)["models"][model])


def test_what_is_as_good_is_promoted(served, repository):
    publish(repository, "right", plus(1), version=2)
    assert versions(served, "right") == ["1"]  # by itself a launcher loads nothing
    with Asking(served, "right") as asking:
        code, last = roll_out(served, "right")
    assert (code, last["stage"], last["reason"]) == (0, "promoted", "")
    assert last["new"]["requests"] >= 60
    assert last["old"]["requests"] >= 60
    assert asking.failed() == {}
    told = status(served)
    assert told["models"]["right"] == {"2": ["s1", "s2"]}
    assert (told["held"], told["rollout"]) == ({}, None)
    assert list(told["servers"]) == ["s1", "s2"]


def test_other_answers_are_rolled_back(served, repository):
    publish(repository, "other", plus(2), version=2)
    with Asking(served, "other") as asking:
        code, last = roll_out(served, "other")
    assert (code, last["stage"]) == (3, "rolled back")
    assert last["reason"].startswith("answers: 0 of ")
    assert last["difference"] == 1
    assert asking.failed() == {}  # no client got one of them
    assert versions(served, "other") == ["1"]
    assert status(served)["held"]["other"]["versions"] == [1]
