"""The other end of `program`: TensorFlow in a process of its own, asked over pipes."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.common.errors import ConversionError
from export.pipelines.serving.in_process import Answer

__all__ = ["Converter", "ServingSignature"]

PROGRAM = Path(__file__).parent / "program.py"
TOLD_BYTES = 1500
ALLOW = "look at it, and give --allow-code if you trust whoever made it"
# By the kind of a refusal, before and after what TensorFlow said
ADVICE = {
    "code": f"it runs code of its own ({{}}): {ALLOW}",
    "custom": (
        "it has a layer of its own class, which is not in the file ({}): load it where the class is defined, "
        "and save it with model.export(FOLDER), which keeps the computation alone"
    ),
    "keras": "Keras does not load it: {}. Save it again with model.export(FOLDER), and give that folder",
    "custom op": (
        "it uses the operator {}, which is not one of TensorFlow's own, and has no counterpart in ONNX: "
        "export the network without it"
    ),
    "tags": "it has no graph for serving (tag 'serve'), only {}: save it with tf.saved_model.save",
    "damaged": "TensorFlow does not load it: {}. Copy the whole folder, variables and all, or save it again",
    "operators": (
        "tf2onnx cannot convert it: {}. Take that out of the signature, and do it before or after the model"
    ),
}


@dataclass(frozen=True)
class ServingSignature:
    """Name to [dtype, dims] of its inputs and outputs; dims have None where they are open, and are None
    altogether where even the rank is, or where it is not a tensor."""

    inputs: dict[str, tuple[str, tuple[int | None, ...] | None]]
    outputs: dict[str, tuple[str, tuple[int | None, ...] | None]]


class Converter:
    """A running program; a context manager, which ends it. Every method raises `ConversionError`."""

    def __init__(self, python: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in __exit__
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._process = subprocess.Popen(
            [str(python), "-I", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=variables,
        )

    def __enter__(self) -> "Converter":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # nothing that it has is of use any more
        self._process.communicate()
        self._errors.close()

    def open(self, path: Path, scratch: Path, allow_code: bool) -> dict[str, ServingSignature]:
        """The signatures of a SavedModel's folder or a .keras file, which is exported into `scratch`."""
        reply = self._ask("open", path=str(path.absolute()), scratch=str(scratch), allow_code=allow_code)
        return {
            name: ServingSignature(
                *({key: _tensor(spec) for key, spec in found[side].items()} for side in ("inputs", "outputs"))
            )
            for name, found in reply["signatures"].items()
        }

    def convert(self, signature: str, opset: int, file: Path) -> None:
        """Write a signature as an ONNX file. Raises `ConversionError`, naming what ONNX lacks."""
        unsupported = self._ask("convert", signature=signature, opset=opset, file=str(file))["unsupported"]
        if unsupported:
            listed = ", ".join(f"{kind} ({name})" for kind, name in unsupported.items())
            raise ConversionError(
                f"{listed}: no counterpart in ONNX. Take it out of the signature {signature}, and do that "
                "before or after the model"
            )

    def answers(
        self, signature: str, items: Sequence[Answer], folder: Path
    ) -> tuple[list[Answer | None], dict[int, str]]:
        """TensorFlow's own outputs for inputs as the signature takes them, batch and all; and what it
        refused, with the reason, where the answer is None."""
        inputs, outputs = folder / "inputs.npz", folder / "outputs.npz"
        np.savez(
            inputs, **{f"{at}/{name}": array for at, item in enumerate(items) for name, array in item.items()}
        )
        refused = self._ask("answer", signature=signature, inputs=str(inputs), outputs=str(outputs))[
            "refused"
        ]
        found: list[Answer | None] = [None if str(at) in refused else {} for at in range(len(items))]
        with np.load(outputs, allow_pickle=False) as file:
            for key in file.files:
                at, _, name = key.partition("/")
                answer = found[int(at)]
                if answer is not None:
                    answer[name] = file[key]
        return found, {int(at): text for at, text in refused.items()}

    def _ask(self, do: str, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            ended = f"by signal {-code}" if code < 0 else f"with status {code}"
            raise ConversionError(f"TensorFlow's process ended {ended} in `{do}`:\n{self._said()}")
        reply: dict[str, Any] = json.loads(line)
        if kind := reply.get("refused_kind"):
            raise ConversionError(
                ADVICE.get(kind, f"TensorFlow could not {do} it: {{}}").format(reply["text"].rstrip("."))
            )
        return reply

    def _said(self) -> str:
        """The end of what it printed."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - TOLD_BYTES))
        return self._errors.read().decode(errors="replace").strip() or "it said nothing"


def _tensor(spec: Sequence[Any]) -> tuple[str, tuple[int | None, ...] | None]:
    return spec[0], None if spec[1] is None else tuple(spec[1])
