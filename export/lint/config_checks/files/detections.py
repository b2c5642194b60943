"""TV122: a pipeline from photographs to boxes without its detector, or with one that does not fit; and the
reverse.

Both are published together, NAME and detect_NAME (`python -m export FILE.onnx --detector auto`), and are
known by their configs: the pipeline names its detector as a parameter.
"""

from collections import defaultdict
from collections.abc import Iterator

from export.common.detections import disagreements, is_detector, is_pipeline
from export.lint.comparison import near
from export.lint.reading.repository import Model, Repository
from export.lint.rules import NOTE, WARNING, Finding
from server.environment.regular_files import read_regular

__all__ = ["check"]

LABELS = "labels.txt"
AGAIN = "publish the detector again: python -m export FILE.onnx --detector auto --name {}"


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV122, of either of the two."""
    if is_pipeline(model.config):
        yield from _of_pipeline(model, repository)
    elif is_detector(model.config) and model is repository.models.get(model.name):
        yield from _of_detector(model, repository)


def _of_pipeline(model: Model, repository: Repository) -> Iterator[Finding]:
    name = model.config.parameters["detector"].string_value
    detector = repository.models.get(name)
    if detector is None:
        others = [other.name for other in repository.models.values() if is_detector(other.config)]
        yield model.finding(
            "TV122",
            f"it calls the detector {name!r}, which is not in the repository",
            near(name, others) or AGAIN.format(name),
            *_at("detector"),
        )
        return
    labels = model.folder / LABELS
    if not detector.readable or not labels.is_file():
        return
    count = len(read_regular(labels).decode(errors="replace").removesuffix("\n").split("\n"))
    for parameter, text in disagreements(model.config, detector.config, count):
        yield model.finding(
            "TV122",
            text if parameter else f"{LABELS} {text}",
            AGAIN.format(name),
            *_at(parameter or "detector"),
        )


def _of_detector(model: Model, repository: Repository) -> Iterator[Finding]:
    """What takes photographs for it, where nothing does."""
    pipelines = defaultdict[str, list[str]](list)  # by name, what each of its configs calls
    for one in repository.variants:
        if is_pipeline(one.config):
            pipelines[one.name].append(one.config.parameters["detector"].string_value)
    if any(model.name in called for called in pipelines.values()):
        return
    own = f"detect_{model.name}"
    if own not in repository.models:
        told, severity = f"there is no {own}", NOTE
    elif own in pipelines:
        told, severity = f"{own} calls {pipelines[own][0]!r}", NOTE
    else:
        told, severity = f"{own}, under whose name people look for it, is another kind of model", WARNING
    fix = (
        f"let a pipeline call it: python -m export use {model.name} --in PIPELINE"
        if severity == NOTE
        else f"publish it under another name: {AGAIN.format('OTHER').partition(': ')[2]}"
    )
    yield model.finding(
        "TV122", f"a detector that no pipeline hands photographs to: {told}", fix, severity=severity
    )


def _at(parameter: str) -> tuple[str, str, str]:
    return ("parameters", parameter, "value")
