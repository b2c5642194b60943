"""The SavedModels of `keras_models`, made once by TensorFlow in its own environment."""

import subprocess
from pathlib import Path

import pytest

from export.common.packages import Package, extract
from export.pipelines.savedmodels.environment import TENSORFLOW

SCIKIT_LEARN = Package(
    "scikit-learn==1.7.2",
    "scikit_learn-1.7.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
    "89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d",
)
PROGRAM = Path(__file__).parent / "keras_models.py"


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    table = extract(SCIKIT_LEARN, "sklearn/datasets/data/digits.csv.gz")
    done = subprocess.run(
        [TENSORFLOW.python(), "-I", PROGRAM, table, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder
