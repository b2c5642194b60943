"""The GRU in both forms: against the equations, against PyTorch, and as the ONNX node that is exported."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from export import ModelSpec, State, Tensor
from export.graphs.checks.verification import verify
from export.graphs.conversion import convert
from export.networks.gru import GRU
from export.sources.samples import random_samples

INPUTS, HIDDEN, BATCH, STEPS = 5, 7, 3, 11
FORMS = pytest.mark.parametrize("reset_after", [False, True], ids=["textbook", "reset_after"])
DIRECTIONS = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])


def random_gru(seed: int = 0, **form) -> GRU:
    """Float64, with larger weights than initial ones, so that gates open and close."""
    torch.manual_seed(seed)
    gru = GRU(INPUTS, HIDDEN, **form).double()
    for parameter in gru.parameters():
        nn.init.normal_(parameter, std=0.8)
    return gru


def random_inputs(directions: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((BATCH, STEPS, INPUTS), (BATCH, directions, HIDDEN))
    x, state = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return x, state


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def by_the_equations(gru: GRU, x: np.ndarray, h: np.ndarray, suffix: str = "") -> np.ndarray:
    """One sequence, step by step: x [steps, inputs], h [hidden] -> every h_t [steps, hidden]."""
    parameters = {name: value.detach().numpy() for name, value in gru.named_parameters()}
    w_xr, w_xz, w_xc = np.split(parameters[f"weight_ih_l0{suffix}"], 3)
    w_hr, w_hz, w_hc = np.split(parameters[f"weight_hh_l0{suffix}"], 3)
    b_xr, b_xz, b_xc = np.split(parameters[f"bias_ih_l0{suffix}"], 3)
    b_hr, b_hz, b_hc = np.split(parameters[f"bias_hh_l0{suffix}"], 3)
    b_z, b_r, b_c = b_xz + b_hz, b_xr + b_hr, b_xc + b_hc
    steps = []
    for x_t in x:
        z_t = sigmoid(w_hz @ h + w_xz @ x_t + b_z)
        r_t = sigmoid(w_hr @ h + w_xr @ x_t + b_r)
        if gru.reset_after:
            c_t = np.tanh(r_t * (w_hc @ h + b_hc) + w_xc @ x_t + b_xc)
        else:
            c_t = np.tanh(w_hc @ (r_t * h) + w_xc @ x_t + b_c)
        h = z_t * h + (1 - z_t) * c_t
        steps.append(h)
    return np.stack(steps)


@FORMS
@DIRECTIONS
def test_every_step_is_that_of_the_equations(reset_after: bool, bidirectional: bool):
    gru = random_gru(reset_after=reset_after, bidirectional=bidirectional)
    x, state = random_inputs(1 + bidirectional)
    with torch.inference_mode():
        outputs, last = gru(x, state)
    assert outputs.shape == (BATCH, STEPS, (1 + bidirectional) * HIDDEN)
    assert last.shape == state.shape
    for item in range(BATCH):
        forward = by_the_equations(gru, x[item].numpy(), state[item, 0].numpy())
        np.testing.assert_allclose(outputs[item, :, :HIDDEN], forward, atol=1e-12)
        np.testing.assert_allclose(last[item, 0], forward[-1], atol=1e-12)
        if bidirectional:
            backward = by_the_equations(gru, x[item].numpy()[::-1], state[item, 1].numpy(), "_reverse")
            np.testing.assert_allclose(outputs[item, :, HIDDEN:], backward[::-1], atol=1e-12)
            np.testing.assert_allclose(last[item, 1], backward[-1], atol=1e-12)


@FORMS
@DIRECTIONS
def test_without_a_state_it_begins_with_zeros(reset_after: bool, bidirectional: bool):
    gru = random_gru(reset_after=reset_after, bidirectional=bidirectional)
    x, state = random_inputs(1 + bidirectional)
    for ours, zeros in zip(gru(x), gru(x, torch.zeros_like(state)), strict=True):
        torch.testing.assert_close(ours, zeros, rtol=0, atol=0)


@FORMS
def test_a_sequence_in_parts_is_the_whole_sequence(reset_after: bool):
    gru = random_gru(reset_after=reset_after)
    x, state = random_inputs()
    whole, last = gru(x, state)
    first, between = gru(x[:, :4], state)
    second, end = gru(x[:, 4:], between)
    torch.testing.assert_close(torch.cat((first, second), 1), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(end, last, rtol=0, atol=1e-12)


@DIRECTIONS
def test_reset_after_is_the_form_of_torch(bidirectional: bool):
    gru = random_gru(reset_after=True, bidirectional=bidirectional)
    theirs = nn.GRU(INPUTS, HIDDEN, batch_first=True, bidirectional=bidirectional).double()
    theirs.load_state_dict(gru.state_dict())  # names and shapes are the same
    x, state = random_inputs(1 + bidirectional)
    expected, last = theirs(x, state.transpose(0, 1).contiguous())
    outputs, ours = gru(x, state)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=0)
    torch.testing.assert_close(ours, last.transpose(0, 1), rtol=0, atol=0)


def test_the_forms_agree_where_nothing_is_reset_and_nowhere_else():
    textbook, after = random_gru(reset_after=False), random_gru(reset_after=True)
    x, state = random_inputs()
    assert (textbook(x, state)[0] - after(x, state)[0]).abs().max() > 0.1
    for gru in (textbook, after):
        nn.init.constant_(gru.bias_ih_l0[:HIDDEN].detach(), 60)  # r is 1
    torch.testing.assert_close(textbook(x, state), after(x, state), rtol=0, atol=1e-12)


@FORMS
@DIRECTIONS
def test_gradients_are_right_and_reach_every_parameter(reset_after: bool, bidirectional: bool):
    gru = random_gru(reset_after=reset_after, bidirectional=bidirectional)
    x, state = random_inputs(1 + bidirectional)
    x, state = x[:2, :3].clone().requires_grad_(), state[:2].clone().requires_grad_()
    names, parameters = zip(*gru.named_parameters(), strict=True)

    def run(x, state, *parameters):
        return torch.func.functional_call(gru, dict(zip(names, parameters, strict=True)), (x, state))

    assert torch.autograd.gradcheck(run, (x, state, *parameters))
    gru(x, state)[0].square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in parameters)


class Kept(nn.Module):
    """A GRU as a stream has it: x, state -> outputs, state."""

    def __init__(self, **form):
        super().__init__()
        self.gru = GRU(INPUTS, HIDDEN, **form)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.gru(x, state)


def kept_spec(**form) -> ModelSpec:
    directions = 1 + form.get("bidirectional", False)
    return ModelSpec(
        name="kept",
        network=lambda: Kept(**form),
        served=lambda network: network,
        inputs=(Tensor("x", "float32", (-1, INPUTS)),),
        outputs=(Tensor("y", "float32", (-1, directions * HIDDEN)),),
        states=(State("state_in", "state_out", "float32", (directions, HIDDEN)),),
        max_batch_size=8,
        tolerance=1e-5,
    )


@pytest.mark.slow
@FORMS
@DIRECTIONS
def test_it_is_exported_as_one_node_that_computes_the_same(reset_after: bool, bidirectional: bool):
    spec = kept_spec(reset_after=reset_after, bidirectional=bidirectional)
    network = spec.network().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.8)
    samples = random_samples(spec.inputs)
    graph = convert(spec, network, samples, {}).graph
    verify(spec, graph, network, samples)  # at several batch sizes and lengths, states going on

    model = onnx.load_from_string(graph)
    (node,) = [node for node in model.graph.node if node.op_type == "GRU"]
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert attributes["linear_before_reset"] == int(reset_after)
    assert attributes["hidden_size"] == HIDDEN
    assert attributes["direction"] == (b"bidirectional" if bidirectional else b"forward")
    # Its weights are constants in the file, in ONNX's layout: nothing reorders them at run time.
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    directions = 1 + bidirectional
    assert [constants.get(name) for name in node.input[1:4]] == [
        (directions, 3 * HIDDEN, INPUTS),
        (directions, 3 * HIDDEN, HIDDEN),
        (directions, 6 * HIDDEN),
    ]
    assert {node.op_type for node in model.graph.node} <= {"GRU", "Transpose", "Gather", "Concat", "Squeeze"}

    x, state = (tensor.float().numpy() for tensor in random_inputs(directions))
    with torch.inference_mode():
        expected = [tensor.numpy() for tensor in network(torch.from_numpy(x), torch.from_numpy(state))]
    feed = {"x": x, "state_in": state}
    for answers in (
        ReferenceEvaluator(model).run(None, feed),
        onnxruntime.InferenceSession(graph).run(None, feed),
    ):
        for answer, right in zip(answers, expected, strict=True):
            np.testing.assert_allclose(answer, right, atol=1e-5)
