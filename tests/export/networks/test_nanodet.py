"""NanoDet-G of ours beside the package's graph, which is run op by op."""

import numpy as np
import pytest
import torch

from export.catalogue import CATALOGUE, DETECTIONS
from export.common.packages import HUMAN_MODELS, can_be_asked, is_there
from export.networks.coco import COCO_CLASSES
from export.sources.samples import letterboxed_photographs
from export.sources.weights import choose_weights, filled_network
from tests.nanodet_graph import SIDE, boxes_and_scores, graph


@pytest.fixture(scope="module")
def network():
    if not (is_there(HUMAN_MODELS) or can_be_asked(HUMAN_MODELS)):
        pytest.skip("the weights come by npm, which is not here")
    spec = CATALOGUE["detector"]
    return filled_network(spec, choose_weights(spec))


def answer(network, images):
    with torch.no_grad():
        return [tensor.numpy() for tensor in network(torch.from_numpy(images))]


def test_every_convolution_of_the_graph_is_in_the_network(network):
    convolutions = [node for node in graph().nodes.values() if node["op"] == "Conv2D"]
    layers = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(layers) == len(convolutions) == 34
    kernels = [graph().constants[node["input"][1]] for node in convolutions]
    assert sum(layer.weight.numel() for layer in layers) == sum(kernel.numel() for kernel in kernels)


def test_photographs_are_answered_as_by_the_graph(network):
    images = np.stack([sample[0] for sample in letterboxed_photographs(SIDE)()[::2]])
    assert len(images) > 4
    for image, boxes, scores in zip(images, *answer(network, images), strict=True):
        expected_boxes, expected_scores = boxes_and_scores(image)
        np.testing.assert_allclose(boxes, expected_boxes, atol=2e-3)  # of a pixel
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


def test_noise_and_flat_pictures_are_as_well(network):
    random = np.random.default_rng(0)
    images = np.stack(
        [random.integers(0, 256, (SIDE, SIDE, 3)), *(np.full((SIDE, SIDE, 3), level) for level in (0, 255))]
    ).astype(np.uint8)
    boxes, scores = answer(network, images)
    for place, image in enumerate(images):
        expected_boxes, expected_scores = boxes_and_scores(image)
        np.testing.assert_allclose(boxes[place], expected_boxes, atol=2e-3)
        np.testing.assert_allclose(scores[place], expected_scores, atol=1e-5)
    assert (boxes >= 0).all()
    assert (boxes <= SIDE).all()


def test_red_is_taken_for_red(network):
    """Channels in another order would still find something."""
    images = np.stack([sample[0] for sample in letterboxed_photographs(SIDE)()])
    best, swapped = (
        answer(network, np.ascontiguousarray(one))[1].max() for one in (images, images[..., ::-1])
    )
    assert best > swapped


def test_there_is_a_label_for_each_class():
    assert len(set(COCO_CLASSES)) == 80
    assert (COCO_CLASSES[0], COCO_CLASSES[15], COCO_CLASSES[79]) == ("person", "cat", "toothbrush")
    detection, spec = DETECTIONS["detector"], CATALOGUE["detector"]
    assert len(detection.labels()) == spec.outputs[1].dims[1]
    assert spec.inputs[0].dims == (detection.height, detection.width, 3)
    assert detection.detector_batch == spec.max_batch_size
