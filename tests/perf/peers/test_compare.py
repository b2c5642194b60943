"""`python -m perf compare`: it measures what it says, refuses wrong answers, and leaves nothing behind."""

import dataclasses
import itertools

import pytest

from client.common.defaults import DETECTOR
from perf.cli import main
from perf.harness.errors import PerfError
from perf.peers import compare
from perf.peers.compare import check, settings_for, wait_until_idle
from perf.peers.jobs import opened
from perf.peers.limits import right_answers
from perf.peers.servers import Ours
from tests.of_npm import needs


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


@pytest.mark.parametrize(("per_look", "looks"), [([1, 1, 0.01, 1], 3), ([0], 1), ([1] * 100, 50)])
def test_a_level_waits_for_what_the_one_before_left_but_not_for_ever(monkeypatch, per_look, looks):
    used, clock = itertools.chain([0], itertools.accumulate(per_look)), itertools.count(0, compare.LOOK_S)
    slept = []
    monkeypatch.setattr(compare, "cpu_seconds_by_program", lambda _: {"server": next(used)})
    monkeypatch.setattr(compare.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(compare.time, "sleep", slept.append)
    wait_until_idle()
    assert abs(len(slept) - looks) <= (looks == 50)  # the clock's floats


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jpeg", "text", "detect"])
def test_served_answers_are_the_in_process_ones(server, name):
    if name == "detect":
        needs(DETECTOR, server)
    with opened(name) as job:
        right = right_answers(job)
        check(job, Ours(), server.http_url, right)
        wrong = dataclasses.replace(job, bodies=job.bodies[::-1])
        with pytest.raises(PerfError, match="in-process it is"):
            check(wrong, Ours(), server.http_url, right)
