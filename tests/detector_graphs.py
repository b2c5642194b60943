"""Detectors of every family, small and exact: what they find is known beforehand.

Each finds red, green and blue in an image of 64 x 64 pixels. Its places are the cells of grids of 8, 16 and
32 pixels; the score of a colour in a cell is how much stronger it is there than the other two together, less
for small cells, and the box is the cell. They differ in what their outputs hold, as the families do.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, STRIDES, COLOURS = 64, (8, 16, 32), ("red", "green", "blue")
SURENESS = np.repeat([0.8, 0.9, 1.0], [64, 16, 4])
FLOAT = TensorProto.FLOAT


def cells():
    """FP32 [84, 4]: left, top, right and bottom of each place."""
    found = []
    for stride in STRIDES:
        starts = np.arange(0, SIDE, stride)
        found += [[x, y, x + stride, y + stride] for y in starts for x in starts]
    return np.array(found, np.float32)


def centred(boxes):
    """Centre, width and height."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1).astype(
        np.float32
    )


FORMATS = {
    "xyxy": lambda boxes: boxes,
    "yxyx": lambda boxes: boxes[:, [1, 0, 3, 2]],
    "cxcywh": centred,
    "xywh": lambda boxes: np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1),
    "offsets": lambda boxes: np.sin(np.arange(boxes.size, dtype=np.float32) * 13).reshape(-1, 4) * 0.9,
}


class Maker:
    """A graph as it grows; `scores` [batch, 3, places] are there from the beginning."""

    def __init__(self, batch="batch"):
        self.nodes, self.weights, self.batch = [], [], batch
        pooled = [
            self.add(
                "Reshape",
                [
                    self.add("AveragePool", ["images"], kernel_shape=[s, s], strides=[s, s]),
                    self.array([0, 3, -1]),
                ],
            )
            for s in STRIDES
        ]
        means = self.add("Concat", pooled, axis=2)
        whole = self.add("ReduceSum", [means, self.array([1])], keepdims=1)
        stronger = self.add("Relu", [self.add("Sub", [self.add("Add", [means, means]), whole])])
        self.scores = self.add("Mul", [stronger, self.array(SURENESS, np.float32)])

    def array(self, values, dtype=np.int64):
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def add(self, kind, inputs, outputs=1, **attributes):
        names = [f"{kind}_{len(self.nodes)}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def turned(self, tensor):
        return self.add("Transpose", [tensor], perm=[0, 2, 1])

    def for_each(self, constant):
        """A constant [places, n] for each item of the batch."""
        sums = self.add("ReduceSum", [self.turned(self.scores), self.array([2])], keepdims=1)
        nothing = self.add("Mul", [sums, self.array(0, np.float32)])
        return self.add("Add", [nothing, self.array(constant[None], np.float32)])

    def best(self, count=10, kind="xyxy"):
        """[batch, count, 6]: box, score and class of the best cells."""
        by_place = self.turned(self.scores)
        score = self.add("ReduceMax", [by_place], axes=[2], keepdims=0)
        number = self.add("Cast", [self.add("ArgMax", [by_place], axis=2, keepdims=1)], to=FLOAT)
        _, places = self.add("TopK", [score, self.array([count])], outputs=2, axis=1)
        column = self.add("Unsqueeze", [places, self.array([2])])
        rows = [
            self.add("GatherElements", [self.for_each(FORMATS[kind](cells())[:, [at]]), column], axis=1)
            for at in range(4)
        ]
        rows.append(
            self.add("GatherElements", [self.add("Unsqueeze", [score, self.array([2])]), column], axis=1)
        )
        rows.append(self.add("GatherElements", [number, column], axis=1))
        return self.add("Concat", rows, axis=2)

    def model(self, outputs, **metadata):
        """outputs: (tensor, name, dims without the batch) each; a number: columns of any rows."""
        for tensor, name, _ in outputs:
            self.nodes.append(helper.make_node("Identity", [tensor], [name]))
        graph = helper.make_graph(
            self.nodes,
            "detector",
            [helper.make_tensor_value_info("images", FLOAT, [self.batch, 3, SIDE, SIDE])],
            [
                helper.make_tensor_value_info(
                    name, FLOAT, ["rows", dims] if isinstance(dims, int) else [self.batch, *dims]
                )
                for _, name, dims in outputs
            ],
            self.weights,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        made.producer_name = "pytorch"
        helper.set_model_props(made, metadata)
        onnx.checker.check_model(made, full_check=True)
        return made


def blind(model, sureness=1e-3):
    """The same, with scores that are too low for anything to be found, or next to anything."""
    for weight in model.graph.initializer:
        if weight.data_type == FLOAT and list(weight.dims) == [84]:
            weight.CopyFrom(numpy_helper.from_array(np.full(84, sureness, np.float32), weight.name))
    return model


def yolo(batch="batch", kind="cxcywh", **metadata):
    """[7, 84], as YOLOv8."""
    make = Maker(batch)
    boxes = make.turned(make.for_each(FORMATS[kind](cells())))
    return make.model([(make.add("Concat", [boxes, make.scores], axis=1), "output0", (7, 84))], **metadata)


def yolo_object(anchors_of_a_place=3):
    """[252, 8], as YOLOv5 with three anchors to a place, two of which find nothing; as YOLOX with one."""
    make = Maker()
    boxes, scores = make.for_each(centred(cells())), make.turned(make.scores)
    sure = make.for_each(np.ones((84, 1), np.float32))
    anchors = []
    for factor in (1, 0, 0)[:anchors_of_a_place]:
        is_object = make.add("Mul", [sure, make.array(factor, np.float32)])
        anchors.append(make.add("Concat", [boxes, is_object, scores], axis=2))
    places = 84 * anchors_of_a_place
    return make.model([(make.add("Concat", anchors, axis=1), "output0", (places, 8))])


PADDINGS = {  # what rows become that hold nothing, as exporters fill up a table; NaN leaves a number
    "zeros": [0] * 6,
    "all -1": [-1] * 6,
    "class -1": [np.nan] * 5 + [-1],
    "score -1": [np.nan] * 4 + [-1, np.nan],
    "boxes and class -1, score 0": [-1] * 4 + [0, -1],
    "boxes -1, score 0": [-1] * 4 + [0, 0],
}


def end_to_end(kind="xyxy", padding=None):
    """[10, 6], as YOLOv10. padding: a key of `PADDINGS`, of rows with a score below 0.3."""
    make = Maker()
    table = make.best(kind=kind)
    if padding:
        row = np.array(PADDINGS[padding], np.float32)
        bounds = [make.array([number]) for number in (4, 5, 2)]
        holds = make.add(
            "GreaterOrEqual", [make.add("Slice", [table, *bounds]), make.array([0.3], np.float32)]
        )
        fills = make.add(
            "Where", [make.array(np.isnan(row), bool), table, make.array(np.nan_to_num(row), np.float32)]
        )
        table = make.add("Where", [holds, table, fills])
    return make.model([(table, "output0", (10, 6))])


def rt_detr():
    """Logits [84, 3] and boxes [84, 4] in shares."""
    make = Maker()
    scores = make.add(
        "Clip", [make.turned(make.scores), make.array(1e-6, np.float32), make.array(1 - 1e-6, np.float32)]
    )
    rest = make.add("Sub", [make.array(1, np.float32), scores])
    logits = make.add("Log", [make.add("Div", [scores, rest])])
    return make.model(
        [(logits, "logits", (84, 3)), (make.for_each(centred(cells()) / SIDE), "pred_boxes", (84, 4))]
    )


def detr():
    """Logits [84, 4], the last of which is none, and boxes [84, 4] in shares."""
    make = Maker()
    scores = make.turned(make.scores)
    found = make.add("ReduceSum", [scores, make.array([2])], keepdims=1)
    none = make.add("Sub", [make.array(1, np.float32), found])
    both = make.add("Clip", [make.add("Concat", [scores, none], axis=2), make.array(1e-6, np.float32)])
    boxes = make.for_each(centred(cells()) / SIDE)
    return make.model([(make.add("Log", [both]), "logits", (84, 4)), (boxes, "pred_boxes", (84, 4))])


def boxes_and_scores(kind="xyxy", is_turned=False, is_nested=False, more=()):
    """Boxes [84, 4], or [84, 1, 4], and probabilities [84, 3], or [3, 84]."""
    make = Maker()
    boxes = make.for_each(FORMATS[kind](cells()))
    if is_nested:
        boxes = make.add("Unsqueeze", [boxes, make.array([2])])
    scores = make.scores if is_turned else make.turned(make.scores)
    return make.model(
        [
            (boxes, "boxes", (84, 1, 4) if is_nested else (84, 4)),
            (scores, "scores", (3, 84) if is_turned else (84, 3)),
            *((make.scores, name, (3, 84)) for name in more),
        ]
    )


def ssd(kind="xyxy", none_last=False):
    """Probabilities [84, 4], the first of which is none, or the last, and boxes [84, 4] in shares."""
    make = Maker()
    scores = make.turned(make.scores)
    least = make.add(
        "Sub", [make.array(1, np.float32), make.add("ReduceSum", [scores, make.array([2])], keepdims=1)]
    )
    none = make.add("Relu", [least])
    whole = make.add("Concat", [scores, none] if none_last else [none, scores], axis=2)
    total = make.add("ReduceSum", [whole, make.array([2])], keepdims=1)
    return make.model(
        [
            (make.add("Div", [whole, total]), "scores", (84, 4)),
            (make.for_each(FORMATS[kind](cells() / SIDE)), "boxes", (84, 4)),
        ]
    )


def suppression_for(photographs):
    """[15, 6] with non-maximum suppression for that many photographs, the others of a batch getting zeros:
    what an export with a loop over the batch becomes that was traced with one of that size."""
    make = Maker()
    boxes, tables = make.for_each(cells()), []
    for item in range(photographs):
        ends = [make.array([item]), make.array([item + 1]), make.array([0])]
        own_boxes, own_scores = (make.add("Slice", [tensor, *ends]) for tensor in (boxes, make.scores))
        limits = [make.array([5]), make.array([0.5], np.float32), make.array([0.05], np.float32)]
        chosen = make.add("NonMaxSuppression", [own_boxes, own_scores, *limits])
        number, place = (make.add("Gather", [chosen, make.array(at)], axis=1) for at in (1, 2))
        index = make.add(
            "Concat", [make.add("Unsqueeze", [one, make.array([1])]) for one in (number, place)], axis=1
        )
        flat = make.add("Reshape", [own_boxes, make.array([-1, 4])])
        score = make.add("GatherND", [make.add("Reshape", [own_scores, make.array([-1, 84])]), index])
        rows = [make.add("Gather", [flat, place], axis=0)]
        rows += [
            make.add("Unsqueeze", [one, make.array([1])])
            for one in (score, make.add("Cast", [number], to=FLOAT))
        ]
        table = make.add("Concat", rows, axis=1)
        missing = make.add("Sub", [make.array([15]), make.add("Shape", [table], start=0, end=1)])
        pads = make.add("Concat", [make.array([0, 0]), missing, make.array([0])], axis=0)
        tables.append(make.add("Unsqueeze", [make.add("Pad", [table, pads]), make.array([0])]))
    found = make.add("Concat", tables, axis=0)
    items = make.add("Shape", ["images"], start=0, end=1)
    padded = make.add(
        "Pad", [found, make.add("Concat", [make.array([0, 0, 0]), items, make.array([0, 0])], axis=0)]
    )
    return make.model(
        [(make.add("Slice", [padded, make.array([0]), items, make.array([0])]), "output0", (15, 6))]
    )


def suppression_of_all():
    """[boxes that were selected, 3]: a table whose length is the photographs' own, all of them together."""
    make = Maker()
    limits = [make.array([5]), make.array([0.5], np.float32), make.array([0.05], np.float32)]
    chosen = make.add("NonMaxSuppression", [make.for_each(cells()), make.scores, *limits])
    return make.model([(make.add("Cast", [chosen], to=FLOAT), "selected", 3)])


def suppression_of_best(moved_by=0, least=0.05):
    """[boxes that were selected, 6] with one suppression over the best score of each place, whose boxes are
    moved apart by class, as torchvision does."""
    make = Maker(1)
    by_place, boxes = make.turned(make.scores), make.for_each(cells())
    score = make.add("ReduceMax", [by_place], axes=[2], keepdims=0)
    number = make.add("Cast", [make.add("ArgMax", [by_place], axis=2, keepdims=1)], to=FLOAT)
    moved = make.add("Add", [boxes, make.add("Mul", [number, make.array(moved_by, np.float32)])])
    limits = [make.array([5]), make.array([0.5], np.float32), make.array([least], np.float32)]
    chosen = make.add("NonMaxSuppression", [moved, make.add("Unsqueeze", [score, make.array([1])]), *limits])
    place = make.add("Gather", [chosen, make.array(2)], axis=1)
    columns = [
        make.add("Gather", [make.add("Reshape", [tensor, make.array([-1, width])]), place], axis=0)
        for tensor, width in ((boxes, 4), (score, 1), (number, 1))
    ]
    return make.model([(make.add("Concat", columns, axis=1), "output0", 6)])


def undecoded():
    """[84, 8], as YOLOX without its decoding: offsets in parts of a cell, and logarithms of sides."""
    make = Maker()
    offsets = np.concatenate([np.full((84, 2), 0.5), np.full((84, 2), -0.7)], 1).astype(np.float32)
    sure = make.for_each(np.ones((84, 1), np.float32))
    table = make.add("Concat", [make.for_each(offsets), sure, make.turned(make.scores)], axis=2)
    return make.model([(table, "output", (84, 8))])


def with_masks():
    """As a segmenting YOLO: a second output of rank 3."""
    make = Maker()
    boxes = make.turned(make.for_each(centred(cells())))
    table = make.add("Concat", [boxes, make.scores, make.scores], axis=1)
    masks = make.add("AveragePool", ["images"], kernel_shape=[4, 4], strides=[4, 4])
    return make.model([(table, "output0", (10, 84)), (masks, "output1", (3, 16, 16))])
