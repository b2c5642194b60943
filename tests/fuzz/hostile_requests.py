"""Inference requests that are wrong in every way we know, the same ones for the same seed.

Left out is what is known to end tritonserver 2.51 itself, with any backend (docs/reference/security.md):
`class_count` for BYTES or empty outputs, form-urlencoded bodies of megabytes, JSON nested 100,000 deep, JSON
numbers whose shape is more than memory holds (room is made for them first), and shared memory files that are
shorter than they were registered.
"""

import copy
import json
import random
import struct

SIZES = (0, 1, 2, 3, 7, 2**16, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, -1, -2, -(2**63))
TYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
         "FP16", "FP32", "FP64", "BF16", "BYTES", "", "fp32", "X" * 5000)  # fmt: skip
NAMES = ("x", "y", "z", "", "X", "x ", "x\n", "x\0y", "\x1b[2J", "größe", "../x", "%s%n%n", "x" * 100_000)
WORDS = (None, True, False, -1, 0, 1.5, 2**63, 1e308, "", "x", [], {}, [[]], {"a": {"b": []}})
LARGEST_JSON = 2**20  # elements
REGION = "fuzz"  # a region of REGION_BYTES that the test registers
REGION_BYTES = 4096


class Source:
    """Hostile requests for models described as {model: {input: (datatype, shape)}} and {model: [outputs]}."""

    def __init__(self, seed, inputs, outputs):
        self.random = random.Random(seed)
        self.inputs, self.outputs = inputs, outputs

    def bytes(self, count):
        return self.random.randbytes(count)

    def http(self):
        """(path, headers, body) of one request."""
        choose = self.random.choice
        model = choose(list(self.inputs))
        inputs, data = [], []
        for name, (datatype, shape) in self.inputs[model].items():
            data.append(self.bytes(size_of(datatype, shape)))
            inputs.append(
                {"name": name, "datatype": datatype, "shape": list(shape),
                 "parameters": {"binary_data_size": len(data[-1])}}
            )  # fmt: skip
        request = {"inputs": inputs}
        if self.random.random() < 0.5:
            request["outputs"] = [{"name": name} for name in self.outputs[model]]
        for change in self.changes(self.HTTP, Source._classification):
            change(self, request, data)
        self._make_room_for_json(request)
        header = json.dumps(request).encode()
        body = header + b"".join(data)
        headers = {"Inference-Header-Content-Length": str(len(header))}
        if self.random.random() < 0.08:
            headers["Inference-Header-Content-Length"] = str(
                choose((*SIZES, len(body) + 1, len(header) - 1, "x", ""))
            )
        if self.random.random() < 0.03:
            headers["Content-Encoding"] = choose(("gzip", "deflate", "br"))
        if self.random.random() < 0.05:
            at = self.random.randrange(len(body) or 1)
            body = body[:at] + self.bytes(self.random.randrange(8)) + body[at + self.random.randrange(8) :]
        version = choose(("", "", "", "", "/versions/1", "/versions/9", "/versions/-1", f"/versions/{2**70}"))
        return f"/v2/models/{model}{version}/infer", headers, body

    def changes(self, all_of_them, alone):
        """Some at once; `alone` never beside another, which might make the outputs empty."""
        chosen = self.random.choices(all_of_them, k=self.random.choice((0, 1, 1, 1, 2, 3)))
        return [alone] if alone in chosen else chosen

    @staticmethod
    def _make_room_for_json(request):
        entries = request.get("inputs")
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and "data" in entry and isinstance(entry.get("shape"), list):
                elements = 1
                for dim in entry["shape"]:
                    elements *= max(abs(dim), 1) if isinstance(dim, (int, float)) else 1
                if elements > LARGEST_JSON:
                    del entry["data"]

    def _one(self, request):
        inputs = request.get("inputs")
        inputs = [entry for entry in inputs if isinstance(entry, dict)] if isinstance(inputs, list) else []
        return self.random.choice(inputs) if inputs else {}

    def _shape(self, request, data):
        entry = self._one(request)
        shape = list(entry.get("shape") or [1]) if isinstance(entry.get("shape"), list) else [1]
        kind = self.random.randrange(6)
        if kind == 0:
            shape[self.random.randrange(len(shape))] = self.random.choice(SIZES)
        elif kind == 1:
            shape = [self.random.choice(SIZES) for _ in range(self.random.randrange(5))]
        elif kind == 2:
            shape = [1] * self.random.choice((0, 1, 5, 100, 5000))
        elif kind == 3:
            shape = self.random.choice(WORDS)
        elif kind == 4:
            shape = [2**32, 2**32] if len(shape) < 3 else [2**32, 1, 2**32]
        else:
            shape[self.random.randrange(len(shape))] = self.random.choice(WORDS)
        entry["shape"] = shape

    def _datatype(self, request, data):
        self._one(request)["datatype"] = self.random.choice((*TYPES, *WORDS))

    def _binary_size(self, request, data):
        size = self.random.choice((*SIZES, *WORDS, *range(1, 60, 7)))
        self._one(request)["parameters"] = {"binary_data_size": size}

    def _bytes(self, request, data):
        if data:
            at = self.random.randrange(len(data))
            data[at] = self.random.choice((b"", data[at][:-1], data[at] + b"\0", data[at] * 2, self.bytes(3)))

    def _tensors(self, request, data):
        """Missing, doubled, renamed, unknown, or something else altogether."""
        for section in ("inputs", "outputs"):
            entries = request.get(section)
            if not isinstance(entries, list) or not entries or self.random.random() < 0.3:
                continue
            at, kind = self.random.randrange(len(entries)), self.random.randrange(5)
            if kind == 0:
                del entries[at]
            elif kind == 1:
                entries += copy.deepcopy(entries[at : at + 1]) * self.random.choice((1, 1, 500))
            elif kind == 2 and isinstance(entries[at], dict):
                entries[at]["name"] = self.random.choice((*NAMES, *WORDS))
            elif kind == 3:
                entries.append(
                    {"name": self.random.choice(NAMES), "datatype": "FP32", "shape": [1, 1], "data": [1]}
                )
            else:
                entries[at] = self.random.choice(WORDS)

    def _json_data(self, request, data):
        entry = self._one(request)
        entry.pop("parameters", None)
        value = self.random.choice((1, 1.5, -1, 2**70, "x", None, True, [1], [[[]]], {}))
        entry["data"] = self.random.choice(
            ([value] * self.random.randrange(9), [[value]], value, [1, [2, [3]]])
        )

    def _parameters(self, request, data):
        keys = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output",
                "triton_x", "headers", "\0", "triton_enable_empty_final_response")  # fmt: skip
        values = (*WORDS, *SIZES)
        request["parameters"] = {
            self.random.choice(keys): self.random.choice(values) for _ in range(self.random.randrange(1, 5))
        }

    def _shared_memory(self, request, data):
        for section in ("inputs", "outputs"):
            if isinstance(request.get(section), list) and request[section] and self.random.random() < 0.7:
                entry = self.random.choice(request[section])
                if isinstance(entry, dict):
                    entry["parameters"] = {
                        "shared_memory_region": self.random.choice((REGION, REGION, REGION, "none", "", 5)),
                        "shared_memory_offset": self.random.choice(
                            (0, 1, 4, REGION_BYTES, REGION_BYTES - 1, *SIZES)
                        ),
                        "shared_memory_byte_size": self.random.choice((0, 4, 8, REGION_BYTES, *SIZES)),
                    }

    def _classification(self, request, data):
        outputs = request.get("outputs")
        if isinstance(outputs, list):
            for entry in outputs:
                if isinstance(entry, dict):
                    entry["parameters"] = {
                        "classification": self.random.choice((1, 2, 1000, -1, 0, 2**31, "x"))
                    }

    def _whole(self, request, data):
        for key in ("inputs", "outputs", "id"):
            if self.random.random() < 0.4:
                request[key] = self.random.choice((*WORDS, *NAMES))

    HTTP = (_shape, _shape, _datatype, _binary_size, _bytes, _tensors, _json_data, _parameters,
            _shared_memory, _classification, _whole)  # fmt: skip

    def grpc(self, messages):
        """A ModelInferRequest; messages: tritonclient.grpc.service_pb2."""
        choose = self.random.choice
        model = choose(list(self.inputs))
        request = messages.ModelInferRequest(model_name=model, id=choose(("", "1", "i" * 5000)))
        for name, (datatype, shape) in self.inputs[model].items():
            request.inputs.add(name=name, datatype=datatype, shape=shape)
            request.raw_input_contents.append(self.bytes(size_of(datatype, shape)))
        if self.random.random() < 0.5:
            for name in self.outputs[model]:
                request.outputs.add(name=name)
        for change in self.changes(self.GRPC, Source._grpc_classification):
            change(self, request)
        return request

    def _grpc_shape(self, request):
        if request.inputs:
            entry = self.random.choice(request.inputs)
            fitting = [size for size in SIZES if -(2**63) <= size < 2**63]
            shape = list(entry.shape)
            if shape and self.random.random() < 0.5:
                shape[self.random.randrange(len(shape))] = self.random.choice(fitting)
            else:
                shape = [self.random.choice(fitting) for _ in range(self.random.choice((0, 1, 2, 3, 2000)))]
            entry.ClearField("shape")
            entry.shape.extend(shape)

    def _grpc_raw(self, request):
        contents = request.raw_input_contents
        kind = self.random.randrange(5)
        if kind == 0 and contents:
            contents.pop()
        elif kind == 1:
            contents.append(self.bytes(self.random.randrange(20)))
        elif kind == 2 and contents:
            contents[0] = self.random.choice((b"", contents[0][:-1], contents[0] + b"\0", contents[0] * 100))
        elif kind == 3:
            del contents[:]
        elif request.inputs:  # both ways at once
            request.inputs[0].contents.fp32_contents.extend([1.0] * self.random.randrange(5))

    def _grpc_typed(self, request):
        del request.raw_input_contents[:]
        for entry in request.inputs:
            field = self.random.choice(("fp32_contents", "int64_contents", "uint_contents", "bool_contents",
                                        "int_contents", "fp64_contents", "bytes_contents"))  # fmt: skip
            value = b"x" if field == "bytes_contents" else True if field == "bool_contents" else 1
            getattr(entry.contents, field).extend([value] * self.random.randrange(9))

    def _grpc_tensors(self, request):
        kind = self.random.randrange(5)
        names = [name.replace("\0", "0") for name in NAMES]
        if kind == 0 and request.inputs:
            request.inputs.add().CopyFrom(request.inputs[0])
        elif kind == 1 and request.inputs:
            request.inputs.pop()
        elif kind == 2 and request.inputs:
            request.inputs[0].name = self.random.choice(names)
        elif kind == 3:
            request.outputs.add(name=self.random.choice(names))
        elif request.inputs:
            request.inputs[0].datatype = self.random.choice(TYPES)

    def _grpc_parameters(self, request):
        target = self.random.choice((request, *request.inputs, *request.outputs))
        key = self.random.choice(("sequence_id", "sequence_start", "priority", "timeout",
                                  "shared_memory_region", "shared_memory_offset",
                                  "shared_memory_byte_size", "x"))  # fmt: skip
        value = target.parameters[key]
        kind = self.random.randrange(4)
        if kind == 0:
            value.int64_param = self.random.choice((0, 1, 4, REGION_BYTES, 2**63 - 1, -1))
        elif kind == 1:
            value.string_param = self.random.choice((REGION, "", "x" * 1000))
        elif kind == 2:
            value.bool_param = True
        else:
            value.uint64_param = 2**64 - 1

    def _grpc_classification(self, request):
        for entry in request.outputs:
            entry.parameters["classification"].int64_param = self.random.choice((1, 2, 1000, -1, 0, 2**31))

    GRPC = (
        _grpc_shape,
        _grpc_shape,
        _grpc_raw,
        _grpc_typed,
        _grpc_tensors,
        _grpc_parameters,
        _grpc_classification,
    )


def size_of(datatype, shape):
    size = struct.calcsize({"FP32": "f", "INT64": "q", "UINT8": "B", "FP64": "d"}[datatype])
    for dim in shape:
        size *= dim
    return size
