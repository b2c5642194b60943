"""One gateway beside one real tritonserver, as `python -m server --tfserving` starts them."""

from dataclasses import dataclass

import pytest

from tests.launcher import Launcher
from tests.tfserving import Client, write_models

MODEL_CONFIG = """
model_config_list {
  config {
    name: "half_plus_two"
    base_path: "/models/half_plus_two"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "stable" value: 1 }
    version_labels { key: "canary" value: 2 }
  }
}
"""


@dataclass
class Served:
    """rest: "http://host:port". model_config: the file of labels."""

    launcher: Launcher
    grpc: str
    rest: str
    client: Client
    model_config: object


def addresses(launcher):
    """Of gRPC and REST, as the launcher prints them."""
    (line,) = (line for line in launcher.lines if "TF Serving" in line)
    over_grpc, rest = line.split("gRPC ")[1].split(", REST ")
    return over_grpc, rest.removesuffix("/v1/models")


def options(folder):
    """Of the launcher; the file of labels is in `folder`."""
    (folder / "models.config").write_text(MODEL_CONFIG)
    return [
        "--tfserving",
        "--tfserving-grpc-port=0",
        "--tfserving-rest-port=0",
        f"--tfserving-model-config={folder / 'models.config'}",
        "--tfserving-version-label=half/only=1",
        "--tfserving-max-mib=8",
    ]


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfserving")
    write_models(folder / "models")
    with Launcher(folder / "models", folder / "log", *options(folder)) as launcher:
        over_grpc, rest = addresses(launcher)
        with Client(over_grpc) as client:
            yield Served(launcher, over_grpc, rest, client, folder / "models.config")
