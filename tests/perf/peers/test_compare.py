"""`python -m perf compare`: it measures what it says, refuses wrong answers, and leaves nothing behind."""

import dataclasses

import pytest

from client.common.defaults import DETECTOR
from perf.cli import main
from perf.harness.errors import PerfError
from perf.peers.compare import check, settings_for
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
