"""Load a case into a running server, send its requests, and tell what came of it."""

import queue

import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from tests.backend.verdicts.case import ENDS, FAILS, REFUSED, UNDEFINED, Case, Either, SomeFail
from tests.graphs import inputs_of, publish, together
from tests.processes import wait_until

ONE_INSTANCE = "instance_group { count: 1 kind: KIND_CPU }\n"


def expected(case: Case):
    """Of our backend."""
    return case.differs.ours if case.differs else case.nvidia


def is_as(verdict, found) -> bool:
    if verdict == UNDEFINED:
        return isinstance(found, tuple)
    if isinstance(verdict, Either):
        return found in verdict.verdicts
    if isinstance(verdict, SomeFail):
        return isinstance(found, tuple) and found.count(FAILS) == verdict.count
    return found == verdict


def outcome(server, repository, case: Case):
    """In the terms of `Case.nvidia`, and the message of the refusal or of the last failure."""
    config = case.config if "instance_group" in case.config else f"{case.config}\n{ONE_INSTANCE}"
    publish(repository, case.name, case.model, config)
    with grpc.InferenceServerClient(server.grpc_url) as client:
        try:
            client.load_model(case.name)
        except InferenceServerException as error:
            return (ENDS if _gone(client) else REFUSED), str(error)
        if case.joined:
            answers = together(server.grpc_url, [lambda c, a=a: _answer(c, case.name, a) for a in case.asks])
        else:
            answers = [_try(client, case.name, ask) for ask in case.asks]
        if _gone(client):
            return ENDS, ""
        failures = [str(answer) for answer in answers if isinstance(answer, Exception)]
        found = tuple(FAILS if isinstance(a, Exception) else _values(a) for a in answers)
        if case.counted:
            wait_until(lambda: sum(counts(client, case.name)) == len(case.asks))
            found = (*found, counts(client, case.name))
        client.unload_model(case.name)
    return found, failures[-1] if failures else ""


def counts(client, name):
    """Requests that the statistics call successful, and failed."""
    statistics = client.get_inference_statistics(name).model_stats[0].inference_stats
    return statistics.success.count, statistics.fail.count


def _gone(client):
    try:
        return not client.is_server_live()
    except InferenceServerException:
        return True


def _try(client, name, ask):
    try:
        return _answer(client, name, ask)
    except InferenceServerException as error:
        return error


def _answer(client, name, ask):
    options = {
        "inputs": inputs_of(ask.arrays),
        "outputs": [grpc.InferRequestedOutput(output) for output in ask.outputs] or None,
        "sequence_id": ask.sequence,
        "sequence_start": "s" in ask.flags,
        "sequence_end": "e" in ask.flags,
        "client_timeout": 30,
    }
    if not ask.stream:
        return client.infer(name, **options)
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put(error or result))
    options.pop("client_timeout")
    try:
        client.async_stream_infer(name, **options)
        answer = answers.get(timeout=30)
    finally:
        client.stop_stream()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _values(result):
    found = {}
    for output in result.get_response().outputs:
        array = result.as_numpy(output.name)
        if array.dtype == object:
            flat = [element.decode(errors="surrogateescape") for element in array.reshape(-1)]
            found[output.name] = _nested(flat, list(array.shape))
        else:
            found[output.name] = array.tolist()
    return found


def _nested(flat, shape):
    if len(shape) < 2:
        return flat
    step = len(flat) // shape[0] if shape[0] else 0
    return [_nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]
