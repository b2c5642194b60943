"""Where in the user's own files something went wrong, out of the 80 lines that PyTorch says of it."""

import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["chain", "line_of", "line_of_frames"]

TOOLS = ("torch", "functorch", "onnx", "onnxscript", "onnx_ir", "onnxruntime", "numpy")
OURS = tuple(
    str(Path(__file__).parents[2] / name)
    for name in (
        *("graphs/conversion.py", "graphs/sizes.py"),
        *("graphs/checks/trial.py", "graphs/checks/verification.py"),
        "sources/spec_calls.py",
    )
)
IN_MESSAGE = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


def chain(error: BaseException) -> list[BaseException]:
    """The error and its causes, the first cause first."""
    errors = [error]
    while (cause := errors[-1].__cause__) is not None and cause not in errors:
        errors.append(cause)
    return errors[::-1]


def line_of(error: BaseException) -> str | None:
    """The innermost line of the user's that raised it: "net.py:12, in forward: `y = x + self.missing`"."""
    for cause in chain(error):
        found = line_of_frames(traceback.extract_tb(cause.__traceback__)) or _line_of_node(cause)
        if found:
            return found
    for cause in chain(error):
        if found := line_of_frames(_frames_in(str(cause))):
            return found
    return None


def line_of_frames(frames: Iterable[traceback.FrameSummary]) -> str | None:
    """The innermost of these frames, which end with the innermost, that is the user's; those outside of our
    last one are the caller's and say nothing."""
    for frame in reversed(list(frames)):
        if frame.filename in OURS:
            return None
        if _is_users(frame.filename):
            source = f": `{frame.line}`" if frame.line else ""
            return f"{_short(frame.filename)}:{frame.lineno}, in {frame.name}{source}"
    return None


def _frames_in(message: str) -> list[traceback.FrameSummary]:
    return [traceback.FrameSummary(file, int(line), name) for file, line, name in IN_MESSAGE.findall(message)]


def _line_of_node(error: BaseException) -> str | None:
    """Of the traced operation that was being translated as it was raised, which knows where it comes from."""
    if (torch := sys.modules.get("torch")) is None:  # nothing was traced, and importing it takes seconds
        return None
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for value in list(frame.f_locals.values()):
            if not isinstance(value, torch.fx.Node):
                continue
            if found := line_of_frames(_frames_in(str(value.meta.get("stack_trace", "")))):
                return found
    return None


@cache
def _is_users(filename: str) -> bool:
    path = Path(filename)
    if not path.is_file():
        return False
    library = Path(sysconfig.get_paths()["stdlib"])
    packages = [Path(sysconfig.get_paths()[name]) for name in ("purelib", "platlib")]
    for folder in packages:
        if path.is_relative_to(folder):
            return path.relative_to(folder).parts[0] not in TOOLS
    return not path.is_relative_to(library) and not path.is_relative_to(sys.base_prefix)


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
