"""Does a model answer? It is asked with a request that is made of its own configuration.

Numbers are zeros, and what takes BYTES gets a small grey PNG, so that models of photographs can decode it.
A busy model is not a broken one: where the request is refused or late, but others were answered meanwhile, it
answers. Else a full server would be taken out of service, and then the next.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ..errors import NoAnswerError, ServerError
from ..running.api import Api

__all__ = ["why_no_answer"]

WITHIN_S = 5.0  # an answer
SIDE = 32  # pixels of the picture; what a dimension of -1 is given
BYTES_OF = {"BOOL": 1, "8": 1, "16": 2, "32": 4, "64": 8}  # by how the name of a data type ends
SEQUENCE = 2**53 - 1  # correlation ID: one that nobody else takes
HEADER_LENGTH = "Inference-Header-Content-Length"


def why_no_answer(api: Api, model: str, within_s: float = WITHIN_S) -> str:
    """Why the model gives no answer, to this request or others, within `within_s` seconds; "" if it does.

    Raises `NoAnswerError` if tritonserver itself does not answer.
    """
    path = f"/v2/models/{quote(model, safe='')}"
    status, text = api.request("GET", f"{path}/config")
    if status != 200:
        return f"tritonserver knows no such model, or has not loaded it (status {status})"
    try:
        header, body = request_for(json.loads(text))
    except ValueError as error:
        return str(error)
    before = _answered(api, model)
    try:
        status, text = api.request(
            "POST", f"{path}/infer", within_s, header + body, {HEADER_LENGTH: str(len(header))}
        )
    except NoAnswerError as error:
        trouble = f"no answer to an inference within {within_s:g} s: {error}"
    else:
        if status == 200:
            return ""
        trouble = f"an inference was answered with status {status}: {text[:300].decode(errors='replace')}"
    return "" if _answered(api, model) > before else trouble


def _answered(api: Api, model: str) -> int:
    try:
        return api.statistics(model)[0]
    except NoAnswerError:
        raise
    except ServerError:  # unloaded meanwhile
        return 0


def request_for(config: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """JSON and binary part of a request to the model of this configuration.

    Raises `ValueError` for a model that cannot be asked over HTTP.
    """
    if config.get("model_transaction_policy", {}).get("decoupled"):
        raise ValueError("a decoupled model cannot be asked over HTTP; name another")
    inputs, body = [], b""
    for tensor in config["input"]:
        if tensor.get("optional"):
            continue
        shape = [SIDE if int(size) < 0 else int(size) for size in tensor["dims"]]
        shape = [1, *shape] if int(config.get("max_batch_size", 0)) else shape
        kind = str(tensor["data_type"]).removeprefix("TYPE_").replace("STRING", "BYTES")
        data = _zeros(kind, shape)
        body += data
        parameters = {"binary_data_size": len(data)}
        inputs.append({"name": tensor["name"], "shape": shape, "datatype": kind, "parameters": parameters})
    request: dict[str, Any] = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    if "sequence_batching" in config:
        request["parameters"].update(sequence_id=SEQUENCE, sequence_start=True, sequence_end=True)
    return json.dumps(request).encode(), body


def _zeros(kind: str, shape: list[int]) -> bytes:
    count = 1
    for size in shape:
        count *= size
    if kind == "BYTES":
        return (struct.pack("<I", len(PICTURE)) + PICTURE) * count
    size = next(size for ending, size in BYTES_OF.items() if kind.endswith(ending))
    return bytes(size * count)


def _picture() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)  # 8 bits, grey
    rows = (b"\0" + b"\x80" * SIDE) * SIDE
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


PICTURE = _picture()
