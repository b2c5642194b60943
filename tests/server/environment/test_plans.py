"""What the first bytes of a plan say, and what the launcher says of them before it starts."""

import os

import pytest

from server import TritonServer
from server.environment.plans import PlanFileError, PlanHeader, plan_fault, read_header
from server.errors import RepositoryError
from server.operations.doctor.release import facts_here
from server.operations.serving.telling import tell_of_plans

BUILT_BY_RTX = bytes.fromhex("76747274000000000200000000000000844edf0000000000010701747674727408000000")


def built_by(*version, tag=b"ftrt", layout=0):
    return tag + layout.to_bytes(4, "little") + bytes(16) + bytes(version) + bytes(100)


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (built_by(10, 5, 0, 18), PlanHeader("TensorRT", (10, 5, 0, 18))),
        (built_by(11, 2, 1, 2), PlanHeader("TensorRT", (11, 2, 1, 2))),
        (BUILT_BY_RTX, PlanHeader("TensorRT-RTX", (1, 7, 1, 116))),
        (built_by(10, 5, 0, 18, layout=1), None),
        (built_by(10, 5, 0, 18, tag=b"ptrt"), None),
    ],
)
def test_a_header_says_who_built_it(tmp_path, content, header):
    (tmp_path / "model.plan").write_bytes(content)
    assert read_header(tmp_path / "model.plan") == header


@pytest.mark.parametrize("length", [0, 8, 27])
def test_a_file_without_a_whole_header_is_no_plan(tmp_path, length):
    (tmp_path / "model.plan").write_bytes(built_by(10, 5, 0, 18)[:length])
    with pytest.raises(PlanFileError, match=f"it has {length} bytes"):
        read_header(tmp_path / "model.plan")


@pytest.mark.parametrize(
    ("version", "tensorrt", "loads"),
    [
        ((10, 5, 0, 18), "10.5.0", True),
        ((10, 5, 0, 18), "10.5", True),
        ((10, 5, 1, 18), "10.5.0", False),
        ((10, 13, 3, 9), "10.5.0", False),
        ((11, 2, 1, 2), "11.2.1", True),
        ((10, 5, 0, 18), "10.50.0", False),
    ],
)
def test_a_plan_loads_on_the_version_that_built_it(version, tensorrt, loads):
    assert (plan_fault(PlanHeader("TensorRT", version), tensorrt) == "") == loads
    assert "TensorRT-RTX" in plan_fault(PlanHeader("TensorRT-RTX", version), tensorrt)


def repository_of(folder, plan, config='backend: "tensorrt"'):
    (folder / "m" / "1").mkdir(parents=True)
    (folder / "m" / "config.pbtxt").write_text(config)
    (folder / "m" / "1" / "model.plan").write_bytes(plan)
    return folder


def test_the_launcher_names_the_file_both_versions_and_what_to_run(tmp_path, capsys):
    tell_of_plans(repository_of(tmp_path, built_by(8, 6, 1, 6)))
    (line,) = capsys.readouterr().err.splitlines()
    facts = facts_here()
    for part in (
        "m/1/model.plan",
        "TensorRT 8.6.1.6",
        f"release {facts['release']['value']} has {facts['tensorrt']['value']}",
        "python -m export m --tensorrt",
    ):
        assert part in line


def test_the_launcher_says_of_an_unknown_header_that_it_is_unknown(tmp_path, capsys):
    tell_of_plans(repository_of(tmp_path, bytes(100)))
    assert "its header is unknown" in capsys.readouterr().err


def test_a_folder_is_no_plan(tmp_path, capsys):
    repository_of(tmp_path, b"")
    (tmp_path / "m" / "1" / "model.plan").unlink()
    (tmp_path / "m" / "1" / "model.plan").mkdir()
    tell_of_plans(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert "m/1/model.plan will not load: it is not a regular file" in line


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["pipe", "device"]
)
@pytest.mark.parametrize("name", ["config.pbtxt", "labels.txt", "1/model.plan", "configs/cpu.pbtxt"])
def test_what_tritonserver_would_wait_for_is_refused_before_it_is_started(tmp_path, name, make):
    path = repository_of(tmp_path, built_by(10, 5, 0, 18)) / "m" / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    make(path)
    with pytest.raises(RepositoryError, match=f"{name} is a pipe, a socket or a device"):
        TritonServer(tmp_path).start()
    with pytest.raises(PlanFileError):
        read_header(path)


@pytest.mark.parametrize("config", ['backend: "tensorrt"', 'platform: "tensorrt_plan"'])
def test_the_launcher_is_silent_about_plans_of_its_release(tmp_path, capsys, config):
    right = map(int, facts_here()["tensorrt"]["value"].split("."))
    tell_of_plans(repository_of(tmp_path, built_by(*right, 7), config))
    assert capsys.readouterr().err == ""


def test_plans_that_the_served_config_does_not_load_are_not_looked_at(tmp_path, capsys):
    tell_of_plans(repository_of(tmp_path, built_by(8, 6, 1, 6), 'backend: "onnxruntime"'))
    assert capsys.readouterr().err == ""


OLD = built_by(8, 6, 1, 6)


def told(folder, capsys, config, **plans):
    """What the launcher warns of, where each of `plans` lies in a version: v1_model is 1/model.plan."""
    for name in plans:
        version, _, file = name.partition("_")
        (folder / "m" / version[1:]).mkdir(parents=True, exist_ok=True)
        (folder / "m" / version[1:] / f"{file}.plan").write_bytes(plans[name])
    (folder / "m" / "config.pbtxt").write_text(config)
    tell_of_plans(folder)
    return [line.split()[1] for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", ["3"]),
        ("version_policy { latest { num_versions: 2 } }", ["2", "3"]),
        ("version_policy: { latest: { num_versions: 9 } }", ["1", "2", "3"]),
        ("version_policy { all { } }", ["1", "2", "3"]),
        ("version_policy: { specific: { versions: [ 1, 3, 7 ] } }", ["1", "3"]),
        ("version_policy < specific < versions: 1 versions: 2 > >", ["1", "2"]),
        ("# version_policy { all { } }", ["3"]),
    ],
)
def test_every_version_that_the_policy_lets_in_is_looked_at(tmp_path, capsys, policy, versions):
    found = told(
        tmp_path, capsys, f'backend: "tensorrt"\n{policy}\n', v1_model=OLD, v2_model=OLD, v3_model=OLD
    )
    assert found == [f"m/{version}/model.plan" for version in versions]


@pytest.mark.parametrize(
    ("fields", "files"),
    [
        ("", ["model"]),
        ('default_model_filename: "a.plan"', ["a"]),
        ("default_model_filename: 'a.plan'", ["a"]),
        ('# default_model_filename: "a.plan"', ["model"]),
        ('cc_model_filenames { key: "8.0" value: "a.plan" }', ["a", "model"]),
        (
            'cc_model_filenames [ { key: "8.0" value: "a.plan" }, { key: "9.0" value: "b.plan" } ] '
            'default_model_filename: "none.plan"',
            ["a", "b"],
        ),
        (
            'cc_model_filenames { key: "8.0" value: "a.plan" } '
            'cc_model_filenames { key: "9.0" value: "b.plan" }',
            ["a", "b", "model"],
        ),
    ],
)
def test_the_files_that_a_config_names_are_looked_at_and_no_other(tmp_path, capsys, fields, files):
    found = told(tmp_path, capsys, f"backend: 'tensorrt'\n{fields}\n", v1_model=OLD, v1_a=OLD, v1_b=OLD)
    assert found == [f"m/1/{file}.plan" for file in files]


def test_a_plan_is_looked_at_without_a_config_that_names_its_backend(tmp_path, capsys):
    assert told(tmp_path, capsys, "max_batch_size: 4", v1_model=OLD) == ["m/1/model.plan"]
