"""What the doctor says of a release: what is open in it, and what it does otherwise than others."""

import json
import os
import subprocess
import sys

import pytest

from server.environment.installation import find_installation
from server.operations.doctor import cli, release, security
from server.operations.doctor.gpu import Gpu, GpuSurvey, gpu_checks
from server.operations.doctor.report import GREEN, RED, YELLOW
from tests.conftest import ROOT

RELEASES = release.releases()
OLDEST, NEWEST = next(iter(RELEASES)), list(RELEASES)[-1]


def test_the_table_has_a_source_and_a_fixing_release_for_each():
    for known in security.open_advisories("00.00"):
        assert known.cve.startswith("CVE-")
        assert 0 < known.score <= 10
        assert known.source.startswith("https://github.com/NVIDIA/product-security/")


def test_a_release_has_what_is_fixed_after_it_and_no_more():
    known = {name: {advisory.cve for advisory in security.open_advisories(name)} for name in RELEASES}
    assert known[OLDEST] > known["25.10"] > known[NEWEST]
    fixed_in_25_08 = {"CVE-2025-23316"}
    assert fixed_in_25_08 <= known[OLDEST]
    assert not fixed_in_25_08 & known["25.10"]


def test_what_is_open_is_yellow_and_says_which_release_fixes_it():
    check = security.security_check(RELEASES[OLDEST])
    assert check.level == YELLOW
    assert f"{len(security.open_advisories(OLDEST))} known vulnerabilities" in check.found
    assert "in 25.07" in check.found
    assert "--advisories" in check.next
    assert security.security_check(RELEASES[NEWEST]).level == GREEN


def test_shared_memory_of_clients_is_closed_from_26_04_on():
    check = security.shared_memory_of_clients_check
    assert check(RELEASES[OLDEST]).level == GREEN
    closed = check(RELEASES["26.08"])
    assert closed.level == YELLOW
    assert "--allow-client-shm=true" in closed.next


def test_the_server_that_is_here_has_the_options_that_the_lock_says():
    installation = find_installation()
    command = [str(installation.binary), "--help"]
    environment = {**os.environ, **installation.environment}
    told = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    shown = told.stdout + told.stderr
    assert "--http-restricted-api" in shown
    locked = release.facts_here()["client_shared_memory"]["value"]
    assert ("--allow-client-shm" in shown) == (locked != security.OPEN)


@pytest.mark.parametrize(
    ("client", "level"),
    [("2.51.0", GREEN), ("2.57.1", GREEN), ("2.58.0", YELLOW), ("2.44.0", YELLOW), ("3.0.0", RED)],
)
def test_a_client_far_from_the_server_is_told(client, level, monkeypatch):
    monkeypatch.setattr(security.importlib.metadata, "version", lambda _: client)
    assert security.client_check(RELEASES["24.10"]).level == level


def test_blackwell_is_not_what_24_10_was_made_for():
    card = Gpu(0, "GPU-0", "NVIDIA B200", "615.61", 183359, 0, (10, 0), False)
    levels = {
        name: [check.level for check in gpu_checks(GpuSurvey((card,)), facts, False) if check.name == "GPU 0"]
        for name, facts in RELEASES.items()
    }
    assert levels == {"24.10": [YELLOW], "25.10": [GREEN], "26.08": [GREEN]}


@pytest.mark.parametrize(
    ("name", "driver", "level"),
    [
        *(("24.10", "560.35.03", GREEN), ("24.10", "555.42.06", RED)),
        *(("25.10", "580.95.05", GREEN), ("25.10", "575.57.08", RED)),
        *(("26.08", "615.61", GREEN), ("26.08", "580.95.05", YELLOW), ("26.08", "575.57.08", RED)),
    ],
)
def test_the_driver_is_judged_by_the_release(name, driver, level):
    card = Gpu(0, "GPU-0", "NVIDIA GeForce RTX 4090", driver, 24564, 0, (8, 9), None)
    checks = gpu_checks(GpuSurvey((card,)), RELEASES[name], False)
    assert [check.level for check in checks if check.name == "driver"] == [level]


def test_the_release_is_that_of_the_server_that_is_there(monkeypatch):
    monkeypatch.delenv("TRITON_SERVER_VERSION", raising=False)
    assert release.facts_here()["release"]["value"] == "24.10"
    monkeypatch.setenv("TRITON_SERVER_VERSION", "2.72.0")  # as NVIDIA's image sets it
    assert release.facts_here()["release"]["value"] == "26.08"


def test_the_command_lists_them():
    command = [sys.executable, "-m", "server", "doctor", "--advisories"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(security.open_advisories("24.10"))
    assert all("fixed in 2" in line and "https://" in line for line in lines)
    assert json.loads(json.dumps(cli.as_objects("24.10")))[0].keys() >= {"cve", "score", "fixed", "source"}
