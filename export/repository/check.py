"""Do the files of the repository agree with the specs, and with the graphs that are published?"""

from pathlib import Path

from export.common.errors import ConfigError
from export.graphs.facts import facts_of
from export.repository.configs.contract import (
    LABELS_FILE,
    WEIGHTS_KEY,
    contract_of,
    derive_contract,
    parse_config,
    print_config,
    read_config_text,
)
from export.repository.configs.difference import text_difference
from export.repository.publish import CONFIG_FILE, GRAPH_FILE, newest_version
from export.sources.spec_calls import label_text
from export.sources.specs.spec import ModelSpec
from export.sources.weights import own_weights
from server.environment.regular_files import regular

__all__ = ["check_model"]


def check_model(spec: ModelSpec, repository: Path) -> list[str]:
    """The differences, as texts to show; none if the model is as its spec says, or not in the repository.

    Raises `PackageError` when the labels cannot be fetched.
    """
    folder = repository / spec.name
    if not folder.exists():
        return []
    version = newest_version(folder)
    weights_label = None
    differences = []
    if version is not None:
        graph_differences, weights_label = _check_graph(spec, folder / str(version) / GRAPH_FILE)
        differences += graph_differences
    if weights_label is None and (weights := own_weights(spec)):
        weights_label = weights.label
    differences += _check_config(spec, folder / CONFIG_FILE, weights_label)
    if (labels := label_text(spec)) is not None:
        differences += text_difference(_read(folder / LABELS_FILE), labels, str(folder / LABELS_FILE))
    return differences


def _check_graph(spec: ModelSpec, path: Path) -> tuple[list[str], str | None]:
    import onnx

    # It imports torch; a repository without graphs needs none.
    from export.graphs.checks.verification import check_graph

    try:
        model = onnx.load(regular(path))
    except Exception as error:  # a damaged file raises whatever protobuf runs into
        return [f"{path} cannot be read: {error}; export again"], None
    failures = [f"{path}: {failure}" for failure in check_graph(spec, model)]
    return failures, facts_of(model).metadata.get(WEIGHTS_KEY)


def _check_config(spec: ModelSpec, path: Path, weights_label: str | None) -> list[str]:
    if not path.is_file():
        return [f"{path} is missing; export {spec.name} to write it"]
    try:
        config = parse_config(read_config_text(path), path)
    except ConfigError as error:
        return [str(error)]
    if weights_label is None:  # neither a graph nor weights of its own say what it should be
        weights_label = contract_of(config).parameters[WEIGHTS_KEY].string_value
    expected = derive_contract(spec, weights_label)
    return text_difference(
        print_config(contract_of(config, expected.parameters)),
        print_config(expected),
        f"{path}, its contract",
    )


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
