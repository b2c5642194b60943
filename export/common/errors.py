"""What can go wrong in an export, as one tree.

ExportError
├── PackageError        a pinned package could not be fetched, or is not the file that was pinned
├── SpecError           there is no such model, or its spec contradicts itself
├── CheckpointError     weights cannot be read, or do not fit the network
├── OnnxFileError       a file is no ONNX model, or not one that can be served
├── ConversionError     PyTorch's exporter refused the network
├── VerificationError   the graph is not what the spec says, or differs from PyTorch; holds every failure
├── ServingError        the real server does not load the model, or answers otherwise than it should
├── AccuracyError       a lighter model answers too often otherwise than the FP32 one
├── SpeedError          a lighter model is slower than the FP32 one
├── ExplanationError    a network has no class activation map, and why
├── DetectorError       a file is not a detector that is known, or has a fault that its pipeline cannot mend
├── PlanError           a TensorRT plan cannot be built here, or not of this graph
├── ConfigError         config.pbtxt cannot be parsed, or not be rewritten without loss
├── SigningError        a model cannot be signed, is not as it was signed, or a key is none
└── PublishError        the model repository cannot be written

Every message states the fact, the value, and what to do next.
"""

__all__ = [
    "AccuracyError",
    "CheckpointError",
    "ConfigError",
    "ConversionError",
    "DetectorError",
    "ExplanationError",
    "ExportError",
    "OnnxFileError",
    "PackageError",
    "PlanError",
    "PublishError",
    "ServingError",
    "SigningError",
    "SpecError",
    "SpeedError",
    "VerificationError",
]


class ExportError(Exception):
    """The root of the tree above."""


class PackageError(ExportError):
    """A pinned package could not be fetched, or what came is not the file that was pinned."""


class SpecError(ExportError):
    """There is no such model, its spec contradicts itself, or a function of the spec fails."""


class CheckpointError(ExportError):
    """Weights cannot be read, do not fit the network, or are not finite."""


class OnnxFileError(ExportError):
    """A file is no ONNX model, or not one that can be served."""


class ConversionError(ExportError):
    """PyTorch's exporter refused the network, or its graph is right for too few sizes."""


class VerificationError(ExportError):
    """`failures` lists all that is wrong, one sentence each; `advice` is for all of them."""

    def __init__(self, failures: list[str], advice: str = "") -> None:
        self.failures = failures
        self.advice = advice
        counted = "a check" if len(failures) == 1 else f"{len(failures)} checks"
        lines = [f"{counted} failed:", *(f"  - {text}" for text in failures), *([advice] if advice else [])]
        super().__init__("\n".join(lines))


class ServingError(ExportError):
    """The real server does not load the model, answers otherwise than it should, or is not there."""


class AccuracyError(ExportError):
    """A lighter model answers too often otherwise than the FP32 one."""


class SpeedError(ExportError):
    """A lighter model is slower than the FP32 one on this machine."""


class ExplanationError(ExportError):
    """The network does not end in global average pooling and one linear layer."""


class DetectorError(ExportError):
    """A file is not a detector of a known family, or has a fault that its pipeline cannot mend."""


class PlanError(ExportError):
    """A TensorRT plan cannot be built here, or not of this graph."""


class ConfigError(ExportError):
    """A `config.pbtxt` cannot be parsed, or not be rewritten without loss."""


class SigningError(ExportError):
    """A model cannot be signed, is not as it was signed, or a key cannot be read or written."""


class PublishError(ExportError):
    """The model repository cannot be written; what was there before stays."""
