"""Graphs of every family with our tensors: the same boxes, whatever their outputs held."""

import numpy as np
import onnx
import onnxruntime
import pytest

from export.common.errors import DetectorError
from export.graphs.detectors.recognition import recognised
from export.graphs.detectors.rewriting import INNER, fed_with_pixels, with_boxes_and_scores
from export.graphs.detectors.suppression import suppressions, without_suppression
from tests import detector_graphs as graphs

SIZE = (graphs.SIDE, graphs.SIDE)


def pictures():
    """UINT8 [3, 64, 64, 3]: grey ones with a coloured cell each."""
    found = np.full((3, *SIZE, 3), 100, np.uint8)
    found[0, 16:32, 32:48] = (255, 0, 0)
    found[1, 0:32, 32:64] = (0, 200, 0)
    found[2, 40:48, 8:16] = (0, 0, 255)
    return found


def run(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(
        zip([o.name for o in session.get_outputs()], session.run(None, {"image": images}), strict=True)
    )


def taken_in(model, pixels="unit", is_bgr=False, family="auto"):
    inner = fed_with_pixels(model, SIZE, pixels, is_bgr)
    answers = {name.removeprefix(INNER): array for name, array in run(inner, pictures()).items()}
    found = recognised(answers, SIZE, 3, family)
    places = answers[found.outputs[0]].shape[2 if found.is_turned else 1]
    made = with_boxes_and_scores(inner, found, SIZE, 3, places)
    onnx.checker.check_model(made, full_check=True)
    return made


def best(answer):
    """The box, the class and the score of the best of each image."""
    told = []
    for boxes, scores in zip(answer["boxes"], answer["scores"], strict=True):
        place, number = np.unravel_index(scores.argmax(), scores.shape)
        told.append((boxes[place].tolist(), graphs.COLOURS[number], float(scores.max())))
    return told


EXPECTED = [
    ([32, 16, 48, 32], "red", 0.9),
    ([32, 0, 64, 32], "green", 200 / 255),
    ([8, 40, 16, 48], "blue", 0.8),
]


@pytest.mark.parametrize(
    "make",
    [
        graphs.yolo,
        graphs.yolo_object,
        graphs.end_to_end,
        graphs.rt_detr,
        graphs.ssd,
        lambda: graphs.suppression_for(3),
        lambda: without_suppression(graphs.suppression_of_all()),
    ],
    ids=["yolo", "yolo-object", "end-to-end", "rt-detr", "ssd", "nms", "taken out"],
)
def test_boxes_are_corners_in_pixels(make):
    answer = run(taken_in(make()), pictures())
    assert {name: (array.dtype, array.shape[2:]) for name, array in answer.items()} == {
        "boxes": (np.float32, (4,)),
        "scores": (np.float32, (3,)),
    }
    for (box, colour, score), (expected_box, expected_colour, expected_score) in zip(
        best(answer), EXPECTED, strict=True
    ):
        np.testing.assert_allclose(box, expected_box, atol=1e-4)
        assert (colour, score) == (expected_colour, pytest.approx(expected_score, abs=1e-5))


@pytest.mark.parametrize("padding", graphs.PADDINGS)
def test_rows_that_fill_up_a_table_are_no_boxes(padding):
    """What is found is what the graph answers itself in the other rows; those become zeros."""
    model = graphs.end_to_end(padding=padding)
    (own,) = run(fed_with_pixels(model, SIZE, "unit"), pictures()).values()
    answer = run(taken_in(model), pictures())
    holds = (own[..., 4] > 0) & (own[..., 5] >= 0)
    assert 0 < holds.sum() < holds.size
    np.testing.assert_array_equal(answer["boxes"], np.where(holds[..., None], own[..., :4], 0))
    numbers = np.where(holds, own[..., 5], 0).astype(int)
    expected = np.eye(3, dtype=np.float32)[numbers] * np.where(holds, own[..., 4], 0)[..., None]
    np.testing.assert_array_equal(answer["scores"], expected)


def test_each_item_answers_as_alone():
    made = taken_in(graphs.yolo())
    together = run(made, pictures())
    for place, image in enumerate(pictures()):
        alone = run(made, image[None])
        assert all((alone[name][0] == together[name][place]).all() for name in alone)


def test_pixels_are_scaled_as_they_are_said_to_be():
    """The graph is given what it would be given by its own project."""
    graph = graphs.Maker()
    model = graph.model([(graph.add("Identity", ["images"]), "seen", (3, 64, 64))])
    image = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    planes = image.transpose(0, 3, 1, 2).astype(np.float64)
    mean, std = (
        np.array(values)[:, None, None] for values in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    )
    scaled = {
        "unit": planes / 255,
        "bytes": planes,
        "signed": planes / 127.5 - 1,
        "imagenet": (planes - mean) / std,
    }
    for pixels, expected in scaled.items():
        (seen,) = run(fed_with_pixels(model, SIZE, pixels), image).values()
        np.testing.assert_allclose(seen, expected, atol=1e-5)
        (seen,) = run(fed_with_pixels(model, SIZE, pixels, is_bgr=True), image).values()
        np.testing.assert_allclose(seen, expected[:, ::-1], atol=1e-5)


def test_a_graph_of_half_precision_is_given_that():
    model = graphs.yolo()
    half = onnx.TensorProto.FLOAT16
    cast = onnx.helper.make_node("Cast", ["images"], ["images_32"], to=onnx.TensorProto.FLOAT)
    for node in model.graph.node:
        node.input[:] = ["images_32" if name == "images" else name for name in node.input]
    model.graph.node.insert(0, cast)
    model.graph.input[0].type.tensor_type.elem_type = half
    answer = run(taken_in(model), pictures())
    assert best(answer)[1][0] == [32, 0, 64, 32]


def test_names_of_the_file_do_no_harm():
    """A graph may call its own tensors as we call ours."""
    model = graphs.ssd()
    assert [output.name for output in model.graph.output] == ["scores", "boxes"]
    assert [output.name for output in taken_in(model).graph.output] == ["boxes", "scores"]


def test_an_old_opset_is_refused():
    model = graphs.yolo()
    model.opset_import[0].version = 10
    with pytest.raises(DetectorError, match="opset 10: export it with opset 11 or newer"):
        fed_with_pixels(model, SIZE, "unit")


def test_suppression_is_found_and_taken_out_where_it_can_be():
    assert not suppressions(graphs.yolo())
    assert without_suppression(graphs.yolo()) is None
    assert len(suppressions(graphs.suppression_for(2))) == 2
    assert without_suppression(graphs.suppression_for(2)) is None  # one node for each photograph
    bare = without_suppression(graphs.suppression_of_all())
    assert not suppressions(bare)
    assert len(bare.graph.node) < len(graphs.suppression_of_all().graph.node) + 1
