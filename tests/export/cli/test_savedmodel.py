"""What `python -m export savedmodel` asks for, before TensorFlow is needed."""

import argparse
from pathlib import Path

import pytest

from export.cli import savedmodel


@pytest.mark.parametrize(
    ("arguments", "published", "version"),
    [
        ([], (), 12),  # the number of its folder
        ([], (3,), 12),
        ([], (12,), None),  # it has that number already: as it is, or the next
        ([], (30,), None),
        (["--version", "40"], (12,), 40),
    ],
)
def test_a_numbered_folder_keeps_its_number(
    tmp_path: Path, arguments: list[str], published: tuple[int, ...], version: int | None
):
    for one in published:
        (tmp_path / "digits" / str(one)).mkdir(parents=True)
    parser = argparse.ArgumentParser()
    savedmodel.add_arguments(parser)
    options = parser.parse_args(["x", "--model-repository", str(tmp_path), *arguments])
    assert savedmodel.request_of("serving_default", "digits", 12, options).version == version
    assert savedmodel.request_of("serving_default", "digits", None, options).version == options.version


def test_models_are_those_that_the_gateway_asks_for():
    """server/tfserving/models.py: another signature S of NAME is the model NAME_S."""
    assert savedmodel.model_of("digits", "serving_default") == "digits"
    assert savedmodel.model_of("digits", "scores") == "digits_scores"
