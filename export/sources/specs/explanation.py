"""What an error of PyTorch's exporter means: the cause and the user's own line first, the rest in a file."""

import re
import tempfile
import traceback
from pathlib import Path

from export.common.packages import cache_dir
from export.sources.specs.spec import ModelSpec
from export.sources.specs.user_code import chain, line_of

__all__ = ["explained", "first_lines", "unforeseen"]

REPORTS = "errors"  # a folder of the cache
CAUSE_LINES = 4

SIZE_ADVICE = (
    "Write the network with no size as a constant (x.flatten(1), not x.reshape(8, -1)) and no pooling with "
    "ceil_mode=True (pad instead), or fix that dim in the spec"
)

# What the exporter says, what it means, and what to do; {0} is what the pattern found.
MEANINGS = (
    (
        r"(data-dependent) expression",
        "the network branches on a value, and a graph has one way for all values",
        "Write it with no `if` on values: torch.where(condition, a, b) takes the place of `if`, a mask that "
        "of a loop",
    ),
    (
        r"inferred a static shape of (\d+) for dimension",
        "the network makes a constant of a size that may vary: {0}, the example's",
        SIZE_ADVICE,
    ),
    (
        r"the specified range batch .* satisfy the generated guard ([^\n]+)",
        "the network branches on the batch size, and the graph is right for some only ({0})",
        "Write it without a branch on the batch size, or lower max_batch_size",
    ),
    (
        r"specialized it to be a constant \((\d+)\)",
        "the network makes a constant of a size that may vary: {0}, the example's",
        SIZE_ADVICE,
    ),
    (
        r"No ONNX function found for <OpOverload\(op='(\w+\.\w+)'",
        "ONNX has no operator for {0}",
        "Write it with other operations; https://onnx.ai/onnx/operators has those that there are",
    ),
)
ADVICE = "If the line above is not the reason, the file below has all of it"


def explained(error: Exception, spec: ModelSpec, printed: str = "", heard: str | None = None) -> str:
    """The message for people. `printed`: what the exporter wrote besides; `heard`: the user's line at which
    it last took a size for granted."""
    causes = chain(error)
    text = "\n".join(str(cause) for cause in causes)
    cause, advice = first_lines(causes[0], CAUSE_LINES), ADVICE
    for pattern, meaning, what_to_do in MEANINGS:
        if found := re.search(pattern, text):
            cause, advice = meaning.format(found[1].strip()), what_to_do
            break
    line = line_of(error) or heard
    return (
        f"{cause}{f', at {line}' if line else ''}\n"
        f"So PyTorch cannot export {spec.name} with a dynamic batch (1 to {spec.max_batch_size}). {advice}\n"
        f"All that the exporter said: {_report(error, spec.name, printed)}"
    )


def unforeseen(error: Exception, name: str) -> str:
    """The message for people of an error that is none of `ExportError`, in the export of the model `name`."""
    line = line_of(error)
    return (
        f"{type(error).__name__}: {first_lines(error)}{f', at {line}' if line else ''}\n"
        f"Nothing here foresaw that. Where it came from: {_report(error, name)}"
    )


def first_lines(error: BaseException, most: int = 1) -> str:
    """The first lines of an error's message that say something, or its type's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "\n".join(lines[:most]) or type(error).__name__


def _report(error: Exception, name: str, printed: str = "") -> Path:
    """Where everything was written: the cache folder, or a temporary file if that cannot be written."""
    text = printed + "".join(traceback.format_exception(error))
    try:
        path = cache_dir() / REPORTS / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError:
        with tempfile.NamedTemporaryFile("w", prefix=f"{name}-", suffix=".txt", delete=False) as file:
            file.write(text)
        return Path(file.name)
    return path
