"""What the client says and hears, without a server: contracts, requests, answers, errors, retries."""

import numpy as np
import pytest

import client
from client import Classification, InferenceFailed, InvalidInput
from client.conversation.classifier import ClassifierContract
from client.conversation.flows import Conversation, Settings
from client.conversation.retrying import Deadline, RetryPolicy
from client.errors import from_server, gone, unavailable
from client.transport.protocol import Call, Inference, LocalWork, ModelAnswer, Pause, Question, model_info
from client.transport.shared_memory import serialized
from tests.scripts import Script

PHOTO = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)

ENCODED = {
    "name": "e",
    "max_batch_size": 8,
    "input": [{"name": "encoded_image", "data_type": "TYPE_STRING", "dims": ["1"]}],
    "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": ["3"]}],
}
PIXELS = {
    "name": "p",
    "input": [{"name": "image", "data_type": "TYPE_UINT8", "dims": [6, 5, 3]}],
    "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [3]}],
    "parameters": {"weights": {"string_value": "random seed 0"}},
}

FULL = from_server("StatusCode.UNAVAILABLE", "Exceeds maximum queue size", "u")


def test_requests_follow_the_models_configuration():
    tensor = ClassifierContract.read(ENCODED).tensor(b"jpeg")
    assert (tensor.name, tensor.datatype, tensor.array.shape) == ("encoded_image", "BYTES", (1, 1))
    assert serialized(tensor) == b"\x04\0\0\0jpeg"
    tensor = ClassifierContract.read(PIXELS).tensor(
        PHOTO
    )  # without max_batch_size there is no batch dimension
    assert (tensor.name, tensor.datatype, tensor.array.shape) == ("image", "UINT8", (6, 5, 3))
    tensor = ClassifierContract.read({**PIXELS, "max_batch_size": 4}).tensor(PHOTO)
    assert tensor.array.shape == (1, 6, 5, 3)
    assert serialized(tensor) == PHOTO.tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"input": [{"name": "line", "data_type": "TYPE_UINT8", "dims": [32, -1]}]},
        {"input": [{"name": "image", "data_type": "TYPE_FP32", "dims": [6, 5, 3]}]},
        {"output": [{"name": "heatmap", "data_type": "TYPE_FP32", "dims": [6, 5]}]},
    ],
)
def test_a_model_that_does_not_classify_is_refused(change):
    with pytest.raises(InvalidInput, match="does not classify images"):
        ClassifierContract.read({**PIXELS, **change})


def test_answers_are_read():
    items = np.array([[b"0.75:2:espresso", b"0.2:0:a: b", b"0.05:1"]], dtype=object)
    prediction = ClassifierContract.read(PIXELS).result(
        ModelAnswer("p", "3", {"probabilities": items}), "cup.jpg"
    )
    assert prediction.classes == (
        Classification("espresso", 2, 0.75),
        Classification("a: b", 0, 0.2),
        Classification("class 1", 1, 0.05),
    )
    assert (prediction.source, prediction.model, prediction.version) == ("cup.jpg", "p", "3")
    assert prediction.best.label == "espresso"
    assert prediction.has_random_weights
    assert (
        not ClassifierContract.read(ENCODED)
        .result(ModelAnswer("e", "1", {"probabilities": items}), "x")
        .has_random_weights
    )


def test_an_answer_without_classes_is_an_error():
    with pytest.raises(InferenceFailed, match="other than classes"):
        ClassifierContract.read(PIXELS).result(
            ModelAnswer("p", "1", {"probabilities": np.zeros((1, 3), np.float32)}), "x"
        )


def test_an_ensembles_weights_are_its_networks():
    ensemble = {"ensemble_scheduling": {"step": [{"model_name": "decoder"}, {"model_name": "p"}]}}
    info = model_info(
        {"name": "all", "version": "1", "state": "READY"}, {"all": ensemble, "decoder": {}, "p": PIXELS}
    )
    assert (info.weights, info.ready, info.has_random_weights) == ("random seed 0", True, True)
    never_loaded = model_info({"name": "x"}, {})
    assert (never_loaded.state, never_loaded.version, never_loaded.ready) == ("UNLOADED", "", False)


@pytest.mark.parametrize(
    ("status", "message", "kind", "said"),
    [
        (
            "503",
            "[request id: <id_unknown>] Exceeds maximum queue size",
            client.ServerOverloaded,
            "queue is full",
        ),
        (
            "StatusCode.UNAVAILABLE",
            "Request timeout expired",
            client.ServerOverloaded,
            "waited in the server's queue",
        ),
        ("StatusCode.UNAVAILABLE", "Connection refused", client.ServerUnavailable, "make serve"),
        ("502", "Bad Gateway", client.ServerUnavailable, "make serve"),
        ("StatusCode.UNAVAILABLE", "Server exiting", client.ServerUnavailable, "is stopping"),
        ("StatusCode.UNAVAILABLE", "Server not ready", client.ServerUnavailable, "is stopping"),
        (
            "503",
            "Server is stopping, scheduler for model has stopped accepting new inference requests",
            client.ServerUnavailable,
            "is stopping",
        ),
        ("StatusCode.CANCELLED", "CANCELLED", client.ServerUnavailable, "let go of the request"),
        ("StatusCode.CANCELLED", "Channel closed!", InferenceFailed, "the client was closed"),
        ("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded", client.RequestTimeout, "--timeout"),
        ("404", "Request for unknown model: 'x' is not found", client.ModelNotFound, "unknown model"),
        (
            "404",
            "Request for unknown model: 'x' has no available versions",
            client.ModelNotReady,
            "no available",
        ),
        ("400", "unexpected shape for input", client.InvalidInput, "unexpected shape"),
        ("500", "in ensemble 'e', image 1 of 1: not an image: x", client.InvalidImage, "^not an image: x$"),
        ("500", "Unable to open shared memory region: '/x'", client.InvalidInput, "on one host"),
        (
            "400",
            "sequence 7 to model 'm' must specify the START flag",
            client.StreamLost,
            "Begin another stream",
        ),
        ("StatusCode.INTERNAL", "boom", client.InferenceFailed, "boom"),
        ("StatusCode.UNAUTHENTICATED", "no token", client.AccessDenied, "--header"),
        ("401", "no key that is known here", client.AccessDenied, "--api-key-file"),
        ("StatusCode.PERMISSION_DENIED", "only an admin may ask this", client.AccessDenied, "an admin"),
        (
            "429",
            "more requests per second than this tenant may send",
            client.ServerOverloaded,
            "ask the operator",
        ),
        ("503", "the servers are busy, so the request was refused", client.ServerOverloaded, "add servers"),
        ("StatusCode.RESOURCE_EXHAUSTED", "too much", client.ServerOverloaded, "too much"),
        (
            "StatusCode.RESOURCE_EXHAUSTED",
            "the message is larger than the 9 bytes that are taken",
            client.InvalidInput,
            "a smaller image",
        ),
        ("413", "the request is larger than the 9 bytes that are taken", client.InvalidInput, "larger"),
        ("503", "no server is ready; ask again later", client.ServerUnavailable, "not yet ready"),
        (
            "200",
            "client while decoding the response: <html>",
            client.ServerUnavailable,
            "something else answered",
        ),
    ],
)
def test_errors_of_the_server_are_told_apart(status, message, kind, said):
    error = from_server(status, message, "grpc://here:1")
    assert type(error) is kind
    with pytest.raises(kind, match=said):
        raise error


def test_back_off_doubles_up_to_a_limit_and_is_spread():
    policy = RetryPolicy(first_wait_s=0.1, longest_wait_s=0.5)
    for drawn, waits_s in ((1.0, [0.1, 0.2, 0.4, 0.5, 0.5]), (0.0, [0.05, 0.1, 0.2, 0.25, 0.25])):
        found = [policy.wait_s(attempt, draw=lambda drawn=drawn: drawn) for attempt in range(5)]
        assert found == pytest.approx(waits_s)


ANSWER = ModelAnswer("e", "1", {"probabilities": np.array([[b"0.9:1:cat"]], dtype=object)})
QUESTION = Question("e", ClassifierContract, 1)


@pytest.mark.parametrize("error", [client.ServerUnavailable("down"), FULL])
def test_what_may_pass_is_retried(error):
    script = Script(ENCODED, error, error, ANSWER)
    prediction = script.run(Conversation("u", Settings()).ask(QUESTION, b"jpeg", 0))
    assert prediction.best.label == "cat"
    assert [type(step) for step in script.steps] == [
        Call,
        LocalWork,
        Inference,
        Pause,
        Inference,
        Pause,
        Inference,
    ]


@pytest.mark.parametrize(
    "error",
    [
        client.InvalidImage("bad"),
        client.InvalidInput("bad"),
        client.RequestTimeout("late"),
        InferenceFailed("bug"),
    ],
)
def test_what_cannot_pass_is_not_retried(error):
    script = Script(ENCODED, error)
    with pytest.raises(type(error)):
        script.run(Conversation("u", Settings()).ask(QUESTION, b"jpeg", 0))
    assert not any(isinstance(step, Pause) for step in script.steps)


@pytest.mark.parametrize(("patience_s", "told"), [(0, []), (2, ["waiting for it, up to 2 s"])])
def test_waiting_is_told_where_there_is_any(caplog, patience_s, told):
    """What answered before and is gone is asked again a few times at once, which is no waiting."""
    down = unavailable("grpc://host:1", "refused")
    conversation = Conversation("u", Settings(retry=RetryPolicy(1, patience_s=patience_s)))
    Script(ENCODED, ANSWER).run(conversation.ask(QUESTION, b"jpeg", 0))
    with pytest.raises(client.ServerUnavailable, match=r"has not come back \(refused\)\. Is it stopped"):
        Script(*[down] * 9).run(conversation.ask(QUESTION, b"jpeg", 0))
    assert len(caplog.records) == len(told)
    assert all(words in caplog.text for words in told)


def test_a_wait_is_told_in_seconds():
    assert "(refused); it was asked again for 12 s. Is it" in str(gone("grpc://host:1", "refused", 12.2))


def test_retries_end():
    down = client.ServerUnavailable("down")
    script = Script(*[down] * 3)
    with pytest.raises(client.ServerUnavailable):
        script.run(Conversation("u", Settings(retry=RetryPolicy(2))).ask(QUESTION, b"jpeg", 0))
    assert [type(step) for step in script.steps] == [Call, Pause, Call, Pause, Call]


def test_no_wait_goes_beyond_the_time_out():
    down = client.ServerUnavailable("down")
    script = Script(down)
    policy = RetryPolicy(5, first_wait_s=10)
    with pytest.raises(client.ServerUnavailable):
        script.run(Conversation("u", Settings(timeout_s=1, retry=policy)).ask(QUESTION, b"jpeg", 0))
    assert [type(step) for step in script.steps] == [Call]


def test_a_server_that_answered_before_is_waited_for_beyond_the_time_out():
    """The patience is the sum of the waits, and no part of the time-out."""
    down = client.ServerUnavailable("down")
    policy = RetryPolicy(retries=2, first_wait_s=1, longest_wait_s=1, patience_s=60)
    conversation = Conversation("u", Settings(timeout_s=1.5, retry=policy))
    script = Script(ENCODED, *[down] * 20, ANSWER)
    assert script.run(conversation.ask(QUESTION, b"jpeg", 0)).best.label == "cat"
    waits = [step.seconds for step in script.steps if isinstance(step, Pause)]
    assert len(waits) == 20
    script = Script(*[down] * 200)
    with pytest.raises(client.ServerUnavailable, match=r"answered before and has not come back .*--patience"):
        script.run(conversation.ask(QUESTION, b"jpeg", 0))
    waits = [step.seconds for step in script.steps if isinstance(step, Pause)]
    assert 59 <= sum(waits) <= 60


def test_without_a_patience_of_its_own_the_time_out_bounds_the_waits():
    down = client.ServerUnavailable("down")
    policy = RetryPolicy(retries=2, first_wait_s=0.2, longest_wait_s=0.2)
    script = Script(ENCODED, *[down] * 50, ANSWER)
    run = script.run(Conversation("u", Settings(timeout_s=60, retry=policy)).ask(QUESTION, b"jpeg", 0))
    assert run.best.label == "cat"  # pauses take no time here
    script = Script(ENCODED, down)
    policy = RetryPolicy(retries=2, first_wait_s=10, longest_wait_s=10)
    with pytest.raises(client.ServerUnavailable):
        script.run(Conversation("u", Settings(timeout_s=1, retry=policy)).ask(QUESTION, b"jpeg", 0))


@pytest.mark.parametrize(("retries", "patience_s", "attempts"), [(0, 60, 1), (0, None, 1), (2, 0, 3)])
def test_no_retries_and_no_patience(retries, patience_s, attempts):
    policy = RetryPolicy(retries, patience_s=patience_s)
    script = Script(ENCODED, *[client.ServerUnavailable("down")] * attempts)
    with pytest.raises(client.ServerUnavailable):
        script.run(Conversation("u", Settings(retry=policy)).ask(QUESTION, b"jpeg", 0))
    assert sum(isinstance(step, Inference) for step in script.steps) == attempts


def test_a_dead_process_is_tried_again_a_few_times_and_not_for_long():
    """An image that kills it must not go on killing those that replace it."""
    died = from_server("500", "Stub process 'slow_0' is not healthy.", "u")
    script = Script(ENCODED, *[died] * 4)
    with pytest.raises(InferenceFailed, match="a process of the model has died"):
        script.run(
            Conversation("u", Settings(retry=RetryPolicy(3, patience_s=600))).ask(QUESTION, b"jpeg", 0)
        )
    waits = [step.seconds for step in script.steps if isinstance(step, Pause)]
    assert waits == [2.0] * 3  # the launcher needs up to 5 s to see it


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (client.ServerUnavailable("the server at u is stopping"), client.ServerUnavailable),
        (False, client.ServerUnavailable),
        (True, client.ModelNotFound),
        (client.AccessDenied("health is restricted"), client.ModelNotFound),
    ],
)
def test_unknown_models_of_a_server_that_stops(answer, kind):
    """An image's "unknown model" is believed only if the server is live."""
    unknown = from_server("404", "Request for unknown model: 'e' is not found", "u")
    refused = client.AccessDenied("restricted")
    live = [answer] if kind is client.ServerUnavailable else [answer, refused, refused]
    script = Script(ENCODED, unknown, *live)
    with pytest.raises(kind) as caught:
        script.run(Conversation("u", Settings(retry=RetryPolicy(0))).ask(QUESTION, b"jpeg", 0))
    assert type(caught.value) is kind
    assert [step.method for step in script.steps if isinstance(step, Call)][1] == "is_server_live"


def test_a_deadline_that_has_passed():
    with pytest.raises(client.RequestTimeout, match="within 1e-09 s"):
        Deadline(1e-9).remaining_s()


def test_a_contract_is_asked_for_once_and_again_after_a_refusal():
    conversation = Conversation("u", Settings())
    Script(ENCODED, ANSWER).run(conversation.ask(QUESTION, b"jpeg", 0))
    script = Script(client.InvalidInput("unexpected shape"))
    with pytest.raises(InvalidInput):
        script.run(conversation.ask(QUESTION, b"jpeg", 0))
    assert [type(step) for step in script.steps] == [LocalWork, Inference]
    script = Script(ENCODED, ANSWER)
    script.run(conversation.ask(QUESTION, b"jpeg", 0))
    assert [type(step) for step in script.steps] == [Call, LocalWork, Inference]
