"""Small ONNX graphs, written as models, loaded into a running server and asked."""

import queue
from concurrent.futures import ThreadPoolExecutor

import onnx
import tritonclient.grpc as grpc
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.processes import wait_until

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def graph(nodes, inputs, outputs, initializers=()):
    """A serialised model; inputs and outputs as (name, element type, shape)."""
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        initializer=[onnx.numpy_helper.from_array(array, name) for name, array in initializers],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def publish(repository, name, model, config="", version=1):
    folder = repository / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    if config:
        (folder.parent / "config.pbtxt").write_text(config)


def load(client, repository, name, model, config=""):
    publish(repository, name, model, config)
    client.load_model(name)


def inputs_of(arrays):
    inputs = []
    for key, array in arrays.items():
        tensor = grpc.InferInput(key, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def infer(client, name, outputs=None, version="", **arrays):
    wanted = [grpc.InferRequestedOutput(output) for output in outputs] if outputs else None
    return client.infer(name, inputs_of(arrays), outputs=wanted, model_version=version)


def together(url, calls):
    """Run the calls at the same time, each with a client of its own; results and exceptions in order."""

    def run(call):
        with grpc.InferenceServerClient(url) as client:
            try:
                return call(client)
            except InferenceServerException as error:
                return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def sequences(url, name, requests, in_flight=64):
    """Requests (correlation ID, arrays, flags: s START, e END) over one gRPC stream; results in order.

    Up to `in_flight` are sent without waiting for an answer.
    """
    results, answers = [None] * len(requests), queue.Queue()
    with grpc.InferenceServerClient(url) as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))

        def take():
            result, error = answers.get()
            if error:
                raise error
            results[int(result.get_response().id)] = result

        for number, (sequence, arrays, flags) in enumerate(requests):
            if number >= in_flight:
                take()
            client.async_stream_infer(
                name,
                inputs_of(arrays),
                request_id=str(number),
                sequence_id=sequence,
                sequence_start="s" in flags,
                sequence_end="e" in flags,
            )
        for _ in range(min(in_flight, len(requests))):
            take()
    return results


def executions(client, name, requests):
    """In how many executions the model answered that many items; they are counted after the answers."""

    def statistics():
        return client.get_inference_statistics(name).model_stats[0]

    wait_until(lambda: statistics().inference_count == requests)
    return statistics().execution_count
