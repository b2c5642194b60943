"""Which TensorRT built a plan? Its first bytes say, and a plan loads on no other.

Where they lie is what trtexec's `--getPlanVersionOnly` reads (samples/common/sampleEngines.cpp of NVIDIA's
TensorRT): a tag, at 4 the version of the layout, and from 24 on major, minor, patch and build, a byte each.
Plans of TensorRT-RTX have another tag and layout, and the version in the same place. A header that is neither
is unknown here, and nothing is said against it.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .regular_files import NotRegularError, open_regular
from .repository import RepositoryModel, config_fields, config_path, served_versions

__all__ = ["PlanFileError", "PlanHeader", "plan_fault", "plan_faults", "read_header"]

HEADER_BYTES = 28
VERSION_AT = 24
# By tag and version of the layout; the second is that of the plans which TensorRT-RTX 1.7.1 builds.
LAYOUTS = {(b"ftrt", 0): "TensorRT", (b"vtrt", 0): "TensorRT-RTX"}
PLAN_FILE = "model.plan"
BACKEND = re.compile(r'\b(?:backend|platform)\s*:\s*"[^"]')
TENSORRT = re.compile(r'\bbackend\s*:\s*"tensorrt"|\bplatform\s*:\s*"tensorrt_plan"')
FILE = re.compile(r'\bdefault_model_filename\s*:\s*"([^"]+)"')
FILES = re.compile(r"\bcc_model_filenames\s*:?\s*(\[[^\]]*\]|[{<][^}>]*[}>])")
VALUE = re.compile(r'\bvalue\s*:\s*"([^"]+)"')


class PlanFileError(Exception):
    """What is named as a plan is none: not a regular file, unreadable, or shorter than a header."""


@dataclass(frozen=True)
class PlanHeader:
    """Who built a plan: `product` is TensorRT or TensorRT-RTX; major, minor, patch, build."""

    product: str
    version: tuple[int, int, int, int]

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))}"


def read_header(path: Path) -> PlanHeader | None:
    """None where the header is unknown. Raises `PlanFileError`, and never waits for a pipe's other end."""
    try:
        with open_regular(path) as file:
            head = file.read(HEADER_BYTES)
    except NotRegularError as error:
        raise PlanFileError(error.strerror) from error
    except OSError as error:
        raise PlanFileError(f"it cannot be read: {error.strerror}") from error
    if len(head) < HEADER_BYTES:
        raise PlanFileError(f"it has {len(head)} bytes, and a plan's header alone has {HEADER_BYTES}")
    product = LAYOUTS.get((head[:4], int.from_bytes(head[4:8], "little")))
    if product is None:
        return None
    major, minor, patch, build = head[VERSION_AT:HEADER_BYTES]
    return PlanHeader(product, (major, minor, patch, build))


def plan_fault(header: PlanHeader, tensorrt: str) -> str:
    """Why a server with this TensorRT, such as 10.5.0, would not load the plan; "" if it would."""
    wanted = tuple(int(part) for part in tensorrt.split("."))
    if header.product == "TensorRT" and header.version[: len(wanted)] == wanted:
        return ""
    return f"it was built by {header}, and plans load on the TensorRT that built them only"


def plan_faults(repository: Path, models: list[RepositoryModel], release: str, tensorrt: str) -> list[str]:
    """A line for each plan that would not load, or of which that cannot be told; what to run is in it.

    Plans are those that the configs which are served name, in the versions that their policies let in.
    """
    lines = []
    for model in models:
        for path in _plans(repository, model):
            where = os.path.relpath(path, repository)
            try:
                header = read_header(path)
            except PlanFileError as error:
                lines.append(f"{where} will not load: {error}")
                continue
            if header is None:
                lines.append(f"{where}: its header is unknown, so it is not known which TensorRT built it")
            elif fault := plan_fault(header, tensorrt):
                lines.append(
                    f"{where} will not load: {fault}; release {release} has {tensorrt}: build it again with "
                    f"`python -m export {model.name} --tensorrt --release {release}`"
                )
    return lines


def _plans(repository: Path, model: RepositoryModel) -> list[Path]:
    """Those that are there: what is missing is tritonserver's to say."""
    folder, fields = repository / model.name, config_fields(config_path(repository, model.name))
    named = FILE.search(fields)
    file = named[1] if named else PLAN_FILE
    if model.is_ensemble or not model.versions:
        return []
    if BACKEND.search(fields):
        if not TENSORRT.search(fields):
            return []
    elif file != PLAN_FILE or not (folder / str(model.versions[0]) / file).exists():
        return []  # Triton tells a backend by the files of the first version
    files = {file, *(value for entry in FILES.findall(fields) for value in VALUE.findall(entry))}
    versions = served_versions(fields, model.versions)
    paths = (folder / str(version) / name for version in versions for name in sorted(files))
    return [path for path in paths if path.exists()]
