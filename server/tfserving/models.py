"""Which model of Triton a ModelSpec means, what is told of it, and Predict.

A model of Triton has one signature, "serving_default". Another signature SIGNATURE of NAME is the model
NAME_SIGNATURE.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from .labels import VersionLabels
from .triton import Signature, TensorSpec, Triton, servable
from .wire.inference import Inferred
from .wire.messages import message
from .wire.refusal import Refusal, StatusCode, invalid
from .wire.tensors import Tensor, fill, of_proto

__all__ = ["DEFAULT_SIGNATURE", "METADATA_FIELD", "Models", "Target"]

DEFAULT_SIGNATURE = "serving_default"
# What Triton answers to names that it does not know; the last one where they are too long for its answer.
OFTEN_NAMES = (StatusCode.NOT_FOUND, StatusCode.INVALID_ARGUMENT, StatusCode.RESOURCE_EXHAUSTED)
MOST_NAMES = 10_000  # of inputs, and of outputs, in a request: tritonserver takes minutes over a million
METADATA_FIELD = "signature_def"
PREDICT_METHOD = "tensorflow/serving/predict"
PredictResponse = message("tensorflow.serving.PredictResponse")
GetModelMetadataResponse = message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusResponse = message("tensorflow.serving.GetModelStatusResponse")
ModelVersionStatus = message("tensorflow.serving.ModelVersionStatus")
SignatureDefMap = message("tensorflow.serving.SignatureDefMap")


class Target(NamedTuple):
    """name, signature: as the client has them. model: Triton's. version: None is the latest."""

    name: str
    signature: str
    model: str
    version: int | None

    def write(self, spec: Any, version: int) -> None:
        """To the ModelSpec of an answer."""
        spec.name, spec.signature_name = self.name, self.signature
        spec.version.value = version


class Models:
    """most_bytes: of one tensor, and of one request."""

    def __init__(self, triton: Triton, labels: VersionLabels, most_bytes: int):
        self.triton, self._labels, self.most_bytes = triton, labels, most_bytes

    def target(self, request: Any) -> Target:
        """Of a request with a `model_spec`. Raises `Refusal`."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        return self.target_of(request.model_spec)

    def target_of(self, spec: Any) -> Target:
        """Of a ModelSpec. Raises `Refusal`."""
        name, version = spec.name, None
        if not name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            version = spec.version.value
        elif choice == "version_label":
            version = self._labels.version(name, spec.version_label)
        if version is not None and version < 0:  # Triton would take -1 for the latest
            raise Refusal(StatusCode.NOT_FOUND, f"Servable not found for request: {servable(name, version)}")
        signature = spec.signature_name or DEFAULT_SIGNATURE
        model = name if signature == DEFAULT_SIGNATURE else f"{name}_{signature}"
        return Target(name, signature, model, version)

    async def signature(self, target: Target, without: Refusal) -> Signature:
        """Its tensors. Raises `Refusal`: `without` where the model is served, but has no such signature."""
        try:
            return await self.triton.signature(target.model, target.version)
        except Refusal as refusal:
            if refusal.code == StatusCode.NOT_FOUND and target.model != target.name:
                await self.triton.signature(target.name, target.version)
                raise without from None
            raise

    async def predict(self, request: Any, timeout_s: float | None) -> Any:
        """PredictRequest to PredictResponse. Raises `Refusal`."""
        target = self.target(request)
        if max(len(request.inputs), len(request.output_filter)) > MOST_NAMES:
            told = f"the request names more than {MOST_NAMES} inputs or outputs; ask for fewer at a time"
            raise invalid(told)
        inputs = {name: of_proto(name, proto, self.most_bytes) for name, proto in request.inputs.items()}
        answer = await self.infer(target, inputs, list(request.output_filter), timeout_s)
        response = PredictResponse()
        target.write(response.model_spec, answer.version)
        for name, tensor in answer.outputs.items():
            fill(response.outputs[name], tensor)
        return response

    async def infer(
        self, target: Target, inputs: Mapping[str, Tensor], outputs: Collection[str], timeout_s: float | None
    ) -> Inferred:
        """Triton is asked at once; only what it refuses is held against the signature, for a better word."""
        if len(set(outputs)) < len(outputs):
            twice, _ = Counter(outputs).most_common(1)[0]
            raise invalid(f"duplicate output tensor alias: {twice}")
        try:
            return await self.triton.infer(target.model, target.version, inputs, tuple(outputs), timeout_s)
        except Refusal as refusal:
            if refusal.code in OFTEN_NAMES:
                absent = f'Serving signature key "{target.signature}" not found.'
                signature = await self.signature(target, Refusal(StatusCode.FAILED_PRECONDITION, absent))
                _check(signature, inputs, outputs)
            raise

    async def metadata(self, request: Any) -> Any:
        """GetModelMetadataRequest to GetModelMetadataResponse. Raises `Refusal`."""
        target = self.target(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for asked in request.metadata_field:
            if asked != METADATA_FIELD:
                raise invalid(f"Metadata field {asked} is not supported")
        signature = await self.triton.signature(target.name, target.version)
        signatures, response = SignatureDefMap(), GetModelMetadataResponse()
        described = signatures.signature_def[DEFAULT_SIGNATURE]
        described.method_name = PREDICT_METHOD
        for specs, infos in ((signature.inputs, described.inputs), (signature.outputs, described.outputs)):
            for name, spec in specs.items():
                _describe(infos[name], name, spec)
        response.model_spec.name = target.name
        response.model_spec.version.value = signature.version
        response.metadata[METADATA_FIELD].Pack(signatures)
        return response

    async def status(self, request: Any) -> Any:
        """GetModelStatusRequest to GetModelStatusResponse: of versions that are served. Raises `Refusal`."""
        target = self.target(request)
        try:
            signature = await self.triton.signature(target.name, target.version)
        except Refusal as refusal:
            if refusal.code != StatusCode.NOT_FOUND:
                raise
            told = "any versions" if target.version is None else f"version {target.version}"
            raise Refusal(refusal.code, f"Could not find {told} of model {target.name}") from None
        response = GetModelStatusResponse()
        for version in signature.versions if target.version is None else (target.version,):
            status = response.model_version_status.add(version=version, state=ModelVersionStatus.AVAILABLE)
            status.status.SetInParent()
        return response


def _describe(info: Any, name: str, spec: TensorSpec) -> None:
    info.name, info.dtype = f"{name}:0", spec.dtype.number
    info.tensor_shape.SetInParent()
    for size in spec.shape:
        info.tensor_shape.dim.add(size=size)


def _check(signature: Signature, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Raises `Refusal` where names are not the signature's."""
    sent, known = set(inputs), set(signature.inputs)
    if sent != known:
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(known)} len({_listed(sent)}) != "
            f"len({_listed(known)}). Sent extra: {_listed(sent - known)}. Missing but required: "
            f"{_listed(known - sent)}."
        )
    for name in outputs:
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{_listed(signature.outputs)}."
            )


def _listed(names: Collection[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"
