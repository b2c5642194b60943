"""Standard error as JSON lines, whoever writes it."""

import json
import os
import subprocess
import sys
from datetime import datetime, timezone

import pytest

from server.running.json_log import as_json, standard_error_in_json
from tests.conftest import ROOT

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, timezone.utc)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            'W1129 12:38:45.116000 8055 infer_request.cc:132] "[request id: r-1] said \\"no\\""',
            {"level": "WARNING", "source": "tritonserver", "at": "infer_request.cc:132", "request_id": "r-1",
             "message": '[request id: r-1] said "no"'},
        ),
        (
            "I1129 12:38:45.116000 8 a.cc:1] [request id: <id_unknown>] x",
            {"level": "INFO", "source": "tritonserver", "at": "a.cc:1",
             "message": "[request id: <id_unknown>] x"},
        ),
        ("triton-vision: 12:00:00 it is", {"level": "INFO", "source": "launcher", "message": "it is"}),
        ("server: cannot", {"level": "INFO", "source": "launcher", "message": "cannot"}),
        ('Traceback "x"', {"level": "INFO", "source": "process", "message": 'Traceback "x"'}),
        ("{no json", {"level": "INFO", "source": "process", "message": "{no json"}),
    ],
)  # fmt: skip
def test_a_line_is_an_object(line, expected):
    assert json.loads(as_json(line, NOW)) == {"time": "2026-01-02T03:04:05.678+00:00", **expected}


def test_the_gateways_line_passes():
    assert json.loads(as_json('{"tenant": "alice"}', NOW)) == {"tenant": "alice"}


def test_a_child_s_lines_come_too_and_none_is_lost(capfd):
    with standard_error_in_json():
        print("triton-vision: ours", file=sys.__stderr__, flush=True)
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'a\\n\\xff\\n\\nlast')"], check=True)
    os.write(2, b"plain again\n")
    *lines, plain = capfd.readouterr().err.splitlines()
    assert sorted(json.loads(line)["message"] for line in lines) == ["a", "last", "ours", "\ufffd"]
    assert plain == "plain again"


def test_a_disk_that_is_full_does_not_end_it():
    code = "import os; from server.running.json_log import standard_error_in_json as within\n"
    code += "with within(): [os.write(2, b'line\\n' * 50_000) for _ in range(2)]"
    with open("/dev/full", "w") as full:
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=full, check=True)


def test_a_file_for_the_log_is_another_thing():
    command = [sys.executable, "-m", "server", "--log-format=json", "--log=x"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "leave --log out" in done.stderr) == (2, True)
