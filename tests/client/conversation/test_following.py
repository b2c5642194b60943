"""Ids and spans of a question, without a server: what is yielded, what is thrown in, what is kept."""

import socket

import numpy as np
import pytest

from client import InvalidInput, RequestTimeout, ServerOverloaded, Tracer
from client.conversation.following import followed
from client.transport.address import Address
from client.transport.connections import _headers
from client.transport.protocol import Call, Inference, InputTensor, LocalWork, Pause

TENSOR = InputTensor("x", "UINT8", np.zeros((1, 1), np.uint8))
ASK = Inference("cnn", TENSOR, ("y",), 1.0)


def question(fails=None):
    yield Call("get_model_config")
    yield LocalWork(len, ((),))
    try:
        yield ASK
    except ServerOverloaded:
        yield Pause(0.1)
        answer = yield ASK
        if fails:
            raise fails from None
        return answer
    return "at once"


def run(flow, *answers):
    """The steps, with the answers that are sent back: an exception is thrown; what it returns comes last."""
    steps, send = [], lambda: next(flow)
    try:
        for answer in (None, *answers):
            if steps:
                send = (
                    (lambda a=answer: flow.throw(a))
                    if isinstance(answer, Exception)
                    else (lambda a=answer: flow.send(a))
                )
            steps.append(send())
    except StopIteration as stop:
        return steps, stop.value
    raise AssertionError("it goes on")


ANSWERS = ({}, 0, ServerOverloaded("full"), None, "answer")


def test_all_attempts_carry_one_id_and_untraced_ones_no_traceparent():
    steps, result = run(followed(question(), "cnn"), *ANSWERS)
    sent = [step for step in steps if isinstance(step, Inference)]
    assert result == "answer"
    assert len({step.request_id for step in sent}) == 1
    assert len(sent[0].request_id) == 32
    assert {step.traceparent for step in sent} == {""}


def test_each_step_is_a_span_of_one_trace():
    tracer = Tracer()
    steps, _ = run(followed(question(), "cnn", tracer), *ANSWERS)
    whole, *parts = tracer.spans
    assert [span.name for span in parts] == [
        "get_model_config",
        "len",
        "request",
        "wait",
        "request",
        "decode",
    ]
    assert {span.parent_id for span in parts} == {whole.span_id}
    assert whole.name == "ask cnn"
    assert tracer.ids == [whole.trace_id]
    sent = [step for step in steps if isinstance(step, Inference)]
    requests = [span for span in parts if span.name == "request"]
    assert [step.traceparent for step in sent] == [f"00-{s.trace_id}-{s.span_id}-01" for s in requests]
    assert sent[0].request_id == whole.trace_id
    assert requests[0].told["error.type"] == "ServerOverloaded"
    assert [span.told["vision.attempt"] for span in requests] == ["1", "2"]
    assert all(whole.start_ns <= span.start_ns <= span.end_ns <= whole.end_ns for span in parts)


def test_an_error_has_the_id_and_says_it():
    failed = RequestTimeout("no answer")
    flow = followed(question(failed), "cnn")
    with pytest.raises(RequestTimeout) as raised:
        run(flow, *ANSWERS)
    assert raised.value.message == "no answer"
    assert str(raised.value) == f"no answer (request {raised.value.request_id})"


def test_what_was_never_sent_has_none():
    with pytest.raises(InvalidInput) as raised:
        run(followed(question(), "cnn"), InvalidInput("wrong"))
    assert raised.value.request_id is None


def test_a_flow_that_is_given_up_is_told_as_far_as_it_came():
    tracer = Tracer()
    flow = followed(question(), "cnn", tracer)
    next(flow)
    flow.close()
    assert [span.name for span in tracer.spans] == ["ask cnn"]


def test_a_trace_of_the_applications_own_goes_on():
    tracer = Tracer(parent=f"00-{'a' * 32}-{'b' * 16}-00")
    run(followed(question(), "cnn", tracer), *ANSWERS)
    assert (tracer.spans[0].trace_id, tracer.spans[0].parent_id) == ("a" * 32, "b" * 16)


@pytest.mark.parametrize("parent", ["x", "00-1-2-3", f"00-{'A' * 32}-{'b' * 16}-00"])
def test_a_wrong_parent_is_refused(parent):
    with pytest.raises(ValueError, match="no traceparent"):
        Tracer(parent=parent)


def test_headers_of_the_caller_win():
    (sent,) = (
        s for s in run(followed(question(), "cnn", Tracer()), {}, 0, "yes")[0] if isinstance(s, Inference)
    )
    own = _headers(sent, Address.parse("http://h:1", headers={"TraceParent": "mine"}))
    assert own == {"TraceParent": "mine", "x-request-id": sent.request_id}


def test_a_collector_that_is_away_is_told_of_once(caplog):
    tracer = Tracer("http://127.0.0.1:9")
    for _ in range(3):
        run(followed(question(), "cnn", tracer), *ANSWERS)
    tracer.flush()
    assert len([record for record in caplog.records if "cannot be sent" in record.message]) == 1


def test_nobody_waits_for_each_document_to_fail():
    """At the close, the first failure stands for the others that wait."""
    with socket.create_server(("127.0.0.1", 0)) as collector:
        tracer = Tracer(f"http://127.0.0.1:{collector.getsockname()[1]}")
        for _ in range(3):
            run(followed(question(), "cnn", tracer), *ANSWERS)
        connection, _ = collector.accept()
        connection.close()  # without an answer
        tracer.flush()
        collector.setblocking(False)
        with pytest.raises(BlockingIOError):  # no other has come
            collector.accept()
