"""Spans as they are sent, in any order and incomplete, become a tree that says what is missing."""

import json

import pytest

from server.errors import ServerError
from server.operations.tracing.cli import as_object, as_text
from server.operations.tracing.gateway_log import gateway_spans
from server.operations.tracing.tree import NO_LOG, missing_parts, tree_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
MS = 1_000_000
CLIENT, GATEWAY, SERVER, STEPS = (
    "triton-vision-client",
    "gateway",
    "triton-inference-server",
    "triton-vision-model",
)


def span(key, parent, service, name, start, end, **more):
    times = {"start_ns": start * MS, "end_ns": end * MS}
    return {
        "span_id": key, "parent_id": parent, "service": service, "name": name, "events": {}, **times, **more
    }  # fmt: skip


COMPUTED = {
    "COMPUTE_START": 40 * MS,
    "COMPUTE_INPUT_END": 41 * MS,
    "COMPUTE_OUTPUT_START": 80 * MS,
    "COMPUTE_END": 81 * MS,
}
ALL = [
    span("c0", "", CLIENT, "ask cnn", 0, 100),
    span("c1", "c0", CLIENT, "encode", 1, 5),
    span("c2", "c0", CLIENT, "request", 5, 95),
    span("g", "c2", GATEWAY, "POST infer", 6, 94, tenant="alice", status=200),
    span("t0", "c2", SERVER, "InferRequest", 10, 90, events={"HTTP_RECV_START": 9 * MS}),
    span("t1", "t0", SERVER, "cnn", 12, 88, events={"QUEUE_START": 13 * MS}),
    span("t2", "t1", SERVER, "compute", 40, 81, events=COMPUTED),
    span("s", "t1", STEPS, "decode", 42, 60),
]


def shown(roots):
    return [(depth, node.part, node.name) for root in roots for depth, node in root.walk()]


@pytest.mark.parametrize("spans", [ALL, ALL[::-1]], ids=["in order", "reversed"])
def test_each_lies_within_what_caused_it(spans):
    assert shown(tree_of(spans)) == [
        (0, "client", "ask cnn"),
        (1, "client", "encode"),
        (1, "client", "request"),
        (2, "gateway", "POST infer"),
        (3, "server", "HTTP"),
        (4, "server", "model cnn"),
        (5, "server", "queue"),
        (5, "server", "compute"),
        (6, "server", "input"),
        (6, "server", "infer"),
        (7, "steps", "decode"),
        (6, "server", "output"),
    ]
    assert missing_parts(tree_of(spans)) == {}


def test_times_are_those_of_the_events():
    (root,) = tree_of(ALL)
    took = {node.name: (node.start_ns // MS, node.duration_ms) for _, node in root.walk()}
    assert took["queue"] == (13, 27)
    assert took["infer"] == (41, 39)
    assert took["HTTP"] == (9, 81)


def test_without_a_gateway_the_server_is_below_the_request():
    roots = tree_of([one for one in ALL if one["service"] != GATEWAY])
    assert (2, "server", "HTTP") in shown(roots)
    assert missing_parts(roots) == {"gateway": NO_LOG}


def test_a_server_alone_is_a_tree_too():
    roots = tree_of([one for one in ALL if one["service"] == SERVER])
    assert shown(roots)[0] == (0, "server", "HTTP")
    text = as_text(TRACE, roots, missing_parts(roots))
    for part in ("client", "gateway", "steps"):
        assert f"\n{part}: not seen; " in text


def test_a_gateway_that_waited_for_the_request_begins_with_it():
    late = [one if one["span_id"] != "g" else {**one, "start_ns": 0, "end_ns": 80 * MS} for one in ALL]
    (gateway,) = (node for root in tree_of(late) for _, node in root.walk() if node.part == "gateway")
    assert (gateway.start_ns, gateway.end_ns) == (5 * MS, 85 * MS)


def test_each_try_is_shown_with_what_it_met():
    again = [*ALL, span("c3", "c0", CLIENT, "request", 96, 99, attempt="2", error="ServerUnavailable")]
    text = as_text(TRACE, tree_of(again), {})
    assert "request (attempt=2 error=ServerUnavailable)" in text


def test_circles_and_strangers_end():
    spans = [
        span("a", "b", CLIENT, "x", 0, 1),
        span("b", "a", "other", "y", 0, 1),
        span("d", "d", "", "z", 0, 1),
    ]
    assert sorted(name for _, _, name in shown(tree_of(spans))) == ["x", "y", "z"]


def test_as_json_it_has_the_parts_and_the_tree():
    told = json.loads(json.dumps(as_object(TRACE, tree_of(ALL), {"gateway": "why"})))
    assert told["parts"] == {"client": "seen", "gateway": "why", "server": "seen", "steps": "seen"}
    assert told["spans"][0]["children"][1]["children"][0]["told"] == {"tenant": "alice", "status": 200}


LINE = {
    "time": 1795955376.439, "method": "POST", "endpoint": "infer", "tenant": "alice", "status": 200,
    "server": "s1", "total_ms": 12, "queue_ms": 3, "grpc_status": "-",
    "traceparent": f"00-{TRACE}-fc021e1bf2512a4f-01",
}  # fmt: skip


def test_the_gateways_line_is_a_span(tmp_path):
    other = {**LINE, "traceparent": f"00-{'1' * 32}-fc021e1bf2512a4f-01", "path": TRACE}
    lines = [json.dumps(other), f"haproxy[1]: {json.dumps(LINE)}", json.dumps(LINE)[:-9], f"{{{TRACE}", TRACE]
    (tmp_path / "log").write_text("\n".join(lines))
    (found,) = gateway_spans(tmp_path / "log", TRACE)
    assert found["parent_id"] == "fc021e1bf2512a4f"
    assert found["end_ns"] - found["start_ns"] == 12 * MS
    assert (found["tenant"], found["queue_ms"], "grpc_status" in found) == ("alice", 3, False)


def test_a_log_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ServerError, match="cannot be read: No such file"):
        gateway_spans(tmp_path / "none", TRACE)
