"""The textbook's layers against the ones that we export, as they come out of our conversion.

Sums are written as the equations are, one term at a time in float64; images count from 1 there.
"""

from collections.abc import Callable
from itertools import product

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from export import ModelSpec, Tensor
from export.graphs.checks.verification import verify
from export.graphs.conversion import convert
from export.networks.resnet import ResNet50
from export.networks.text.recognizer import TextRecognizer
from export.sources.samples import random_samples

PLANE, PLANES, MAPS, VECTOR = (1, 9, 12), (48, 7, 8), (64, 9, 11), (256,)


class Layers(nn.Module):
    """Layers of exported networks, alone and side by side."""

    def __init__(self):
        super().__init__()
        text = TextRecognizer()
        self.stem = text.stem[0]  # 1 -> 24 channels, 3x3, stride 2, a border of zeros
        self.depthwise = text.blocks[1].depthwise  # 48 channels, each with a kernel of its own
        self.pool = ResNet50().maxpool  # 3x3, stride 2, a border
        self.head = text.head  # 256 -> 122
        nn.init.normal_(self.head.bias)

    def forward(self, plane, planes, maps, vector):
        return self.stem(plane), self.depthwise(planes), self.pool(maps), self.head(vector)


@pytest.fixture(scope="module")
def exported() -> tuple[Layers, list[np.ndarray], list[np.ndarray]]:
    """The layers, one batch of random inputs, and the answers of ONNX Runtime."""
    spec = ModelSpec(
        name="layers",
        network=Layers,
        served=lambda network: network,
        inputs=tuple(
            Tensor(name, "float32", dims)
            for name, dims in (("plane", PLANE), ("planes", PLANES), ("maps", MAPS), ("vector", VECTOR))
        ),
        outputs=(
            Tensor("stem", "float32", (24, 5, 6)),
            Tensor("depthwise", "float32", PLANES),
            Tensor("pool", "float32", (64, 5, 6)),
            Tensor("head", "float32", (122,)),
        ),
        max_batch_size=4,
        tolerance=1e-4,
    )
    torch.manual_seed(0)
    layers, samples = Layers().eval(), random_samples(spec.inputs)
    graph = convert(spec, layers, samples, {}).graph
    verify(spec, graph, layers, samples)
    batch = [np.stack(arrays) for arrays in zip(*samples, strict=True)]
    names = [tensor.name for tensor in spec.inputs]
    answers = onnxruntime.InferenceSession(graph).run(None, dict(zip(names, batch, strict=True)))
    return layers, batch, answers


def zero_outside(x: np.ndarray) -> Callable[[int, int], float]:
    """x(i, j), counted from 1, and 0 outside the image."""
    rows, columns = x.shape
    return lambda i, j: float(x[i - 1, j - 1]) if 1 <= i <= rows and 1 <= j <= columns else 0.0


def convolution(x: np.ndarray, k: np.ndarray) -> Callable[[int, int], float]:
    """y(i, j) = sum over p, q of x(i - p + 1, j - q + 1) k(p, q): what the textbook calls convolution.

    Frameworks call convolution what is the cross-correlation, sum of x(i + p - 1, j + q - 1) w(p, q). Both
    are the same where w is k turned by 180 degrees, w(p, q) = k(P - p + 1, Q - q + 1), and where the result
    is read P - 1 rows and Q - 1 columns later. Learned kernels do not care, kernels given by hand do.
    Frameworks also add up channels, add a bias, skip results (stride) and surround x with zeros (padding).
    """
    at = zero_outside(x)
    terms = [(p, q, float(k[p - 1, q - 1])) for p, q in product(*(range(1, size + 1) for size in k.shape))]
    return lambda i, j: sum(at(i - p + 1, j - q + 1) * weight for p, q, weight in terms)


def as_a_framework_has_it(x: np.ndarray, w: np.ndarray, stride: int, border: int, size: tuple) -> np.ndarray:
    """The textbook's convolution by the turned kernel, read where a framework's result begins."""
    y = convolution(x, w[::-1, ::-1])
    later = w.shape[0] - 1 - border
    return np.array(
        [[y(later + 1 + row * stride, later + 1 + column * stride) for column in range(size[1])]
         for row in range(size[0])]
    )  # fmt: skip


def max_pooling(x: np.ndarray, window: int, stride: int, border: int, size: tuple) -> np.ndarray:
    """y(i, j) = the largest x in the window that begins at ((i - 1) stride + 1, (j - 1) stride + 1).

    The textbook's windows lie side by side and inside the image. Frameworks let them overlap (a stride of
    its own) and reach over the edge (a border): what is outside there never wins, it is not a zero. How
    many windows there are also differs: PyTorch leaves out one that does not fit, TensorFlow's SAME keeps it.
    """
    wide = np.pad(x.astype(np.float64), border, constant_values=-np.inf)
    return np.array(
        [[wide[row : row + window, column : column + window].max()
          for column in range(0, size[1] * stride, stride)]
         for row in range(0, size[0] * stride, stride)]
    )  # fmt: skip


def fully_connected(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y(i) = sum over j of w(i, j) x(j), plus b(i): one output after the other.

    PyTorch keeps w so, [outputs, inputs], and computes x w^T with one sample a row. Keras keeps w^T.
    """
    return np.array([sum(float(w[i, j]) * float(x[j]) for j in range(len(x))) + b[i] for i in range(len(b))])


def test_a_framework_convolution_is_the_textbook_one_with_the_kernel_turned(exported):
    layers, (plane, *_), (stem, *_) = exported
    kernels = layers.stem.weight.detach().numpy()
    for item, channel in product(range(2), (0, 7, 23)):
        found = stem[item, channel]
        w = kernels[channel, 0]
        expected = as_a_framework_has_it(plane[item, 0], w, stride=2, border=1, size=found.shape)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
        as_it_is = as_a_framework_has_it(plane[item, 0], w[::-1, ::-1], stride=2, border=1, size=found.shape)
        assert np.abs(found - as_it_is).max() > 0.1


def test_a_depthwise_convolution_is_one_textbook_convolution_for_each_channel(exported):
    layers, (_, planes, *_), (_, depthwise, *_) = exported
    kernels = layers.depthwise.weight.detach().numpy()
    for channel in (0, 20, 47):
        found = depthwise[1, channel]
        expected = as_a_framework_has_it(
            planes[1, channel], kernels[channel, 0], stride=1, border=1, size=found.shape
        )
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_kernel_given_by_hand_must_be_turned():
    """An impulse shows a kernel as it is in the textbook's convolution, and turned in a framework's."""
    impulse = np.zeros((5, 5))
    impulse[2, 2] = 1
    kernel = np.arange(1.0, 10).reshape(3, 3)
    y = convolution(impulse, kernel)
    np.testing.assert_array_equal([[y(i, j) for j in (3, 4, 5)] for i in (3, 4, 5)], kernel)
    x, k = torch.from_numpy(impulse)[None, None], torch.from_numpy(kernel)[None, None]
    np.testing.assert_array_equal(nn.functional.conv2d(x, k)[0, 0], kernel[::-1, ::-1])
    np.testing.assert_array_equal(nn.functional.conv2d(x, k.flip(2, 3))[0, 0], kernel)


def test_max_pooling_takes_the_largest_and_nothing_from_outside(exported):
    _, (_, _, maps, _), (_, _, pool, _) = exported
    for item, channel in product(range(3), (0, 63)):
        found = pool[item, channel]
        expected = max_pooling(maps[item, channel], window=3, stride=2, border=1, size=found.shape)
        np.testing.assert_array_equal(found, expected)
    assert (pool[:, :, 0] < 0).any()  # with zeros outside, no window at the edge could be below 0


def test_max_pooling_side_by_side_is_the_textbook_one():
    x = np.random.default_rng(0).normal(size=(6, 8))
    expected = [[x[i : i + 2, j : j + 2].max() for j in range(0, 8, 2)] for i in range(0, 6, 2)]
    np.testing.assert_array_equal(max_pooling(x, window=2, stride=2, border=0, size=(3, 4)), expected)
    np.testing.assert_array_equal(nn.MaxPool2d(2)(torch.from_numpy(x)[None])[0], expected)


def test_a_fully_connected_layer_is_a_sum_over_its_inputs_for_each_output(exported):
    layers, (*_, vector), (*_, head) = exported
    weight, bias = layers.head.weight.detach().numpy(), layers.head.bias.detach().numpy()
    for item in range(3):
        np.testing.assert_allclose(head[item], fully_connected(vector[item], weight, bias), atol=1e-4)
