"""The catalogue's models, with their real weights on real photographs, through the command line."""

import difflib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import export.pipelines.pytorch
from export import CommittedWeights
from export.catalogue import CATALOGUE, SIBLINGS
from export.cli import models
from export.cli.commands import run
from export.cli.parts import jobs
from export.repository.configs.contract import derive_contract, parse_config
from export.repository.configs.text import new_config_text
from export.sources.labels import imagenet_labels
from export.sources.photographs import photographs
from export.sources.samples import photograph_pixels
from export.sources.weights import Weights, own_weights

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = Path(__file__).resolve().parent / "golden"
MODELS = {**CATALOGUE, **SIBLINGS}
COMMITTED = [
    "efficientnet_lite0",
    "imagenet_places",
    "mobilenet_v2",
    "text_recognizer",
    "text_stream",
    *SIBLINGS,
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A repository with efficientnet_lite0 as `make export` published it."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "model_repository" / "efficientnet_lite0", folder / "efficientnet_lite0")
    return folder


def graph_of(repository: Path) -> Path:
    """Of its newest version, as a working copy may hold several."""
    versions = [path for path in (repository / "efficientnet_lite0").iterdir() if path.name.isdigit()]
    return max(versions, key=lambda path: int(path.name)) / "model.onnx"


@pytest.fixture
def copied(repository: Path, tmp_path: Path) -> Path:
    """A copy of that repository to spoil."""
    return Path(shutil.copytree(repository, tmp_path / "models"))


def top1(graph: Path) -> tuple[list[int], int]:
    """The best class of every photograph, and how many of foolbox's 20 are right."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    pixels = np.stack([image for (image,) in photograph_pixels()])
    best = session.run(["probabilities"], {"image": pixels})[0].argmax(1).tolist()
    labelled = [photograph.class_index for photograph in photographs()[:20]]
    return best, sum(map(int.__eq__, best, labelled))


def test_efficientnet_lite0_recognises_18_of_20_photographs(repository: Path):
    best, right = top1(graph_of(repository))
    assert right == 18
    by_name = {photograph.name: index for photograph, index in zip(photographs(), best, strict=True)}
    assert by_name["chelsea"] in (281, 282, 285)  # tabby, tiger cat, Egyptian cat
    assert (by_name["coffee"], by_name["rocket"]) == (967, 657)


def test_an_export_that_is_up_to_date_computes_and_publishes_nothing(copied: Path, capsys):
    assert run(["efficientnet_lite0", "--json", "--model-repository", str(copied)]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["outcome"], report["version"]) == ("up to date", int(graph_of(copied).parent.name))
    assert report["weights"] == "pretrained 579344248a93"
    assert report["largest_difference"] is None  # nothing was computed


@pytest.mark.long
def test_another_checkpoint_becomes_a_new_version_that_says_so(copied: Path, tmp_path: Path, capsys):
    newest = graph_of(copied)
    torch.manual_seed(1)
    network = CATALOGUE["efficientnet_lite0"].network()
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    arguments = ["efficientnet_lite0", "--checkpoint", str(tmp_path / "mine.pth"), "--json"]
    code = run([*arguments, "--model-repository", str(copied)])
    (report,) = json.loads(capsys.readouterr().out)
    # An untrained EfficientNet answers the same to everything, so nothing can be proven of it.
    assert (code, report["outcome"]) == (1, "failed")
    assert "almost the same for all samples" in report["error"]
    assert graph_of(copied) == newest


def test_without_npm_only_what_needs_it_is_left_out(tmp_path: Path, monkeypatch, capsys):
    """The rest is exported, and it is said what is missing; asked for by its name, that is an error."""
    exported = []
    monkeypatch.setattr(models, "run_jobs", lambda jobs, *_: exported.extend(job.name for job in jobs) or 0)
    monkeypatch.setattr(models, "write_copies", lambda name, repository: [])
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["--all"]) == 0
    with_weights = [name for name, spec in {**CATALOGUE, **SIBLINGS}.items() if spec.weights]
    assert set(with_weights) - set(exported) == {"detector", "face_embedder"}
    assert "face_embedder: left out, as npm is not here" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["face_embedder", "--model-repository", str(tmp_path / "models")]) == 1
    assert "can only be fetched with npm" in capsys.readouterr().err


def test_the_list_names_every_model_and_its_state(repository: Path, capsys):
    assert run(["--json", "--model-repository", str(repository)]) == 0
    states = {state["name"]: state for state in json.loads(capsys.readouterr().out)}
    assert list(states) == list(MODELS)
    assert states["efficientnet_lite0"]["state"] == "up to date"
    assert states["mobilenet_v2"]["state"] == "not exported"
    assert (states["resnet50"]["has_weights"], states["resnet50"]["version"]) == (False, None)
    assert run(["--model-repository", str(repository)]) == 0
    assert "efficientnet_lite0" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_configs_and_labels_agree_with_the_specs(name: str, capsys):
    assert run([name, "--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "old", "new", "shown"),
    [
        (
            "config.pbtxt",
            "max_batch_size: 32",
            "max_batch_size: 64",
            ["-max_batch_size: 64", "+max_batch_size: 32"],
        ),
        ("config.pbtxt", "pretrained 5793", "pretrained 0000", ['+    string_value: "pretrained 5793']),
        ("config.pbtxt", "max_batch_size", "max_batch", ["cannot be parsed: line"]),
        ("labels.txt", "goldfish", "shark", ["-shark", "+goldfish"]),
    ],
)
def test_check_shows_a_difference_and_fails(copied: Path, capsys, file, old, new, shown):
    path = copied / "efficientnet_lite0" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert run(["--check", "--model-repository", str(copied)]) == 1
    out = capsys.readouterr().out
    assert "efficientnet_lite0: differs" in out
    for line in shown:
        assert line in out
    assert path.read_text() != text  # a check writes nothing


def test_check_reads_the_graph_too(copied: Path, capsys):
    graph = graph_of(copied)
    graph.write_bytes(graph.read_bytes()[:1000])
    assert run(["--check", "--model-repository", str(copied)]) == 1
    assert "model.onnx cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("name", MODELS)
def test_first_configs_are_the_golden_ones(name: str):
    golden, text = GOLDEN / f"{name}.pbtxt", golden_text(name)
    parse_config(golden.read_text(), golden)
    difference = difflib.unified_diff(golden.read_text().splitlines(), text.splitlines(), lineterm="")
    assert golden.read_text() == text, "\n".join(
        [*difference, "if that is meant: python -m tests.export.cli.test_models"]
    )


def golden_text(name: str) -> str:
    spec = MODELS[name]
    weights = own_weights(spec) or Weights("random")
    if isinstance(spec.weights, CommittedWeights):  # they change with every training
        weights = Weights("pretrained")
    return new_config_text(spec, derive_contract(spec, weights.label))


def test_labels_are_first_names_in_the_order_of_the_classes():
    labels = imagenet_labels()
    assert len(labels) == 1000
    assert (labels[0], labels[281], labels[657], labels[967]) == ("tench", "tabby", "missile", "espresso")
    assert not any("," in label for label in labels)


@pytest.mark.slow
def test_the_users_own_network_is_exported_as_documented(tmp_path: Path, capsys):
    sys.path.append(str(ROOT / "examples"))
    from my_net import CLASSES, MyNet

    torch.manual_seed(0)
    network = MyNet().eval()
    torch.save(network.state_dict(), tmp_path / "my_net.pth")
    target = str(ROOT / "examples" / "my_net.py") + ":spec"
    repository = tmp_path / "models with a space"
    arguments = [target, "--model-repository", str(repository)]
    assert run([*arguments, "--checkpoint", str(tmp_path / "my_net.pth"), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["top1_agreement"] == 1.0
    assert run([*arguments, "--check"]) == 0
    folder = repository / "my_net"
    assert (folder / "labels.txt").read_text().splitlines() == list(CLASSES)
    # The served graph is the trained network on pixels scaled to -1 to 1.
    pixels = np.random.default_rng(3).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"))
    (served,) = session.run(["probabilities"], {"image": pixels})
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        assert np.allclose(served, network(planes).softmax(1).numpy(), atol=1e-6)


def test_the_example_in_the_documentation_is_the_one_that_runs():
    example = (ROOT / "examples" / "my_net.py").read_text()
    spec = example[example.index("spec = ModelSpec(") :]
    assert spec in (ROOT / "docs" / "how-to" / "export.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet"], "it has efficientnet_lite0, mobilenet_v2, resnet50"),
        (["nowhere.py:spec"], "no file nowhere.py"),
        (["tests/export/cli/test_models.py:COMMITTED"], "has no ModelSpec 'COMMITTED'"),
        (["--all", "resnet50"], "give models, or --all"),
        (["--random-weights"], "exactly one model"),
        (["--random-weights", "--checkpoint", "x", "resnet50"], "exclude each other"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], message: str, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    try:
        code = run(arguments)
    except SystemExit as error:  # argparse's own way
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_what_nothing_foresaw_ends_one_export_and_no_other(repository, tmp_path, monkeypatch, capsys):
    def unforeseen(spec, *arguments, **options):
        if spec.name == "mobilenet_v2":
            raise ZeroDivisionError("of a kind that has no words yet")
        return export.pipelines.pytorch.export_model(spec, *arguments, **options)

    monkeypatch.setattr(jobs, "export_model", unforeseen)
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    names = ["mobilenet_v2", "efficientnet_lite0"]
    assert run([*names, "--json", "--model-repository", str(repository)]) == 1
    printed = capsys.readouterr()
    failed, done = json.loads(printed.out)
    assert (failed["outcome"], done["outcome"]) == ("failed", "up to date")
    assert failed["error"].startswith("ZeroDivisionError: of a kind")
    assert "Traceback" not in printed.err
    assert "Traceback" in Path(failed["error"].rpartition(": ")[2]).read_text()


def test_a_reader_that_closes_the_pipe_gets_no_traceback(repository: Path):
    command = [sys.executable, "-m", "export", "--json", "--model-repository", str(repository)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()


def test_the_public_names():
    assert export.__all__ == sorted(export.__all__)
    assert all(hasattr(export, name) for name in export.__all__)


if __name__ == "__main__":
    for model in MODELS:
        (GOLDEN / f"{model}.pbtxt").write_text(golden_text(model))
