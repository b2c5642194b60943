"""The spans of one request as a tree: who sent them, what lies within what, and which parts are missing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CLIENT", "GATEWAY", "NO_LOG", "PARTS", "SERVER", "STEPS", "Node", "missing_parts", "tree_of"]

CLIENT, GATEWAY, SERVER, STEPS = "client", "gateway", "server", "steps"
PARTS = (CLIENT, GATEWAY, SERVER, STEPS)
SERVICES = {
    "triton-vision-client": CLIENT,
    "gateway": GATEWAY,
    "triton-inference-server": SERVER,
    "triton-vision-model": STEPS,
}
ENDPOINT, COMPUTE = (
    "InferRequest",
    "compute",
)  # as tritonserver calls its spans; a model's has the model's name
COMPUTE_PARTS = (
    ("input", "COMPUTE_START", "COMPUTE_INPUT_END"),
    ("infer", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"),
    ("output", "COMPUTE_OUTPUT_START", "COMPUTE_END"),
)
REASONS = {
    CLIENT: "its spans did not arrive: was it told to trace (client --trace)?",
    SERVER: "tritonserver told nothing: it was not reached, refused the request before it was queued, or "
    "overlooked its traceparent, as 2.51 does with some over gRPC; ask again, or over HTTP",
    STEPS: "the model tells of no steps of its own",
}
NO_LOG = "no gateway, or none that was started with --gateway-log"
STRUCTURE = {"span_id", "parent_id", "service", "name", "start_ns", "end_ns", "events"}


@dataclass
class Node:
    """A span, and what happened within it. part: one of `PARTS`. told: what else is known of it."""

    part: str
    name: str
    start_ns: int
    end_ns: int
    told: dict[str, Any] = field(default_factory=dict)
    children: list["Node"] = field(default_factory=list)

    @property
    def duration_ms(self) -> float:
        """Milliseconds."""
        return (self.end_ns - self.start_ns) / 1e6

    def walk(self, depth: int = 0) -> Iterator[tuple[int, "Node"]]:
        """It and all below, each with its depth, in order of time."""
        yield depth, self
        for child in sorted(self.children, key=lambda node: (node.start_ns, -node.end_ns)):
            yield from child.walk(depth + 1)


def tree_of(spans: list[dict[str, Any]]) -> list[Node]:
    """The roots, in order of time: one, unless the span that joins them is missing."""
    nodes = {span["span_id"]: _node(span) for span in spans}
    parents = {span["span_id"]: span["parent_id"] for span in spans}
    gateways = {parents[key]: key for key, node in nodes.items() if node.part == GATEWAY}
    for span in spans:
        key, node, parent = span["span_id"], nodes[span["span_id"]], parents[span["span_id"]]
        if node.part == SERVER and span["name"] == ENDPOINT and parent in gateways:
            parents[key] = gateways[parent]  # the gateway hands the traceparent on as it came
        elif node.part == SERVER and span["name"] == COMPUTE:
            _split(node, span["events"])
            if model := nodes.get(parent):
                _add_queue(model, span["events"], _span(spans, parent)["events"])
    roots = []
    for key, node in sorted(nodes.items(), key=lambda pair: pair[1].part == STEPS):  # into what is there then
        above = nodes.get(parents[key])
        if above is None or _is_below(parents, parents[key], key):
            roots.append(node)
        else:
            if node.part == GATEWAY and node.start_ns < above.start_ns:
                # HAProxy's line has the time at which it began to wait for this request on the connection.
                node.start_ns, node.end_ns = above.start_ns, node.end_ns + above.start_ns - node.start_ns
            (_infer(above) if node.part == STEPS else above).children.append(node)
    return sorted(roots, key=lambda node: (node.start_ns, -node.end_ns))


def missing_parts(roots: list[Node], gateway: str = NO_LOG) -> dict[str, str]:
    """Why, by part; gateway: what is said where that one is missing."""
    seen = {node.part for root in roots for _, node in root.walk()}
    return {part: gateway if part == GATEWAY else REASONS[part] for part in PARTS if part not in seen}


def _node(span: dict[str, Any]) -> Node:
    part, events = SERVICES.get(span["service"], span["service"] or "?"), span.get("events", {})
    name = span["name"]
    if part == SERVER and name == ENDPOINT:
        name = "gRPC" if any(event.startswith("GRPC") for event in events) else "HTTP"
    elif part == SERVER and name != COMPUTE:
        name = f"model {name}"
    told = {key: value for key, value in span.items() if key not in STRUCTURE}
    began = events.get("HTTP_RECV_START", span["start_ns"])  # of gRPC it begins where the last request ended
    return Node(part, name, min(span["start_ns"], began), span["end_ns"], told)


def _span(spans: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return next(span for span in spans if span["span_id"] == key)


def _split(compute: Node, events: dict[str, int]) -> None:
    for name, begins, ends in COMPUTE_PARTS:
        if begins in events and ends in events:
            compute.children.append(Node(SERVER, name, events[begins], events[ends]))


def _add_queue(model: Node, compute: dict[str, int], events: dict[str, int]) -> None:
    if "QUEUE_START" in events and "COMPUTE_START" in compute:
        model.children.append(Node(SERVER, "queue", events["QUEUE_START"], compute["COMPUTE_START"]))


def _infer(model: Node) -> Node:
    """Where a model's steps happen: in its execution, if that is known."""
    for name in (COMPUTE, "infer"):
        model = next((child for child in model.children if child.name == name), model)
    return model


def _is_below(parents: dict[str, str], key: str, other: str) -> bool:
    """Whether spans that were sent go round in a circle."""
    seen: set[str] = set()
    while key in parents and key not in seen:
        if key == other:
            return True
        seen.add(key)
        key = parents[key]
    return key in seen
