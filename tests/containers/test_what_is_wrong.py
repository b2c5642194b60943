"""What a user gets to see, and how soon, where a model, a right or a folder is missing."""

import shutil

import pytest

from tests.containers.stack import LONGEST_START_S, few_models

MODEL, OTHER = "text_recognizer", "mobilenet_v2"


@pytest.fixture
def repository(tmp_path):
    return few_models(tmp_path / "models", (MODEL, OTHER))


def test_up_fails_soon_for_a_model_that_was_never_exported(new_stack, repository):
    """Long before `--start-timeout`, which the wait below must not reach."""
    for version in (repository / OTHER).glob("[0-9]*"):
        shutil.rmtree(version)
    with new_stack("missing", MODEL_REPOSITORY=str(repository)) as stack:
        done = stack.compose(
            "up", "--wait", "--wait-timeout", str(LONGEST_START_S), "triton-cpu", check=False
        )
        assert done.returncode != 0
        assert "unhealthy" in done.stdout
        health = stack.state()["State"]["Health"]
        assert health["Status"] == "unhealthy"
        assert OTHER in health["Log"][-1]["Output"]
        assert f"missing {OTHER}: nothing to load" in stack.logs()


@pytest.mark.parametrize(("folder", "mode"), [("", 0o644), (MODEL, 0o700)])
def test_what_cannot_be_read_is_said_in_a_line(new_stack, repository, folder, mode):
    (repository / folder).chmod(mode)
    shutil.rmtree(repository / OTHER)
    with new_stack("unreadable", MODEL_REPOSITORY=str(repository)) as stack:
        done = stack.compose("run", "--rm", "--no-deps", "--no-TTY", "triton-cpu", check=False)
    (repository / folder).chmod(0o755)
    assert done.returncode == 1, done.stdout
    assert "cannot be read" in done.stdout
    assert "Traceback" not in done.stdout
