"""What an export says when it fails: the cause and the user's own line first, and what to do."""

import dataclasses
import json
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export import ModelSpec, Tensor
from export.common.errors import ConversionError, ExportError, SpecError, VerificationError
from export.pipelines.pytorch import export_model
from export.sources.specs.files import spec_of_file
from tests.conftest import ROOT
from tests.export.pipelines.small import Small, small_spec

HERE = Path(__file__).name


def refusal(spec: ModelSpec, tmp_path: Path, kind: type[ExportError]) -> str:
    with pytest.raises(kind) as raised:
        export_model(spec, tmp_path / "repository", random_weights=True)
    assert not (tmp_path / "repository" / spec.name).exists()
    return str(raised.value)


@pytest.fixture(autouse=True)
def reports_go_elsewhere(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))


class BranchesOnValues(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        return y if y.sum() > 0 else -y


class HasNoOperator(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        return y + torch.linalg.eigvals(y[:, :, None] * y[:, None, :]).real


class MakesAConstant(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        positions = torch.linspace(0, 1, x.shape[1])
        return self.linear(x * positions[:, None]).mean(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "cause", "line", "advice", "dims"),
    [
        (BranchesOnValues, "the network branches on a value", "y.sum() > 0", "torch.where", (8,)),
        (
            HasNoOperator,
            "ONNX has no operator for aten.linalg_eig",
            "torch.linalg.eig",
            "other operations",
            (8,),
        ),
        (MakesAConstant, "a constant of a size that may vary: 40", "torch.linspace", "x.flatten(1)", (-1, 8)),
    ],
)
def test_what_the_exporter_refuses(tmp_path: Path, capfd, network, cause, line, advice, dims):
    text = refusal(small_spec(network, inputs=(Tensor("x", "float32", dims),)), tmp_path, ConversionError)
    first, *others = text.splitlines()
    assert cause in first
    assert f"{HERE}:" in first
    assert ", in forward: `" in first
    assert line in first
    assert any(advice in other for other in others)
    assert len(others) == 2
    report = Path(others[-1].rpartition(": ")[2])
    assert report.is_relative_to(tmp_path / "cache")
    assert len(report.read_text().splitlines()) > 40
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""  # nothing of the exporter's own on the terminal


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_replaced(tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = refusal(small_spec(BranchesOnValues), tmp_path, ConversionError)
    report = Path(text.splitlines()[-1].rpartition(": ")[2])
    assert report.parent == tmp_path
    assert "GuardOnDataDependent" in report.read_text()


class Misspelt(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linar(x)


def test_a_mistake_in_the_network_is_named_by_its_line(tmp_path: Path):
    first = refusal(small_spec(Misspelt), tmp_path, SpecError).splitlines()[0]
    assert first.startswith("AttributeError: 'Misspelt' object has no attribute 'linar'")
    assert f"{HERE}:" in first
    assert "`return self.linar(x)`" in first


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids).mean(1)


def test_one_number_for_the_whole_batch_is_told(tmp_path: Path):
    class Loss(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x).mean()

    text = refusal(small_spec(Loss, outputs=(Tensor("loss", "float32", ()),)), tmp_path, SpecError)
    assert "one number for the whole batch as loss: return one for each item" in text


@pytest.mark.slow
def test_a_batch_parted_by_chunks_says_how_to_part_it(tmp_path: Path):
    class Siamese(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            one, other = self.linear(torch.cat([x, x.flip(2)]).flatten(1)).chunk(2)
            return one * other

    inputs = (Tensor("x", "float32", (2, 4)),)
    assert "y[:n] and y[n:]" in refusal(small_spec(Siamese, inputs=inputs), tmp_path, VerificationError)


class InBfloat16(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.linear(x).float()


def test_a_layer_without_a_kernel_says_what_to_do(tmp_path: Path):
    text = refusal(small_spec(InBfloat16, tolerance=0.1), tmp_path, VerificationError)
    assert "ONNX Runtime does not load the graph: Could not find an implementation for Gemm(13)" in text
    assert "take the layer out of bfloat16" in text


@pytest.mark.parametrize("labels", [[1, 2, 3, 4], ["a", b"b", "c", "d"], ["a", None, "c", "d"]])
def test_labels_that_are_no_text_are_told(tmp_path: Path, labels):
    outputs = (Tensor("y", "float32", (4,), labels=lambda: labels),)
    text = refusal(small_spec(outputs=outputs), tmp_path, SpecError)
    assert "`labels` of output y in the spec of small returns" in text
    assert "return a str for each class" in text


def test_integers_out_of_range_say_how_to_give_samples(tmp_path: Path):
    spec = small_spec(Words, inputs=(Tensor("ids", "int64", (6,)),))
    text = refusal(spec, tmp_path, SpecError)
    assert text.startswith("IndexError: index out of range")
    assert "`return self.embedding(ids).mean(1)`" in text.splitlines()[0]
    assert "Random integers were tried for ids" in text
    assert "samples=lambda: [(numpy.zeros([6], 'int64'),), ...]" in text


def test_integers_within_their_range_are_published(tmp_path: Path):
    random = np.random.default_rng(0)
    spec = small_spec(
        Words,
        inputs=(Tensor("ids", "int64", (6,)),),
        samples=lambda: [(random.integers(0, 10, 6),) for _ in range(4)],
    )
    assert export_model(spec, tmp_path, random_weights=True).outcome == "published"


@dataclasses.dataclass
class Scores:
    y: torch.Tensor
    hidden: torch.Tensor


Pair = namedtuple("Pair", ["y", "hidden"])


@pytest.mark.parametrize(
    ("wrap", "described", "advice"),
    [
        (lambda y: {"y": y, "hidden": y}, "a dict of y, hidden", 'return out["y"]'),
        (lambda y: {"logits": y}, "a dict of logits", 'return out["logits"]'),
        (lambda y: Scores(y, y), "a Scores of y, hidden", "return out.y"),
        (lambda y: Pair(y, y), "a Pair of y, hidden", "return out.y"),
        (lambda y: ((y, y), y), "a tuple of tuple, Tensor", "a tuple of tensors"),
        (lambda y: None, "nothing", "a tuple of tensors"),
        (lambda y: y.tolist(), "a list of list, list", "a tuple of tensors"),
    ],
)
def test_outputs_that_are_no_tuple_ask_for_one(tmp_path: Path, wrap, described: str, advice: str):
    class Wrapped(Small):
        def forward(self, x: torch.Tensor) -> object:
            return wrap(self.linear(x))

    text = refusal(small_spec(Wrapped), tmp_path, SpecError)
    assert f"returns {described}" in text
    assert "return a tuple of tensors" in text
    assert advice in text


def test_a_named_tuple_of_the_outputs_is_a_tuple(tmp_path: Path):
    class Named(Small):
        def forward(self, x: torch.Tensor) -> Pair:
            return Pair(self.linear(x), x)

    outputs = (Tensor("y", "float32", (4,)), Tensor("hidden", "float32", (8,)))
    report = export_model(small_spec(Named, outputs=outputs), tmp_path, random_weights=True)
    assert report.outcome == "published"


def test_another_number_of_outputs_is_told(tmp_path: Path):
    class Two(Small):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.linear(x), x

    assert "returns 2 tensors, and the spec has 1 outputs" in refusal(small_spec(Two), tmp_path, SpecError)


def test_samples_may_come_from_a_generator(tmp_path: Path):
    random = np.random.default_rng(0)
    spec = small_spec(samples=lambda: ((random.random(8, np.float32),) for _ in range(3)))
    assert export_model(spec, tmp_path, random_weights=True).outcome == "published"


@pytest.mark.parametrize(
    ("sample", "wanted"),
    [
        ((np.zeros(7, np.float32),), "float32 [7]"),
        ((np.zeros(8),), "float64 [8]"),
        ((np.zeros((2, 8), np.float32),), "float32 [2, 8]"),
        ((np.zeros(8, np.float32),) * 2, "float32 [8], float32 [8]"),
    ],
)
def test_a_sample_that_is_not_of_the_inputs_is_told(tmp_path: Path, sample, wanted: str):
    text = refusal(small_spec(samples=lambda: [sample]), tmp_path, SpecError)
    assert f"a sample of small is {wanted}, and its inputs are x float32 [8]" in text


def test_a_network_that_collects_its_arguments_is_exported(tmp_path: Path):
    class Collecting(Small):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return self.linear(inputs[0] + inputs[1])

    spec = small_spec(Collecting, inputs=(Tensor("a", "float32", (8,)), Tensor("b", "float32", (8,))))
    assert export_model(spec, tmp_path, random_weights=True).outcome == "published"


SPECS = """\
from __future__ import annotations
import numpy
import no_such_library
from torch import nn
from export import ModelSpec, Tensor

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        return self.linear(x)

def made(name, **changes):
    tensors = {"inputs": (Tensor("x", "float32", (8,)),), "outputs": (Tensor("y", "float32", (4,)),)}
    given = {"network": Net, "served": lambda net: net, "max_batch_size": 8, "tolerance": 1e-5, **tensors}
    return ModelSpec(name=name, **{**given, **changes})

good = made("good")
faulty = made("faulty", max_batch_size=0)
foreign = made("foreign", network=no_such_library.Net)
number = 3
"""


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    path = tmp_path / "specs.py"
    path.write_text(SPECS)
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("faulty", r"specs\.py:faulty was not made: SpecError: .* max_batch_size 0; .*, at specs\.py:18"),
        ("foreign", r"ModuleNotFoundError: No module named 'no_such_library', at specs\.py:3"),
        ("number", "no ModelSpec 'number': it is int"),
        ("other", "no ModelSpec 'other'; it has good"),
    ],
)
def test_a_spec_that_was_not_made_says_why(specs: Path, name: str, message: str):
    assert spec_of_file(specs, "good").name == "good"
    with pytest.raises(SpecError, match=message):
        spec_of_file(specs, name)


def test_a_file_that_is_no_python_is_told(tmp_path: Path):
    (tmp_path / "specs.py").write_text("def (:\n")
    with pytest.raises(SpecError, match=r"no Python that can be read: .*line 1"):
        spec_of_file(tmp_path / "specs.py", "good")


@pytest.mark.slow
def test_one_faulty_spec_does_not_stop_the_others(tmp_path: Path, specs: Path):
    torch.save({"linear.weight": torch.ones(4, 8), "linear.bias": torch.zeros(4)}, tmp_path / "net.pth")
    with specs.open("a") as file:
        file.write(
            f"from export.sources.specs.spec import CommittedWeights\nfrom pathlib import Path\n"
            f"good = made('good', weights=CommittedWeights(Path({str(tmp_path / 'net.pth')!r})))\n"
        )
    command = [
        sys.executable,
        "-m",
        "export",
        f"{specs}:faulty",
        f"{specs}:good",
        f"{specs}:foreign",
        "--json",
    ]
    done = subprocess.run(
        [*command, "--model-repository", str(tmp_path / "repository")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    outcomes = {report["name"].rpartition(":")[2]: report["outcome"] for report in json.loads(done.stdout)}
    assert outcomes == {"faulty": "failed", "foreign": "failed", "good": "published"}
    assert "max_batch_size 0" in done.stderr
    assert (tmp_path / "repository" / "good" / "1" / "model.onnx").is_file()


def no_backbone():
    raise FileNotFoundError("no such file: backbone.cfg")


def one_that_fails(field: str) -> ModelSpec:
    if field == "labels":
        return small_spec(outputs=(Tensor("y", "float32", (4,), labels=no_backbone),))
    return small_spec(**{field: no_backbone if field != "served" else lambda network: no_backbone()})


@pytest.mark.parametrize("field", ["network", "served", "samples", "labels"])
def test_what_a_function_of_the_spec_raises_is_told_with_its_line(tmp_path: Path, field: str):
    told = refusal(one_that_fails(field), tmp_path, SpecError)
    first, second = told.splitlines()
    assert first.startswith("FileNotFoundError: no such file: backbone.cfg, at ")
    assert f"{HERE}:" in first
    assert "in no_backbone: `raise FileNotFoundError" in first
    assert second == f"`{field}` in the spec of small fails: correct it"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"network": lambda: Small}, "`network` in the spec of small returns the class Small"),
        ({"served": lambda network: None}, "`served` in the spec of small returns a NoneType"),
        ({"served": lambda network: network.forward}, "`served` in the spec of small returns a method"),
    ],
    ids=["class", "nothing", "method"],
)
def test_what_is_no_module_is_told(tmp_path: Path, changes, told: str):
    assert refusal(small_spec(**changes), tmp_path, SpecError) == f"{told}: return a torch.nn.Module"


def test_a_spec_that_is_called_wrongly_has_no_line_of_ours(tmp_path: Path):
    told = refusal(small_spec(network=None), tmp_path, SpecError)
    assert told.startswith("TypeError: 'NoneType' object is not callable\n`network`")


def test_failures_are_counted_and_advice_is_none_of_them():
    assert str(VerificationError(["one"])) == "a check failed:\n  - one"
    assert str(VerificationError(["one", "two"], "so do")) == "2 checks failed:\n  - one\n  - two\nso do"
