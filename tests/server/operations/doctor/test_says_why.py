"""What the launcher and its doctor say of models and machines that are not fit; nothing is left behind."""

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest

from server import TritonServer
from server.operations.doctor import lint as doctor_lint
from server.operations.doctor.report import GREEN, RED, YELLOW
from tests.conftest import ROOT
from tests.launcher import CONFIG, ECHO, Launcher, ask, get, write_ensemble, write_model
from tests.processes import unprivileged

REFUSED = "max_batch_size: 0 dynamic_batching { preferred_batch_size: [ 2, 4 ] }"
UNKNOWN_FIELD = "no_such_field: 1"
TOO_BIG = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, _):
        raise pb_utils.TritonModelException("the graph is too big")
"""
SECCOMP = (sys.executable, str(ROOT / "tests" / "seccomp.py"), "set_mempolicy,get_mempolicy,mbind")


@pytest.fixture
def repository(tmp_path):
    write_model(tmp_path / "models", "echo")
    return tmp_path / "models"


@pytest.mark.slow
def test_models_that_are_refused_when_they_are_read_are_told_with_the_reason(repository, tmp_path):
    write_model(repository, "batches", config=CONFIG + REFUSED)
    write_model(repository, "newer", config=CONFIG + UNKNOWN_FIELD)
    (repository / "unexported").mkdir()
    (repository / "unexported" / "config.pbtxt").write_text('backend: "onnxruntime"')
    with Launcher(repository, tmp_path / "log", completes=True) as launcher:
        assert "FAILED  batches: dynamic batching preferred size must be <= max batch size" in launcher.text
        misread = f"FAILED  newer: failed to read text proto from {repository}/newer/config.pbtxt: "
        assert misread in launcher.text
        assert 'no field named "no_such_field"' in launcher.text.partition(misread)[2].splitlines()[0]
        assert "missing unexported: nothing to load" in launcher.text
        assert "ready   echo" in launcher.text
        assert "Not all models are ready" in launcher.text
        assert launcher.troubles().keys() == {"batches", "newer", "unexported"}
        assert not launcher.ready()
        assert ask(launcher.grpc, "echo") == 1.0


@pytest.mark.slow
def test_tritonservers_own_readiness_says_yes_where_the_launchers_says_no(repository, tmp_path):
    write_model(repository, "newer", config=CONFIG + UNKNOWN_FIELD)
    with TritonServer(repository, log=tmp_path / "log") as server:
        assert get(f"http://{server.http_url}/v2/health/ready")[0] == 200
        assert not server.ready()
        assert "failed to read text proto" in server.missing()["newer"]


@pytest.mark.slow
def test_load_errors_are_in_an_operators_words(repository, tmp_path):
    write_model(repository, "imports", "import no_such_package\n")
    write_model(repository, "raises", TOO_BIG)
    write_ensemble(repository, "through_raises", "raises")
    with TritonServer(repository, log=tmp_path / "log") as server:
        missing = server.missing()
    assert missing["imports"] == "ModuleNotFoundError: No module named 'no_such_package'"
    assert missing["raises"] == "the graph is too big"
    assert missing["through_raises"] == "depends on 'raises' which has no loaded version"
    assert "model.py(1)" in (tmp_path / "log").read_text()


def run_server(repository, *prefix, **options):
    command = [*prefix, sys.executable, "-m", "server", "--model-repository", str(repository)]
    command += [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def test_a_full_disk_is_told_and_nothing_is_left(repository, tmp_path):
    """Files may be no larger than 64 KiB, which is an error in the same place as a disk that is full."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = run_server(
        repository,
        env={**os.environ, "TMPDIR": str(scratch)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16)),
    )
    assert done.returncode == 1
    assert f"the files of this run cannot be written below {scratch}: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(scratch.iterdir()) == []


def test_a_log_that_cannot_be_written_is_told(repository, tmp_path):
    with pytest.raises(Exception, match=r"the log .*missing/log cannot be written: No such file.*--log"):
        TritonServer(repository, log=tmp_path / "missing" / "log").start()


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv takes root's rights away")
def test_a_repository_that_cannot_be_read_is_told(repository):
    repository.chmod(0)
    try:
        done = run_server(repository, *unprivileged())
    finally:
        repository.chmod(0o755)
    assert done.returncode == 1
    assert f"{repository} cannot be read: Permission denied; `chmod -R a+rX" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv takes root's rights away")
def test_a_model_that_cannot_be_read_leaves_the_others_served(repository, tmp_path):
    folder = write_model(repository, "secret")
    folder.chmod(0)
    try:
        with Launcher(repository, tmp_path / "log", prefix=tuple(unprivileged()), completes=True) as launcher:
            assert "ready   echo" in launcher.text
            assert not launcher.ready("secret")
    finally:
        folder.chmod(0o755)


@pytest.mark.slow
def test_where_memory_policies_are_refused_models_with_host_policies_are_served(tmp_path):
    """In a container under Docker's default seccomp profile tritonserver ended with 139."""
    config = CONFIG.replace("count: 2", 'count: 1 host_policy: "lower_cores"')
    write_model(tmp_path / "models", "echo", ECHO, config)
    with Launcher(tmp_path / "models", tmp_path / "log", prefix=SECCOMP, completes=True) as launcher:
        assert launcher.ready()
        assert ask(launcher.grpc, "echo") == 1.0
        assert "set_mempolicy is refused (Operation not permitted)" in launcher.told()


@pytest.mark.slow
@pytest.mark.parametrize(("prefix", "level"), [((), GREEN), (SECCOMP, YELLOW)])
def test_the_doctor_tells_of_host_policies_and_lints(repository, prefix, level):
    write_model(repository, "batches", config=CONFIG + REFUSED)
    command = [
        *prefix,
        sys.executable,
        "-m",
        "server",
        "doctor",
        "--json",
        "--model-repository",
        str(repository),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)["checks"]
    checks = {check["name"]: check for check in told}
    assert checks["host policies"]["level"] == level
    assert "SYS_NICE" in checks["host policies"]["next"] or level == GREEN
    found = {
        check["found"].partition(":")[0]: check["level"] for check in told if check["name"] == "lint batches"
    }
    assert found == {"TV302": RED, "TV316": YELLOW}
    assert done.returncode == 1


def test_the_doctor_says_when_the_linter_does_not_run_and_is_silent_where_there_is_none(repository, tmp_path):
    assert doctor_lint.lint_checks(repository, gpu=False, project=tmp_path) == []
    (tmp_path / "export" / "lint").mkdir(parents=True)
    (check,) = doctor_lint.lint_checks(repository, gpu=False, project=tmp_path)
    assert (check.level, check.next) == (YELLOW, "make setup")
    (sound,) = doctor_lint.lint_checks(repository, gpu=False)
    assert sound.level == GREEN
