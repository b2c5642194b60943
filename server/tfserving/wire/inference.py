"""An inference as Triton's HTTP takes and gives it: names, dtypes and shapes in JSON, then the bytes.

The protocol is KServe's version 2 with its extension for binary tensors.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .tensors import Tensor, by_datatype

__all__ = ["Inferred", "infer_request", "inferred"]

JSON_BYTES = "Inference-Header-Content-Length"
_JSON_BYTES = JSON_BYTES.lower().encode()


class Inferred(NamedTuple):
    """What a model answered."""

    version: int
    outputs: dict[str, Tensor]


def infer_request(
    path: str,
    host: str,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str] = (),
    timeout_s: float | None = None,
    classes: int = 0,
) -> list[bytes]:
    """The parts of a request to a model's `path`, without copies of tensors; see `Triton.infer`."""
    parameters: dict[str, Any] = {"binary_data_output": True}  # of outputs that are not named
    if timeout_s is not None:
        parameters["timeout"] = max(1, int(1e6 * timeout_s))
    wanted = {"binary_data": True, **({"classification": classes} if classes else {})}
    asked = {
        "inputs": [
            {
                "name": name,
                "datatype": dtype.datatype,
                "shape": shape,
                "parameters": {"binary_data_size": len(raw)},
            }
            for name, (dtype, shape, raw) in inputs.items()
        ],
        "outputs": [{"name": name, "parameters": wanted} for name in outputs],
        "parameters": parameters,
    }
    described = json.dumps(asked).encode()
    raws = [tensor.raw for tensor in inputs.values()]
    head = (
        f"POST {path}/infer HTTP/1.1\r\nHost: {host}\r\n{JSON_BYTES}: {len(described)}\r\n"
        f"Content-Length: {len(described) + sum(map(len, raws))}\r\n\r\n"
    )
    return [head.encode(), described, *raws]


def inferred(headers: Mapping[bytes, bytes], body: bytes) -> Inferred:
    """Of an answer with status 200. Raises `Refusal` for a dtype that TensorFlow lacks."""
    position = int(headers.get(_JSON_BYTES, len(body)))
    told = json.loads(body[:position])
    outputs = {}
    for output in told["outputs"]:
        end = position + output["parameters"]["binary_data_size"]
        dtype = by_datatype(output["datatype"])
        outputs[output["name"]] = Tensor(dtype, tuple(output["shape"]), body[position:end])
        position = end
    return Inferred(int(told["model_version"]), outputs)
