"""What is kept of spans, and what of documents that are none: the port takes them from whoever reaches it."""

import json
import urllib.error
import urllib.request

import pytest

from server import Supervisor, TritonServer
from server.watching import traces
from server.watching.status_page import StatusPage
from server.watching.traces import TraceStore
from tests.launcher import get

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def document(trace=TRACE, key=SPAN, **more):
    one = {
        "traceId": trace,
        "spanId": key,
        "name": "x",
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
        **more,
    }
    service = {"attributes": [{"key": "service.name", "value": {"stringValue": "triton-vision-client"}}]}
    return json.dumps({"resourceSpans": [{"resource": service, "scopeSpans": [{"spans": [one]}]}]}).encode()


def test_a_span_is_kept_without_what_it_carries():
    secret = [{"key": "image", "value": {"stringValue": "secret"}}]
    attributes = [*secret, {"key": "triton.request_id", "value": {"stringValue": "r" * 5000}}]
    events = [{"name": "QUEUE_START", "timeUnixNano": "1", "attributes": secret}]
    store = TraceStore()
    assert store.take(document(attributes=attributes, events=events, secret="secret")) == 1
    (span,) = store.spans(TRACE)
    assert "secret" not in json.dumps(span)
    assert span == {
        "span_id": SPAN,
        "parent_id": "",
        "service": "triton-vision-client",
        "name": "x",
        "start_ns": 1,
        "end_ns": 2,
        "events": {"QUEUE_START": 1},
        "request_id": "r" * traces.LONGEST_TEXT,
    }


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"{}", b"null", b"[" * 100_000, b'{"resourceSpans": 1}', b'{"resourceSpans": [[]]}',
        b"\xff\xfe", document(trace="x"), document(key=None), document(key="../../etc"), document(trace=[1]),
        document(parentSpanId="zz"), document(startTimeUnixNano="-1"), document(endTimeUnixNano="9" * 5000),
        document(startTimeUnixNano=None), document(startTimeUnixNano=1e400),
        document(attributes=[{"key": []}]), document(attributes=[{"key": "triton.model_name", "value": 1}]),
        document(events=[{"name": "x"}]),
        document(events=7),
    ],
    ids=range(22),
)  # fmt: skip
def test_what_is_no_span_is_refused(body):
    store = TraceStore()
    with pytest.raises(ValueError, match=r".+"):
        store.take(body)
    assert store.ids() == []


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(traces, "MOST_TRACES", 10)
    monkeypatch.setattr(traces, "MOST_SPANS_OF_ALL", 25)
    store = TraceStore()
    for number in range(100):
        store.take(document(f"{number:032x}", f"{number:016x}"))
    assert store.ids() == [f"{number:032x}" for number in range(90, 100)]
    for number in range(1000):
        store.take(document(TRACE, f"{number:016x}"))
    assert len(store.spans(TRACE)) <= traces.MOST_SPANS
    assert sum(len(store.spans(trace)) for trace in store.ids()) <= 25


def test_a_span_that_is_sent_twice_counts_once():
    store = TraceStore()
    for _ in range(3):
        store.take(document())
    assert len(store.spans(TRACE)) == 1


@pytest.fixture
def page(tmp_path):
    with StatusPage(Supervisor(TritonServer(tmp_path)), "127.0.0.1", 0, TraceStore()) as page:
        yield page


def post(url, body, content_type="application/json"):
    request = urllib.request.Request(url, body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_status_port_takes_and_gives_them(page):
    assert post(f"{page.url}/v1/traces", document()) == 200
    assert json.loads(get(f"{page.url}/traces")[1]) == {"ids": [TRACE]}
    told = json.loads(get(f"{page.url}/traces/{TRACE}")[1])
    assert [span["name"] for span in told["spans"]] == ["x"]
    assert json.loads(get(f"{page.url}/traces/{'0' * 32}")[1])["spans"] == []


def test_the_status_port_refuses_what_is_too_much_or_something_else(page):
    assert post(f"{page.url}/v1/traces", b"[]") == 400
    assert post(f"{page.url}/v1/traces", document(), "text/plain") == 415  # a page of others may send that
    assert post(f"{page.url}/ready", document()) == 404


def test_a_document_that_is_too_long_is_not_read(page):
    request = urllib.request.Request(
        f"{page.url}/v1/traces", b"{}", {"Content-Type": "application/json", "Content-Length": str(2**40)}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as answer:
        assert answer.code == 413


def test_without_traces_there_is_nothing(tmp_path):
    with StatusPage(Supervisor(TritonServer(tmp_path)), "127.0.0.1", 0) as page:
        assert post(f"{page.url}/v1/traces", document()) == 404
        assert get(f"{page.url}/traces")[0] == 404
