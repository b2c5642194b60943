"""TV210 and TV215: operators and domains that the release's ONNX Runtime has, by the table that it was asked
for once.

operators/ has a table for each ONNX Runtime of the lock, which says what that tells of itself: the operators
of each domain with the opsets at which they changed, and for each kernel its opsets and types
(`python -m export releases --refresh` makes them).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from onnx import GraphProto, NodeProto

from export.common.release import Release
from export.lint.comparison import at_most, near
from export.lint.config_checks.instances import only_on_cpu
from export.lint.graph_checks.tensor_types import TensorTypes
from export.lint.reading.graph import LintedGraph
from export.lint.reading.repository import Model, Repository
from export.lint.rules import ERROR, WARNING, Finding

__all__ = ["TABLES", "check", "operators_of"]

TABLES = Path(__file__).with_name("operators")
ONNX_DOMAINS = ("", "ai.onnx")
CPU_DOMAINS = ("", "ai.onnx.ml")  # what CUDA has of these, CPUs have, too
TENSORRT_DOMAIN = "trt.plugins"  # ONNX Runtime registers TensorRT's plugins there
TENSORRT_SUFFIX = "_TRT"
REFUSAL_LENGTH = 300
RUNTIME = "{runtime}"
# How ONNX Runtime refuses what only a newer one takes: opset, IR version
OLDER_HERE = re.compile(r"support for domain [\w.]+ is till opset|max supported IR version")
WITHOUT_KERNELS = {"Constant"}  # taken apart when a graph is loaded


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV210 of other domains than ONNX's own, TV215, and TV216 for the releases that these do not name.

    What CUDA may have a kernel for is a warning, but with the target "cpu", or on CPU instances, an error.
    """
    for graph in model.graphs.values():
        if isinstance(graph, LintedGraph):
            told: set[str] = set()
            refusing = set(_too_new(graph, repository.releases))
            yield from _domains(model, graph, repository.releases)
            operators = set()
            for operator, finding in _nodes(model, graph, target, repository.releases):
                operators.add(operator)
                refusing |= set(finding.releases or model.releases)
                if finding.message not in told:
                    told.add(finding.message)
                    yield finding
            left = [release.name for release in repository.releases if release.name not in refusing]
            # the ONNX Runtime of this machine says nothing of a release that takes what others refuse
            if left and not any(operator in graph.session.refusal for operator in operators):
                yield from _refused(model, graph, _on_cpu(model, target), left)


def _domains(model: Model, graph: LintedGraph, releases: Sequence[Release]) -> Iterator[Finding]:
    for domain, opset in sorted(graph.opsets.items()):
        highest = {release: operators_of(release)["domains"].get(domain) for release in releases}
        refusing = [release for release, most in highest.items() if most and opset > most]
        if domain and refusing:  # of ONNX itself release.json says it
            limits = {release: int(highest[release]) for release in refusing}
            yield model.finding(
                "TV210",
                f"the graph has opset {opset} of {domain}; {at_most(limits)}",
                f"export with opset {min(limits.values())} of {domain} or lower",
                file=graph.path,
                releases=[release.name for release in refusing],
            )


def _nodes(
    model: Model, graph: LintedGraph, target: str, releases: Sequence[Release]
) -> Iterator[tuple[str, Finding]]:
    """TV215, each with its operator."""
    accelerators = model.config.optimization.execution_accelerators
    tensorrt = any(entry.name == "tensorrt" for entry in accelerators.gpu_execution_accelerator)
    libraries = bool(model.config.model_operations.op_library_filename)
    cpu = _on_cpu(model, target)
    local = {(_domain(function.domain), function.name) for function in graph.model.functions}
    types = TensorTypes(graph.model)
    for node, opsets in _all_nodes(graph, types):
        domain = _domain(node.domain)
        if (domain, node.op_type) in local or (
            libraries and domain not in operators_of(releases[-1])["domains"]
        ):
            continue
        if tensorrt and (domain == TENSORRT_DOMAIN or node.op_type.endswith(TENSORRT_SUFFIX)):
            continue
        name = f"{domain}.{node.op_type}" if domain else node.op_type
        told: dict[tuple[str, bool], tuple[str, list[Release]]] = {}
        for release in releases:
            problem, fix, elsewhere = _problem(node, domain, opsets.get(domain, 1), types, release)
            if problem:
                told.setdefault((problem, elsewhere), (fix, []))[1].append(release)
        for (problem, elsewhere), (fix, refusing) in told.items():
            where = f" (node {node.name!r})" if node.name else ""
            yield (
                node.op_type,
                model.finding(
                    "TV215",
                    f"{name}{where}: {problem.replace(RUNTIME, f'ONNX Runtime {refusing[0].onnxruntime}')}",
                    fix if cpu or not elsewhere else f"{fix}; on a GPU it loads where CUDA has a kernel",
                    file=graph.path,
                    severity=ERROR if cpu or not elsewhere else WARNING,
                    releases=[release.name for release in refusing],
                ),
            )


def _on_cpu(model: Model, target: str) -> bool:
    return target == "cpu" or only_on_cpu(model)


def _problem(
    node: NodeProto, domain: str, opset: int, types: TensorTypes, release: Release
) -> tuple[str, str, bool]:
    """What is wrong, the fix, and whether there may be a kernel for GPUs, which the table leaves out.

    `RUNTIME` stands in the place of the ONNX Runtime, so that what several of them say is one problem.
    """
    runtime, table = RUNTIME, operators_of(release)
    known = table["operators"].get(domain)
    if known is None:
        return (
            f"{runtime} knows no domain {domain!r}",
            "name the library that has it in model_operations { op_library_filename }, or put the operator "
            "together from others",
            False,
        )
    opset = min(opset, table["domains"][domain])  # a higher one has been told
    entry = known.get(node.op_type)
    since = max((version for version in entry["since"] if version <= opset), default=None) if entry else None
    if since is None:
        later = f", which came with opset {entry['since'][0]}" if entry else ""
        return (
            f"{runtime} has no such operator at opset {opset}{later}",
            f"import opset {entry['since'][0]}"
            if entry
            else near(node.op_type, known) or "export with operators that it has",
            False,
        )
    if since in entry.get("gone", ()):
        return f"it was taken out in opset {since}", "convert the graph with onnx.version_converter", False
    if node.op_type in WITHOUT_KERNELS or any(version <= opset for version in entry.get("function", ())):
        return "", "", False  # put together from others where it has no kernel, of that type at least
    given = types.of_parameters(node, domain, opset)
    problem = _without_kernel(entry.get("cpu", ()), since, given, _type_sets(release.onnxruntime))
    if not problem and (refused := _refused_values(node, entry.get("refuses", {}))):
        return f"{runtime} has no kernel of it for CPUs with {refused}", "export it with another value", True
    if not problem:
        return "", "", False
    fix = "cast in the graph" if "type" in problem else "put it together from others"
    return f"{runtime} {problem}", fix, "type" in problem or domain not in CPU_DOMAINS


def _without_kernel(
    kernels: Any, since: int, given: Mapping[str, str], sets: Sequence[frozenset[str]]
) -> str:
    """What is missing, or "". A kernel without an end is of the operator as it is since exactly its start."""
    matching = [
        parameters
        for start, end, parameters in kernels
        if start == since or (end is not None and start <= since <= end)
    ]
    if not matching:
        return f"has no kernel of it for CPUs (opset {since})"
    wrong: dict[str, str] = {}
    for parameters in matching:
        wrong = {
            parameter: kind
            for parameter, kind in given.items()
            if parameter in parameters and not _takes(sets[parameters[parameter]], kind)
        }
        if not wrong:
            return ""
    parameter, kind = next(iter(wrong.items()))
    return f"has no kernel of it for CPUs with type {kind} ({parameter})"


def _refused_values(node: NodeProto, refused: Mapping[str, Sequence[int]]) -> str:
    """Attributes with a value that kernels refuse, as in "bits: 3"; "" where there is none."""
    found = {attribute.name: attribute.i for attribute in node.attribute}
    return ", ".join(f"{name}: {found[name]}" for name in sorted(refused) if found.get(name) in refused[name])


def _takes(allowed: frozenset[str], kind: str) -> bool:
    """ONNX Runtime casts float16 to float where only that has a kernel."""
    return kind in allowed or (kind == "float16" and "float" in allowed)


def _refused(model: Model, graph: LintedGraph, cpu: bool, releases: Sequence[str]) -> Iterator[Finding]:
    """What no table tells: a graph that ONNX Runtime here refuses, and not for being too old itself."""
    refusal = " ".join(graph.session.refusal.split())
    if not refusal or model.config.model_operations.op_library_filename or OLDER_HERE.search(refusal):
        return
    # a kernel may be there for GPUs, and another machine may have what a kernel asks of it when it is made
    milder = "RUNTIME_EXCEPTION" in refusal or ("NOT_IMPLEMENTED" in refusal and not cpu)
    yield model.finding(
        "TV216",
        f"ONNX Runtime refuses the graph on this machine: {refusal[:REFUSAL_LENGTH]}",
        "load it with onnxruntime.InferenceSession, and export it so that it loads",
        file=graph.path,
        severity=WARNING if milder else None,
        releases=releases,
    )


def _too_new(graph: LintedGraph, releases: Sequence[Release]) -> Iterator[str]:
    """Names of the releases that TV210 and TV211 name."""
    for release in releases:
        domains = operators_of(release)["domains"]
        opsets = any(opset > domains.get(domain, opset) for domain, opset in graph.opsets.items())
        if opsets or graph.ir_version > release.max_ir_version:
            yield release.name


def _all_nodes(graph: LintedGraph, types: TensorTypes) -> Iterator[tuple[NodeProto, dict[str, int]]]:
    """Nodes with the opsets that they are of, those of subgraphs and local functions included."""

    def walk(part: GraphProto) -> Iterator[NodeProto]:
        types.read(part, graph.opsets)
        for node in part.node:
            yield node
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    if inner.node:
                        yield from walk(inner)

    for node in walk(graph.model.graph):
        yield node, graph.opsets
    for function in graph.model.functions:
        opsets = {_domain(entry.domain): entry.version for entry in function.opset_import}
        for node in function.node:
            yield node, {**graph.opsets, **opsets}


def _domain(domain: str) -> str:
    return "" if domain in ONNX_DOMAINS else domain


def operators_of(release: Release) -> dict[str, Any]:
    """The table of the release's ONNX Runtime."""
    return _table(release.onnxruntime)


@cache
def _table(onnxruntime: str) -> dict[str, Any]:
    return dict(json.loads((TABLES / f"{onnxruntime}.json").read_text()))


@cache
def _type_sets(onnxruntime: str) -> list[frozenset[str]]:
    return [frozenset(line.split()) for line in _table(onnxruntime)["types"]]
