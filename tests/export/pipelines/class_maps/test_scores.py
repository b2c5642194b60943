"""Which graphs have class activation maps, which have none, and what the graph that has them computes."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export.common.errors import ExplanationError
from export.pipelines.class_maps.checks import check_class_maps
from export.pipelines.class_maps.graph import with_class_maps

RANDOM = np.random.default_rng(0)
CHANNELS, CLASSES, SIDE = 6, 5, 12
ASKED = (-1, 0, CLASSES - 1, CLASSES, -2)


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], name=f"/{kind}_{output}", **attributes)


def weights(*dims):
    return RANDOM.normal(size=dims).astype(np.float32)


def classifier(
    tail, constants=(), *, channels_last=False, opset=18, batch="batch", output="y", dims=("batch", CLASSES)
):
    """A convolution that makes features `f`, [batch, 6, 4, 4] or [batch, 4, 4, 6], and nodes on them."""
    head = [node("Conv", "image kernel", "convolved", strides=[3, 3]), node("Relu", "convolved", "f")]
    if channels_last:
        head = [
            node("Transpose", "image", "planes", perm=[0, 3, 1, 2]),
            node("Conv", "planes kernel", "convolved", strides=[3, 3]),
            node("Transpose", "convolved", "turned", perm=[0, 2, 3, 1]),
            node("Relu", "turned", "f"),
        ]
    image = [batch, SIDE, SIDE, 3] if channels_last else [batch, 3, SIDE, SIDE]
    graph = helper.make_graph(
        [*head, *tail],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, *dims[1:]])],
        [numpy_helper.from_array(a, n) for n, a in (("kernel", weights(CHANNELS, 3, 3, 3)), *constants)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def ints(name, *values):
    return name, np.array(values, np.int64)


W, W_T, B = ("w", weights(CLASSES, CHANNELS)), ("w", weights(CHANNELS, CLASSES)), ("b", weights(CLASSES))
POOL, FLAT = node("GlobalAveragePool", "f", "p"), node("Flatten", "p", "v")
MEAN = node("ReduceMean", "f axes", "v", keepdims=0)
PLACES = ints("axes", 2, 3)
GEMM = node("Gemm", "v w b", "y", transB=1)

EXPLAINED = {
    "pool, flatten, gemm": ([POOL, FLAT, GEMM], [W, B]),
    "mean, gemm": ([MEAN, GEMM], [PLACES, W, B]),
    "mean over negative axes": ([MEAN, GEMM], [ints("axes", -1, -2), W, B]),
    "gemm without transposing": ([MEAN, node("Gemm", "v w b", "y")], [PLACES, W_T, B]),
    "gemm without a bias": ([MEAN, node("Gemm", "v w", "y", transB=1)], [PLACES, W]),
    "matmul": ([MEAN, node("MatMul", "v w", "y")], [PLACES, W_T]),
    "matmul and add": ([MEAN, node("MatMul", "v w", "m"), node("Add", "b m", "y")], [PLACES, W_T, B]),
    "reshaped": ([POOL, node("Reshape", "p s", "v"), GEMM], [ints("s", -1, CHANNELS), W, B]),
    "squeezed": ([POOL, node("Squeeze", "p axes", "v"), GEMM], [PLACES, W, B]),
    "whole average pool": ([node("AveragePool", "f", "p", kernel_shape=[4, 4]), FLAT, GEMM], [W, B]),
    "softmax": ([MEAN, node("Gemm", "v w b", "s", transB=1), node("Softmax", "s", "y")], [PLACES, W, B]),
    "sigmoid": ([MEAN, node("Gemm", "v w b", "s", transB=1), node("Sigmoid", "s", "y")], [PLACES, W, B]),
    "dropout": ([MEAN, node("Dropout", "v", "d"), node("Gemm", "d w b", "y", transB=1)], [PLACES, W, B]),
    "a 1x1 convolution behind": (
        [POOL, node("Conv", "p k b", "c"), node("Flatten", "c", "y")],
        [("k", weights(CLASSES, CHANNELS, 1, 1)), B],
    ),
    "a 1x1 convolution before": (
        [node("Conv", "f k b", "c"), node("GlobalAveragePool", "c", "p"), node("Flatten", "p", "y")],
        [("k", weights(CLASSES, CHANNELS, 1, 1)), B],
    ),
    "a mean of means": (
        [
            node("ReduceMean", "f a3", "rows", keepdims=0),
            node("ReduceMean", "rows a2", "v", keepdims=0),
            GEMM,
        ],
        [ints("a3", 3), ints("a2", 2), W, B],
    ),
    "a mean of all places in one dim": (
        [node("Reshape", "f s", "t"), node("ReduceMean", "t a2", "v", keepdims=0), GEMM],
        [ints("s", 0, CHANNELS, -1), ints("a2", 2), W, B],
    ),
    "a sum divided by its count": (
        [node("ReduceSum", "f axes", "t", keepdims=0), node("Div", "t count", "v"), GEMM],
        [PLACES, ("count", np.array(16, np.float32)), W, B],
    ),
    "a pooling before the pooling": (
        [node("AveragePool", "f", "q", kernel_shape=[2, 2]), node("GlobalAveragePool", "q", "p"), FLAT, GEMM],
        [W, B],
    ),
    "a convolution and relu before": (
        [node("Conv", "f k", "c"), node("Relu", "c", "r"), node("ReduceMean", "r axes", "y", keepdims=0)],
        [("k", weights(CLASSES, CHANNELS, 3, 3)), PLACES],
    ),
    "weights of a computation": (
        [node("Mul", "w two", "w2"), MEAN, node("Gemm", "v w2 b", "y", transB=1)],
        [PLACES, W, B, ("two", np.array(2, np.float32))],
    ),
}


def check(model, **more):
    made, scores = with_class_maps(model)
    onnx.checker.check_model(made, full_check=True)
    image = next(value for value in model.graph.input if value.name == "image")
    sides = [dim.dim_value or SIDE for dim in image.type.tensor_type.shape.dim][1:]
    items = [{"image": weights(*sides), "class_id": np.array([asked], np.int32)} for asked in ASKED]
    assert check_class_maps(model, made, scores, items, True) < 1e-5
    return made, items


@pytest.mark.parametrize("name", EXPLAINED)
def test_maps_are_those_of_the_features_and_weights(name):
    tail, constants = EXPLAINED[name]
    check(classifier(tail, constants))


def test_channels_may_be_last():
    tail = [node("ReduceMean", "f axes", "v", keepdims=0), GEMM]
    check(classifier(tail, [ints("axes", 1, 2), W, B], channels_last=True))


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_opsets_that_write_axes_otherwise(opset):
    check(classifier([POOL, FLAT, GEMM], [W, B], opset=opset))


def test_the_image_may_be_of_any_size():
    model = classifier([POOL, FLAT, GEMM], [W, B])
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    made, _ = check(model)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    answer = session.run(
        ["heatmap", "class_map"], {"image": weights(2, 3, 20, 31), "class_id": np.full((2, 1), -1, np.int32)}
    )
    assert [array.shape for array in answer] == [(2, 20, 31), (2, 6, 10)]


def test_neighbours_of_a_class_that_there_is_not_have_their_maps():
    made, items = check(classifier([POOL, FLAT, GEMM], [W, B]))
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    batch = {name: np.stack([item[name] for item in items]) for name in items[0]}
    together = dict(zip(names, session.run(names, batch), strict=True))
    assert together["explained_class"][:, 0].tolist() == [together["y"][0].argmax(), 0, CLASSES - 1, -1, -1]
    for name in ("heatmap", "class_map", "logit", "bias"):
        assert np.isfinite(together[name][:3]).all()
        assert np.isnan(together[name][3:]).all()


def pooled(kind):
    return [node(kind, "f", "p"), FLAT, GEMM]


TWO = [MEAN, node("Gemm", "v w1", "h", transB=1), node("Gemm", "h w b", "y", transB=1)]
HIDDEN = [
    MEAN,
    node("Gemm", "v w1", "h", transB=1),
    node("Relu", "h", "r"),
    node("Gemm", "r w b", "y", transB=1),
]
SQUARE = ("w1", weights(CHANNELS, CHANNELS))
REFUSED = {
    "two linear layers": (
        TWO,
        [PLACES, SQUARE, W, B],
        r"Gemm '/Gemm_h' feeds .*Gemm '/Gemm_y'.*two linear layers",
    ),
    "a hidden layer": (
        HIDDEN,
        [PLACES, SQUARE, W, B],
        r"Relu '/Relu_r' feeds the linear layer Gemm '/Gemm_y'",
    ),
    "max pooling": (pooled("GlobalMaxPool"), [W, B], r"GlobalMaxPool '/GlobalMaxPool_p' .*the largest value"),
    "no pooling": (
        [node("Flatten", "f", "v"), GEMM],
        [("w", weights(CLASSES, CHANNELS * 16)), B],
        r"Flatten '/Flatten_v' .*keeps the places apart \(\[\?, 6, 4, 4\]\): nothing is pooled",
    ),
    "attention": (
        [
            node("Reshape", "f s", "t"),
            node("Transpose", "t", "k", perm=[0, 2, 1]),
            node("MatMul", "t k", "a"),
            node("ReduceMean", "a axes", "v", keepdims=0),
            node("Gemm", "v w b", "y", transB=1),
        ],
        [ints("s", -1, CHANNELS, 16), ints("axes", 1), W, B],
        r"ReduceMean '/ReduceMean_v' feeds .*no mean over height and width \(of \[\?, 6, 6\]\)",
    ),
    "scores of two images": (
        [MEAN, node("Transpose", "v", "t", perm=[1, 0]), node("MatMul", "v t", "y")],
        [PLACES],
        r"MatMul '/MatMul_y' makes its scores, and it multiplies two things that depend on the image",
    ),
    "part of the places": (
        [node("AveragePool", "f", "p", kernel_shape=[3, 3]), node("Flatten", "p", "v"), GEMM],
        [("w", weights(CLASSES, CHANNELS * 4)), B],
        "keeps the places apart",
    ),
    "a sum": (
        [node("ReduceSum", "f axes", "v", keepdims=0), GEMM],
        [PLACES, W, B],
        "ReduceSum '/ReduceSum_v' feeds the linear layer",
    ),
    "channels in another order": (
        [MEAN, node("Gather", "v order", "u", axis=1), node("Gemm", "u w b", "y", transB=1)],
        [PLACES, ints("order", 1, 0, 2, 3, 4, 5), W, B],
        "Gather '/Gather_u' feeds the linear layer",
    ),
    "items in another order": (
        [
            MEAN,
            node("Slice", "v first last zero back", "u"),
            node("Gemm", "u w b", "y", transB=1),
        ],
        [PLACES, ints("first", -1), ints("last", -(2**62)), ints("zero", 0), ints("back", -1), W, B],
        "Slice '/Slice_u' feeds the linear layer",
    ),
    "a padded average": (
        [node("AveragePool", "f", "p", kernel_shape=[4, 4], pads=[1, 1, 0, 0], strides=[4, 4]), FLAT, GEMM],
        [W, B],
        "AveragePool '/AveragePool_p' .*no mean over height and width",
    ),
    "normalised behind": (
        [MEAN, node("LpNormalization", "v", "n"), node("Gemm", "n w b", "y", transB=1)],
        [PLACES, W, B],
        "LpNormalization '/LpNormalization_n' feeds the linear layer .*between it and the pooling",
    ),
    "a scaled layer": (
        [MEAN, node("Gemm", "v w b", "y", transB=1, alpha=2.0)],
        [PLACES, W, B],
        "Gemm '/Gemm_y' makes its scores",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_node_that_breaks_the_pattern_is_named(name):
    tail, constants, said = REFUSED[name]
    dims = ("batch", "batch") if name == "scores of two images" else ("batch", CLASSES)
    with pytest.raises(ExplanationError, match=said) as refused:
        with_class_maps(classifier(tail, constants, dims=dims))
    assert "output 'y' has no class activation map" in str(refused.value)
    assert "ends in the mean over all places and one linear layer" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"opset": 10}, "of opset 10, and maps need 11"),
        ({"batch": 4}, "its batch is fixed at 4"),
        ({"output": "heatmap"}, "has tensors heatmap, names that"),
    ],
)
def test_other_graphs_that_cannot_be_rewritten(changes, said):
    gemm = node("Gemm", "v w b", changes.get("output", "y"), transB=1)
    with pytest.raises(ExplanationError, match=said):
        with_class_maps(classifier([POOL, FLAT, gemm], [W, B], **changes))


def test_where_height_and_width_are_not_plain_it_is_said():
    model = classifier([POOL, FLAT, GEMM], [W, B])
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[3].dim_value = 3
    with pytest.raises(
        ExplanationError, match=r"input 'image' has dims \['batch', 3, 12, 3\]: which of them"
    ):
        with_class_maps(model)


def test_two_heads_are_one_too_many():
    model = classifier([POOL, FLAT, GEMM, node("MatMul", "v w2", "z")], [W, B, ("w2", weights(CHANNELS, 3))])
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3]))
    with pytest.raises(ExplanationError, match="outputs 'y', 'z' are class scores"):
        with_class_maps(model)


HEADS = {
    "torchvision's way": [
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(CHANNELS, CLASSES),
    ],
    "a convolution for each class": [nn.Conv2d(CHANNELS, CLASSES, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
    "a convolution of what is pooled": [
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(CHANNELS, CLASSES, 1),
        nn.Flatten(),
    ],
    "places in one dim": [nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES)],
    "the whole map": [nn.AvgPool2d(5), nn.Flatten(), nn.Linear(CHANNELS, CLASSES)],
}


class ChannelsLast(nn.Module):
    """As served modules that take pixels as files have them."""

    def forward(self, image):
        return image.permute(0, 3, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("is_last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("name", HEADS)
def test_networks_as_pytorch_writes_them(name, is_last):
    torch.manual_seed(0)
    features = [nn.Conv2d(3, CHANNELS, 3, stride=2), nn.BatchNorm2d(CHANNELS), nn.ReLU()]
    before = [ChannelsLast()] if is_last else []
    network = nn.Sequential(*before, *features, *HEADS[name], nn.Softmax(1)).eval()
    example = torch.rand(2, *((SIDE, SIDE, 3) if is_last else (3, SIDE, SIDE)))
    batch = {"input": {0: torch.export.Dim("batch")}}
    program = torch.onnx.export(
        network, (example,), dynamo=True, input_names=["image"], dynamic_shapes=batch, verbose=False
    )
    made, items = check(program.model_proto)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    answer = session.run(None, {key: array[None] for key, array in items[0].items()})
    with torch.inference_mode():
        expected = network(torch.from_numpy(items[0]["image"][None]))
    np.testing.assert_allclose(answer[0], expected.numpy(), atol=1e-5)
