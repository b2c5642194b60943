"""What tritonserver's reasons say to an operator."""

import pytest

from server.running.triton_log import in_operators_words

STACK = "\n\nAt:\n  /tmp/run/backends/onnxruntime/model.py(93): initialize\n"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (f"Internal: SettingsError: max_batch_size is 8, but{STACK}", "max_batch_size is 8, but"),
        (f"GraphFileError: model.onnx is no ONNX model{STACK}", "model.onnx is no ONNX model"),
        (f"Internal: c_python_backend_utils.TritonModelException: numpy 2 is{STACK}", "numpy 2 is"),
        (f"Internal: KeyError: 'labels'{STACK}", "KeyError: 'labels'"),
        ("Invalid argument: model 'a': SettingsError: is a name", "model 'a': SettingsError: is a name"),
    ],
)
def test_load_errors_are_an_operators_words(reason, words):
    assert in_operators_words(reason) == words


@pytest.mark.timeout(60)
def test_a_reason_of_empty_lines_holds_nobody_up():
    assert in_operators_words("no" + "\n" * 300_000 + "more") == "no" + "\n" * 300_000 + "more"
