"""The linter finds every planted fault under its code, and nothing else; rules, pages and examples agree."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from export.cli import commands
from export.lint import RULES, lint
from export.lint.config_checks.accelerators import TENSORRT_KEYS
from export.lint.reading.config_source import locate
from export.pipelines.plans.configs import ACCELERATOR_KEYS
from tests.lint_corpus import FAULTS, SOUND, write
from tests.lint_corpus.batching import BOUND, LEVELS
from tests.lint_corpus.one_worker import one_worker  # noqa: F401 (autouse)
from tests.lint_corpus.parts import CONFIG, GRAPH, but_queues, but_stand_ins, edited, ensemble, model, python
from tests.lint_corpus.python_sources import MODEL_PY

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "lint.md").read_text()


def shown(findings):
    return "\n".join(f"{f.code} {f.file}:{f.line} {f.message}" for f in findings)


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_repository_has_no_finding(tmp_path, name):
    findings = but_queues(but_stand_ins(tmp_path, lint(write(tmp_path, SOUND[name]))))
    assert not findings, shown(findings)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_found_and_nothing_else(tmp_path, fault):
    findings = but_stand_ins(tmp_path, lint(write(tmp_path, fault.files), fault.target))
    findings = findings if fault.code == "TV316" else but_queues(findings)
    told = [finding for finding in findings if finding.code == fault.code]
    assert told, shown(findings) or "no finding"
    assert {finding.code for finding in findings} <= {fault.code, *fault.also}, shown(findings)
    assert (fault.severity or "error") in {finding.severity for finding in told}
    assert fault.line is None or fault.line in {finding.line for finding in told}
    for finding in findings:
        assert finding.message
        assert finding.fix
        assert finding.link == RULES[finding.code].link
        assert (tmp_path / finding.file).exists()


@pytest.mark.parametrize(
    "batching",
    [
        f"default_queue_policy {{ {BOUND} }}",
        f"{LEVELS} {{ key: 1 value {{ {BOUND} }} }} default_queue_policy {{ {BOUND} }}",
    ],
)
def test_a_queue_with_bounds_has_no_finding(tmp_path, batching):
    assert not lint(write(tmp_path, model(edited(CONFIG, "{ }", f"{{ {batching} }}"))))


@pytest.mark.parametrize("name", ["ensemble", "a Python pipeline"])
def test_a_model_that_others_call_needs_no_bounds(tmp_path, name):
    files = ensemble() if name == "ensemble" else {**model(), **python(source=MODEL_PY + "CALLED = 'm'\n")}
    assert "m" in {path.split("/")[0] for path in files}
    findings = lint(write(tmp_path, files))
    assert "m" not in {finding.model for finding in findings if finding.code == "TV316"}, shown(findings)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_a_plan_that_is_no_regular_file_is_not_opened(tmp_path, make):
    write(tmp_path, {"m/config.pbtxt": edited(CONFIG, "onnxruntime", "tensorrt"), "m/1": None})
    make(tmp_path / "m" / "1" / "model.plan")
    (finding,) = but_queues(lint(tmp_path))
    assert (finding.code, finding.severity) == ("TV121", "error")
    assert "no regular file" in finding.message


def test_the_corpus_is_large_and_its_faults_differ():
    assert len(FAULTS) >= 40
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("code", RULES)
def test_a_rule_has_a_failing_example_a_page_section_and_a_link(code):
    rule = RULES[code]
    assert code in {fault.code for fault in FAULTS}
    assert rule.link.startswith("https://")
    section = re.search(rf'^### <a id="{code}"></a>{code}: (.+?)\n(.+?)(?=^##|\Z)', PAGE, re.M | re.S)
    assert section, f"docs/reference/lint.md has no section {code}"
    assert section[1] == rule.title
    assert rule.link in section[2]
    assert f"*{rule.severity}*" in section[2]


def test_the_page_has_no_section_of_a_rule_that_is_gone():
    assert re.findall(r'^### <a id="(\w+)"', PAGE, re.M) == list(RULES)


def test_our_repository_has_no_finding_but_notes():
    findings = [finding for finding in lint(ROOT / "model_repository") if finding.severity != "note"]
    assert not findings, shown(findings)


def run(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "export", "lint", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_the_command_prints_a_table_and_fails_on_errors(tmp_path):
    repository = write(tmp_path, model(edited(CONFIG, "[ 10 ]", "[ 12 ]")))
    done = run(repository)
    assert done.returncode == 1
    assert "TV203" in done.stdout
    assert "m/config.pbtxt:14" in done.stdout
    assert "1 error" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_command_prints_json(tmp_path, capsys):
    repository = write(tmp_path, model(edited(CONFIG, "[ 10 ]", "[ 12 ]")))
    options = ["--json", "--ignore", "TV316"]
    assert commands.run(["lint", str(repository), *options]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert {key: finding[key] for key in ("code", "severity", "model", "file", "line")} == {
        "code": "TV203",
        "severity": "error",
        "model": "m",
        "file": "m/config.pbtxt",
        "line": 14,
    }
    assert finding["fix"] == "write dims: [10]"
    assert commands.run(["lint", str(write(tmp_path / "sound", model())), *options]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_warnings_fail_only_under_strict(tmp_path, capsys):
    repository = str(write(tmp_path, model(edited(CONFIG, "dynamic_batching { }", ""))))
    assert commands.run(["lint", repository]) == 0
    assert "TV301" in capsys.readouterr().out
    assert commands.run(["lint", repository, "--strict"]) == 1


def test_ignored_rules_are_not_reported(tmp_path, capsys):
    files = model(edited(CONFIG, "[ 10 ]", "[ 12 ]", "dynamic_batching { }", ""))
    repository = str(write(tmp_path, files))
    assert {finding.code for finding in lint(repository)} == {"TV203", "TV301"}
    assert commands.run(["lint", repository, "--ignore", "TV203,tv301", "--strict"]) == 0
    assert commands.run(["lint", repository, "--ignore", "TV203", "--ignore", "TV301", "--strict"]) == 0
    assert "no findings" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["/no/such/folder"], [".", "--ignore", "TV999"], [".", "--target", "tpu"], [".", "--what"]]
)
def test_wrong_usage_is_told(arguments, capsys):
    try:
        code = commands.run(["lint", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert "error" in capsys.readouterr().err


def test_a_folder_without_models_is_wrong_usage(tmp_path, capsys):
    assert commands.run(["lint", str(tmp_path)]) == 2
    assert "there is no model" in capsys.readouterr().err


def test_the_accelerator_keys_are_those_that_the_export_writes():
    assert TENSORRT_KEYS == ACCELERATOR_KEYS


def test_a_gpu_is_a_fault_only_on_a_cpu_target(tmp_path):
    repository = write(tmp_path, model(CONFIG + "instance_group { kind: KIND_GPU }\n"))
    assert [finding.code for finding in but_queues(lint(repository, "cpu"))] == ["TV309"]
    assert not but_queues(lint(repository, "gpu"))
    assert not but_queues(lint(repository))


def test_all_findings_of_all_models_are_reported_in_order(tmp_path):
    broken = edited(CONFIG, '"m"', '"b"', "[ 10 ]", "[ 12 ]", "TYPE_FP32", "TYPE_FP16")
    write(tmp_path, {"b/config.pbtxt": broken, "b/1/model.onnx": GRAPH, **model("max_batch_size: x")})
    found = [(finding.model, finding.line, finding.code) for finding in but_queues(lint(tmp_path))]
    assert found == [("b", 7, "TV204"), ("b", 13, "TV204"), ("b", 14, "TV203"), ("m", 1, "TV101")]


def test_an_older_version_that_is_not_served_is_not_linted(tmp_path):
    assert not but_queues(
        lint(write(tmp_path, model(**{"m/2/model.onnx": GRAPH, "m/1/model.onnx": "broken"})))
    )


def test_files_that_are_not_folders_are_no_models(tmp_path):
    assert not but_queues(lint(write(tmp_path, model(**{"README.md": "# models", ".gitignore": "*.onnx"}))))


def test_the_lines_of_fields_are_found_however_they_are_written():
    tree = locate(
        "# comment { [\n"
        "name: 'a}'  # {\n"
        "input [\n"
        "  { name: 'x' dims: [ 1,\n"
        "    2 ] }, {\n"
        "    name: 'y' dims: 3 dims: 4 }\n"
        "]\n"
        "output { name: 'o' } output <\n"
        "  name: 'p'\n"
        ">;\n"
        "parameters { key: 'w' value { string_value: '1' } }\n"
        "parameters {\n"
        "  key: 'v'\n"
        "  value: { string_value: 'a'\n"
        "    'b' }\n"
        "}\n"
    )
    assert [tree.at("input", index).line for index in (0, 1)] == [4, 5]
    assert tree.at("input", 1, "dims").line == 6
    assert tree.at("output", 1, "name").line == 9
    assert tree.at("parameters", "v", "value").line == 14
    assert tree.at("parameters", "w", "value", "string_value").line == 11
    assert tree.at("input", 0, "reshape").line == 4  # not written: the last of the path that is
    assert tree.scalar("name") == "a}"


def test_linting_imports_neither_torch_nor_a_runtime():
    code = (
        "import sys, export.cli.lint; "
        "print([name for name in ('torch', 'onnxruntime', 'tensorrt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
