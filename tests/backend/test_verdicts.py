"""A config.pbtxt means here what it means to NVIDIA's backend, or docs/reference/backend.md says where not.

The verdicts of `tests/backend/verdicts` are NVIDIA's, taken down from its backend (release 24.10) on the same
tritonserver and with the same ONNX Runtime. NVIDIA_BACKENDS=FOLDER, a `--backend-directory` that holds it,
compares that backend with its verdicts; so they can be taken down again for another release.
"""

import collections
import os
import re
from pathlib import Path

import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from export.lint import lint
from server import TritonServer
from server.environment import native
from tests import sanitized
from tests.backend.models import times
from tests.backend.verdict_run import expected, is_as, outcome
from tests.backend.verdicts import CASES, parameters, sequences
from tests.backend.verdicts.case import FAILS, REFUSED
from tests.graphs import publish

pytestmark = pytest.mark.slow

NVIDIA = os.environ.get("NVIDIA_BACKENDS")
PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "backend.md").read_text()
DIFFERENT = [case for case in CASES if case.differs]
AT_RUN_TIME = {"one_of_a_batch_fails"}  # a difference that no file can tell
RIGHT_ALONE = {"TV217"}  # found, though these few requests are answered: others are answered wrongly
# Sequences and text are the Python half's in both runs, parameters are read by one function for both.
ONCE = {case.name for case in (*sequences.CASES, *parameters.CASES)}
RUNS = [  # a process per case in the Python half, where settings are read by the same functions: minutes
    pytest.param(half, case, marks=[pytest.mark.long] if half == "python" else [])
    for half in ("native", "python")
    for case in CASES
    if half == "native" or not (case.name in ONCE or "TYPE_STRING" in case.config)
]


def is_live(server):
    with grpc.InferenceServerClient(server.grpc_url) as client:
        try:
            return client.is_server_live()
        except InferenceServerException:
            return False


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """(server, repository) of a half; started when it is asked for, and again if a case ended it."""
    running = {}

    def of(half):
        if half in running:
            if is_live(running[half][0]):
                return running[half]
            running.pop(half)[0].stop()
        repository = tmp_path_factory.mktemp(half)
        publish(repository, "times_two", times(2))
        arguments = ["--model-control-mode=explicit"]
        if half == "nvidia":
            arguments.append(f"--backend-directory={NVIDIA}")
        log = tmp_path_factory.mktemp("log") / "triton.log"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(native.NATIVE_VARIABLE, "0" if half == "python" else "1")
            running[half] = TritonServer(repository, arguments=arguments, log=log).start(), repository
        return running[half]

    yield of
    for server, _ in running.values():
        server.stop()


@pytest.mark.parametrize(("half", "case"), RUNS, ids=lambda value: getattr(value, "name", value))
def test_ours_is_as_the_table_says(servers, half, case):
    found, message = outcome(*servers(half), case)
    assert is_as(expected(case), found), message
    if found == REFUSED:
        assert re.search(case.says, message)


@pytest.mark.skipif(not NVIDIA, reason="needs NVIDIA_BACKENDS")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nvidias_is_as_the_table_says(servers, case):
    found, message = outcome(*servers("nvidia"), case)
    assert is_as(case.nvidia, found), message


def test_the_table_is_large_and_names_each_case_once():
    names = [case.name for case in CASES]
    assert len(names) >= 200
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("case", DIFFERENT, ids=lambda case: case.name)
def test_each_difference_has_its_line(case):
    section = re.search(r"### Where it differs\n(.*?)(\n#|\Z)", PAGE, re.DOTALL)[1]
    lines = [" ".join(line.split()) for line in section.split("\n- ")]
    assert any(case.differs.told in line for line in lines), case.differs.told


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """Of the linter, by case, on all of them for CPUs: {case: {code: severity}}."""
    repository = tmp_path_factory.mktemp("linted")
    for case in CASES:
        publish(repository, case.name, case.model, case.config)
    found = collections.defaultdict(dict)
    if sanitized.wanted():
        pytest.skip("the linter reads graphs under a limit of memory, which a sanitizer passes at once")
    for finding in lint(repository, target="cpu"):
        found[finding.model][finding.code] = finding.severity
    return found


@pytest.mark.parametrize("case", DIFFERENT, ids=lambda case: case.name)
def test_each_difference_has_its_finding(findings, case):
    assert (case.differs.rule in findings[case.name]) == (case.name not in AT_RUN_TIME)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_linter_says_what_nvidias_backend_will_do(findings, case):
    """What is refused there has a finding, and what is answered there no error."""
    errors = {code for code, severity in findings[case.name].items() if severity == "error"}
    if case.nvidia == REFUSED:
        assert errors or "warning" in findings[case.name].values()
    elif not case.differs and FAILS not in case.nvidia:
        assert not errors - RIGHT_ALONE
