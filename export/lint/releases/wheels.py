"""An ONNX Runtime of another version, from its wheel, beside the packages that are installed here."""

import json
import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from onnx import helper

from export.common.errors import ExportError

__all__ = ["Wheel"]

PROBE = Path(__file__).with_name("probe.py")
SAID_LENGTH = 1500


class Wheel:
    """onnxruntime of one version, unpacked into a folder of its own under `scratch`."""

    def __init__(self, onnxruntime: str, scratch: Path) -> None:
        self.onnxruntime, self.scratch = onnxruntime, scratch

    def limits(self) -> dict[str, Any]:
        """`opset` and `ir_version`: the highest that it loads."""
        return dict(json.loads(self._probe("limits")))

    def operators(self) -> str:
        """The table of what it has, as JSON; the wheel's opset says which onnx it was built with."""
        opset = self.limits()["opset"]
        versions = [row[0] for row in helper.VERSION_TABLE if row[2] == opset]
        if not versions:
            raise ExportError(
                f"ONNX Runtime {self.onnxruntime} takes opset {opset}, which the onnx that is installed "
                "here does not know: pip install -U onnx"
            )
        return self._probe("operators", beside=[self._installed(f"onnx=={versions[-1]}")])

    def answers(self, asked: Path, answered: Path) -> None:
        """Run graphs in it, as probe.py says."""
        self._probe("answers", str(asked), str(answered))

    def _probe(self, *arguments: str, beside: list[Path] | None = None) -> str:
        path = [*map(str, [self._folder, *(beside or [])]), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, str(PROBE), *arguments],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, path)),
                "ORT_DISABLE_TELEMETRY": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ExportError(f"ONNX Runtime {self.onnxruntime}: {done.stderr.strip()[-SAID_LENGTH:]}")
        version, _, answer = done.stdout.partition("\n")
        if version != self.onnxruntime:
            raise ExportError(f"asked ONNX Runtime {self.onnxruntime}, and {version} answered")
        return answer

    @cached_property
    def _folder(self) -> Path:
        return self._installed(f"onnxruntime=={self.onnxruntime}")

    def _installed(self, requirement: str) -> Path:
        """The folder of a package without what it needs: that is installed here already."""
        folder = self.scratch / requirement
        if not folder.is_dir():
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
            done = subprocess.run(
                [
                    *command,
                    "--only-binary=:all:",
                    "--disable-pip-version-check",
                    "--target",
                    str(folder),
                    requirement,
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                python = ".".join(map(str, sys.version_info[:2]))
                raise ExportError(
                    f"pip has no {requirement} for this Python {python} (3.11 and 3.12 fit every release of "
                    f"the lock): {done.stderr.strip()[-SAID_LENGTH:]}"
                )
        return folder
