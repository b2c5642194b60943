"""Classify, Regress and MultiInference over TensorFlow Serving's gRPC: tf.Examples, and too much of them."""

import pytest
from grpc import StatusCode

from server.tfserving.wire.messages import message
from tests.tfserving import example, request, set_spec


def examples(method, model="pair", *listed, context=None, **spec):
    asked = request(method, model, **spec)
    if context is None:
        asked.input.example_list.examples.extend(listed)
    else:
        asked.input.example_list_with_context.examples.extend(listed)
        asked.input.example_list_with_context.context.CopyFrom(context)
    return asked


def test_classify(served):
    rows = [example(numbers=[float(n), 1.0], name=[b"n"]) for n in range(3)]
    told = served.client.Classify(examples("Classify", "pair", *rows))
    found = [[(one.label, one.score) for one in row.classes] for row in told.result.classifications]
    labels = ("first", "second: with a colon", "sum")
    assert found == [list(zip(labels, (n, 1, n + 1), strict=True)) for n in range(3)]
    assert told.model_spec.version.value == 1


def test_the_context_stands_in_for_a_feature(served):
    context = example(name=[b"all"])
    asked = examples("Classify", "pair", example(numbers=[1.0, 2.0]), context=context)
    assert len(served.client.Classify(asked).result.classifications) == 1


def test_regress(served):
    rows = [example(x=[2.0]), example(x=[4])]  # an integer will do for a float
    told = served.client.Regress(examples("Regress", "half_plus_two", *rows, label="stable"))
    assert [one.value for one in told.result.regressions] == [3, 4]
    assert told.model_spec.version.value == 1


def test_labels_of_a_model_without_batches(served):
    rows = [example(x=[0.0, 1.0]), example(x=[5.0, 7.0])]
    told = served.client.Classify(examples("Classify", "unbatched", *rows))
    found = [[(one.label, one.score) for one in row.classes] for row in told.result.classifications]
    assert found == [[("first", 0), ("second: with a colon", 1)], [("first", 5), ("second: with a colon", 7)]]


def multi(*tasks):
    asked = message("tensorflow.serving.MultiInferenceRequest")()
    for method, model, signature in tasks:
        task = asked.tasks.add(method_name=f"tensorflow/serving/{method}")
        set_spec(task.model_spec, model, signature=signature)
    asked.input.example_list.examples.append(example(x=[2.0]))
    return asked


def test_several_inferences(served):
    told = served.client.MultiInference(multi(("regress", "half", ""), ("regress", "half", "plus_two")))
    assert [one.regression_result.regressions[0].value for one in told.results] == [1, 4]
    assert [one.model_spec.signature_name for one in told.results] == ["serving_default", "plus_two"]


def tasks(count):
    asked = message("tensorflow.serving.MultiInferenceRequest")()
    for _ in range(count):
        asked.tasks.add()
    return asked


def with_context(count, **features):
    asked = examples("Regress", "unbatched", context=example(**features))
    for _ in range(count):
        asked.input.example_list_with_context.examples.add()
    return asked


@pytest.mark.parametrize(
    ("method", "asked", "words"),
    [
        ("MultiInference", tasks(101), "more than 100 tasks"),
        ("Regress", with_context(2**17 + 1, x=[1.0]), "has more than 131072 examples"),
    ],
    ids=("tasks", "examples"),
)
def test_what_is_small_but_much_work_is_refused_at_once(served, method, asked, words):
    code, told = served.client.refusal(method, asked)
    assert (code, words in told) == (StatusCode.INVALID_ARGUMENT, True), told


def test_a_context_counts_for_each_example(served):
    """Otherwise megabytes become terabytes."""
    asked = with_context(3000, x=[1.0] * 1000)
    code, told = served.client.refusal("Regress", asked)
    assert code == StatusCode.INVALID_ARGUMENT
    assert told.startswith(f"Feature: x takes more than {8 * 2**20} bytes; send fewer")


@pytest.mark.parametrize(
    ("method", "asked", "words"),
    [
        ("Classify", examples("Classify"), "Input is empty."),
        (
            "Classify",
            examples("Classify", "pair", example(numbers=[1.0, 2.0])),
            "Feature: name (data type: bytes)",
        ),
        (
            "Classify",
            examples("Classify", "pair", example(numbers=[1.0], name=[b"n"])),
            "Number of values: 1",
        ),
        (
            "Classify",
            examples("Classify", "pair", example(numbers=[b"1"], name=[b"n"])),
            "Data types don't match",
        ),
        (
            "Classify",
            examples("Classify", "half", example(x=[1.0]), signature="none"),
            "No signature was found",
        ),
        (
            "Classify",
            examples("Classify", "half", example(x=[1.0])),
            "Expected Tensor shape: [batch_size num_classes]",
        ),
        ("Classify", examples("Classify", "echo", example(x=[1.0])), "required but could not be found"),
        (
            "Regress",
            examples("Regress", "pair", example(numbers=[1.0, 2.0], name=[b"n"])),
            "Expected output Tensor shape",
        ),
        ("MultiInference", multi(), "empty model name"),
        (
            "MultiInference",
            multi(("regress", "half", ""), ("regress", "pair", "")),
            "must access the same model",
        ),
        ("MultiInference", multi(("regress", "half", ""), ("classify", "half", "")), "Duplicate evaluation"),
        ("MultiInference", multi(("predict", "half", "")), "Unrecognized signature method_name"),
    ],
)
def test_examples_that_do_not_fit(served, method, asked, words):
    code, told = served.client.refusal(method, asked)
    assert (code, words in told) == (StatusCode.INVALID_ARGUMENT, True), told
