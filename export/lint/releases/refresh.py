"""What the lock and the linter know of each release's ONNX Runtime, asked again of its wheel."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from export.common.release import LOCK, RELEASES
from export.lint.graph_checks.operators import TABLES
from export.lint.releases.wheels import Wheel

__all__ = ["refresh"]

LIMITS = {"onnx_opset": ("opset", "opset"), "onnx_ir_version": ("ir_version", "IR version")}


def refresh(tell: Callable[[str], None]) -> list[Path]:
    """Ask the wheel of each release, and write what differs; returns the files that changed.

    Raises `ExportError` where a wheel cannot be had, or does not run here.
    """
    lock = json.loads(LOCK.read_text(encoding="utf-8"))
    texts: dict[Path, str] = {}
    with tempfile.TemporaryDirectory(prefix="triton-vision-wheels-") as scratch:
        for name, release in RELEASES.items():
            tell(f"{name}: onnxruntime {release.onnxruntime} ...")
            wheel = Wheel(release.onnxruntime, Path(scratch))
            limits = wheel.limits()
            for fact, (key, words) in LIMITS.items():
                value = limits[key]
                lock["releases"][name][fact] = {
                    "value": value,
                    "confirmed": True,
                    "source": f"onnxruntime {release.onnxruntime} from PyPI loads {words} {value} and "
                    f"refuses {value + 1}",
                }
            texts[TABLES / f"{release.onnxruntime}.json"] = wheel.operators()
        texts[LOCK] = json.dumps(lock, indent=2, ensure_ascii=False) + "\n"
        changed = [path for path, text in texts.items() if not path.is_file() or path.read_text() != text]
        for path in changed:
            path.write_text(texts[path], encoding="utf-8")
    return changed
