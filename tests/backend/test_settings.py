"""How parameters of a config.pbtxt are read, without a server; tests/backend/verdicts asks a server."""

import ort_config
import ort_settings
import pytest


def config(*dims, reshape=None, **parameters):
    entry = {"name": "x", "dims": [str(dim) for dim in dims]}
    entries = [
        {**entry, "reshape": {"shape": reshape}} if reshape is not None else entry,
        {**entry, "name": "a=b"},
    ]
    return {
        "input": entries,
        "parameters": {key: {"string_value": value} for key, value in parameters.items()},
    }


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2), ("2.5", 2), (" \t-7 cores", -7), ("+1", 1), ("0x10", 0), ("1_0", 1), ("007", 7)],
)
def test_numbers_are_read_as_stoi_reads_them(text, number):
    assert ort_settings.integer(config(n=text), "n") == number


@pytest.mark.parametrize("text", ["", "two", "٣", "- 1", ".5", "2147483648", "-99999999999999999999"])
def test_what_stoi_does_not_read_is_refused(text):
    with pytest.raises(ort_settings.SettingsError, match="parameter n is"):
        ort_settings.integer(config(n=text), "n")


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("x=32,4096", {"x": [32, 4096]}),
        ("x=-1,4096", {"x": [-1, 4096]}),
        (" x = 32 , 4096 ; a=b = 32,-1", {"x": [32, 4096], "a=b": [32, -1]}),
    ],
)
def test_bounds_of_inputs(text, bounds):
    assert ort_settings.max_shape(config(32, -1, max_shape=text)) == bounds


def test_bounds_are_those_of_the_graphs_shape():
    assert ort_settings.max_shape(config(-1, reshape=["-1", "1"], max_shape="x=9,1")) == {"x": [9, 1]}
    assert ort_settings.max_shape(config(32, -1)) == {}


@pytest.mark.parametrize(
    "text",
    ["", "x", "x=", "=1,2", "x=1", "x=1,2,3", "x=31,-1", "x=0,1", "x=32,-2", "x=32,1.5", "x=32,a", "y=32,1",
     "x=32,1;", "x=32,1;x=32,2", "x=32,9999999999999999999"],
)  # fmt: skip
def test_bounds_that_are_none_are_refused(text):
    with pytest.raises(ort_settings.SettingsError, match="parameter max_shape"):
        ort_settings.max_shape(config(32, -1, max_shape=text))


SHRINKAGE = ort_settings.ARENA_SHRINKAGE


@pytest.mark.parametrize(
    ("dims", "parameters", "shrinkage"),
    [
        ([3], {}, ""),
        ([-1], {}, "cpu:0"),
        ([-1], {SHRINKAGE: ""}, ""),
        ([3], {SHRINKAGE: "cpu:0"}, "cpu:0"),
        ([-1], {"enable_mem_arena": "off"}, ""),
    ],
)
def test_arenas_shrink_where_a_size_is_open(dims, parameters, shrinkage):
    assert ort_settings.arena_shrinkage(config(*dims, **parameters)) == shrinkage


@pytest.mark.parametrize("parameters", [{SHRINKAGE: "gpu:0"}, {SHRINKAGE: "cpu:0", "enable_mem_arena": "0"}])
def test_an_arena_that_is_not_there_cannot_shrink(parameters):
    with pytest.raises(ort_config.SettingsError, match=SHRINKAGE):
        ort_settings.arena_shrinkage(config(3, **parameters))
    on_a_gpu = ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert ort_settings.arena_shrinkage(config(3, **{SHRINKAGE: "gpu:0"}), on_a_gpu) == "gpu:0"


def test_the_work_grows_with_the_names_not_with_their_pairs():
    """100,000 inputs took minutes, as each was counted among all."""
    compared = 0

    class Name(str):
        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    count = 500
    names = [Name(f"x{number}") for number in range(count)]
    tensor = ort_config.SessionTensor("TYPE_FP32", [1])
    graph = ort_config.SessionGraph({str(name): tensor for name in names}, {}, {})
    entries = [{"name": name, "data_type": "TYPE_FP32", "dims": [1]} for name in [*names, names[7]]]
    with pytest.raises(ort_settings.SettingsError, match=r"disagree: input 'x7' is listed twice$"):
        ort_config.check_agrees({"max_batch_size": 0, "input": entries, "output": []}, graph)
    assert compared < 50 * count
