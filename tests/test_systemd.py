"""deploy/systemd: systemd takes the unit, and a real systemd starts, reloads and stops it.

That one is `systemd --user` in namespaces of its own, so it needs root and disturbs nothing. It cannot change
users, so the copy that it gets has no `User=`, and paths of this checkout.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from server.operations.gateway.keys import Grant
from tests.conftest import ROOT
from tests.gateways import TINY_CONFIG, Tenants, needs_haproxy
from tests.graphs import publish
from tests.rollouts import plus

UNIT = ROOT / "deploy/systemd/triton-vision.service"
SYSTEMD = Path("/lib/systemd/systemd")
INSTALLED, KEYS, RUNTIME = "/opt/triton-vision", "/etc/triton-vision/gateway-keys.txt", "/run/triton-vision"
needs_analyze = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="no systemd-analyze: apt-get install systemd"
)
needs_systemd = pytest.mark.skipif(
    not SYSTEMD.exists()
    or os.getuid() != 0
    or subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False).returncode != 0,
    reason="it needs root, systemd and namespaces",
)
# Another user; homes, where Python may be; what a manager of a user is not let hide.
NOT_HERE = ("User=", "ProtectHome=", "ProtectKernelLogs=", "ProtectKernelTunables=")
SCRIPT = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user/0/systemd/user /run/home
chmod 700 /run/user/0
cp -r "$1/models" "$1/keys" /run/  # the unit has a /tmp of its own
cp "$1/triton-vision.service" /run/user/0/systemd/user/
export XDG_RUNTIME_DIR=/run/user/0 HOME=/run/home
unset STATE_DIRECTORY XDG_STATE_HOME
/lib/systemd/systemd --user --unit=basic.target > "$1/systemd.log" 2>&1 &
until systemctl --user is-active --quiet basic.target; do :; done
unit() { systemctl --user "$@" triton-vision.service; }
unit start || { unit status --no-pager -l; exit 1; }
echo state $(unit show -P ActiveState) $(unit show -P StatusText) main $(unit show -P MainPID)
grep -E '^(NoNewPrivs|Seccomp):' /proc/$(unit show -P MainPID)/status
cd "$2"
XDG_RUNTIME_DIR=/run/user/0/triton-vision .venv/bin/python -m server status
cp -r /run/models/tiny/1 /run/models/tiny/2
unit reload
XDG_RUNTIME_DIR=/run/user/0/triton-vision .venv/bin/python -m server status
kill -9 $(unit show -P MainPID)
until [ "$(unit show -P NRestarts) $(unit show -P ActiveState)" = "1 active" ]; do :; done
echo restarted
unit stop
echo result $(unit show -P Result) $(unit show -P ExecMainStatus)
kill %1
"""


@needs_analyze
def test_systemd_takes_the_unit(tmp_path):
    file = tmp_path / UNIT.name
    file.write_text(UNIT.read_text().replace(f"{INSTALLED}/.venv/bin/python", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
def test_it_is_let_do_little():
    offline = [
        "systemd-analyze",
        "security",
        "--offline=true",
        "--threshold=20",
        UNIT,
    ]  # in tenths; 96 is all
    done = subprocess.run(offline, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@needs_haproxy
@needs_systemd
@pytest.mark.skipif(ROOT.is_relative_to("/tmp"), reason="the unit has a /tmp of its own, where this is not")
def test_a_real_systemd_runs_it(tmp_path):
    publish(tmp_path / "models", "tiny", plus(1), TINY_CONFIG)
    Tenants(tmp_path / "keys", Grant("alice"))
    text = (
        UNIT.read_text()
        .replace(INSTALLED, str(ROOT))
        .replace(KEYS, "/run/keys")
        .replace(RUNTIME, "/run/user/0/triton-vision")
    )
    options = "/run/models --gateway-port 0 --gateway-metrics-port 0 --status-port 0"
    text = text.replace("SERVER_OPTIONS=\n", f'"SERVER_OPTIONS={options}"\n')
    text = "".join(line for line in text.splitlines(True) if not line.startswith(NOT_HERE))
    (tmp_path / UNIT.name).write_text(text)
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            "-c",
            SCRIPT,
            "bash",
            tmp_path,
            ROOT,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    said = f"{done.stdout}\n{done.stderr}\n{(tmp_path / 'systemd.log').read_text()}"
    assert done.returncode == 0, said
    assert "state active" in done.stdout, said
    assert "model   tiny: version 1 (s1)" in done.stdout, said
    assert "model   tiny: version 2 (s1)" in done.stdout, said
    assert "NoNewPrivs:\t1" in done.stdout, said
    assert "restarted" in done.stdout, said
    assert "result success 0" in done.stdout, said
