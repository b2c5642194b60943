"""The gated recurrent unit in its two forms, each exported as one native ONNX `GRU` node.

The textbook's equations (Cho et al., 2014), with `sigmoid` and the products by element:

    z_t = sigmoid(W_hz h_{t-1} + W_xz x_t + b_z)          update gate
    r_t = sigmoid(W_hr h_{t-1} + W_xr x_t + b_r)          reset gate
    c_t = tanh(W_hc (r_t * h_{t-1}) + W_xc x_t + b_c)     candidate
    h_t = z_t * h_{t-1} + (1 - z_t) * c_t                 hidden state

`torch.nn.GRU`, cuDNN and Keras by default reset after the recurrent product instead, which needs a bias
of its own inside (`reset_after=True`, ONNX `linear_before_reset=1`):

    c_t = tanh(r_t * (W_hc h_{t-1} + b_hc) + W_xc x_t + b_xc)

Names and orders differ, the rest does not: PyTorch stacks its gates as (r, z, n), n being the candidate,
and ONNX as (z, r, h), h being the candidate. Both write h_t = (1 - z_t) * c_t + z_t * h_{t-1}, the
textbook's last line; some texts (Chung et al., 2014) have z and 1 - z the other way round.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = ["GRU"]


class GRU(nn.GRU):
    """One layer, batch first, of either form: [batch, steps, inputs] -> [batch, steps, directions * hidden].

    Parameters have the names, shapes and initial values of `torch.nn.GRU`: `weight_ih_l0` [3 * hidden,
    inputs], `weight_hh_l0` [3 * hidden, hidden], `bias_ih_l0` and `bias_hh_l0` [3 * hidden], and the same
    with `_reverse` for the second direction. The textbook has one bias per gate: it is the sum of PyTorch's
    two, in all three gates where `reset_after` is False, and in r and z where it is True.

    bidirectional   a second direction reads the steps from the last to the first; outputs lie side by side
    reset_after     as Keras names it. True: PyTorch's form. False: the textbook's
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, bidirectional: bool = False, reset_after: bool = True
    ):
        super().__init__(input_size, hidden_size, batch_first=True, bidirectional=bidirectional)
        self.reset_after = reset_after

    def forward(  # type: ignore[override]  # of tensors only, and with lengths
        self, x: torch.Tensor, state: torch.Tensor | None = None, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The outputs of all steps and the last state; a state is [batch, directions, hidden], None: zeros.

        `torch.nn.GRU` has directions first in its states; here the batch is first, as Triton has it.
        lengths: INT64 [batch], the steps of each item, 1 or more; the second direction begins at the last of
        them, and outputs after it are 0. None: all steps. Only of PyTorch's form, and without a state.
        """
        if torch.onnx.is_in_onnx_export():
            return self._onnx_node(x, state, lengths)
        if lengths is not None:
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            packed_outputs, last = super().forward(packed)
            outputs, _ = pad_packed_sequence(packed_outputs, batch_first=True, total_length=x.shape[1])
            return outputs, last.transpose(0, 1)
        if self.reset_after:
            outputs, last = super().forward(x, None if state is None else state.transpose(0, 1).contiguous())
            return outputs, last.transpose(0, 1)
        if state is None:
            state = x.new_zeros(len(x), len(self._suffixes), self.hidden_size)
        outputs, last = self._textbook(x, state[:, 0], "")
        if not self.bidirectional:
            return outputs, last[:, None]
        backwards, last_reverse = self._textbook(x.flip(1), state[:, 1], "_reverse")
        return torch.cat((outputs, backwards.flip(1)), 2), torch.stack((last, last_reverse), 1)

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def _textbook(self, x: torch.Tensor, h: torch.Tensor, suffix: str) -> tuple[torch.Tensor, torch.Tensor]:
        """One direction. All steps' input products are one product; only the recurrent ones need a loop."""
        bias = getattr(self, f"bias_ih_l0{suffix}") + getattr(self, f"bias_hh_l0{suffix}")
        from_inputs = F.linear(x, getattr(self, f"weight_ih_l0{suffix}"), bias)
        gate_inputs, candidate_inputs = from_inputs.split((2 * self.hidden_size, self.hidden_size), 2)
        gate_weight, candidate_weight = getattr(self, f"weight_hh_l0{suffix}").split(
            (2 * self.hidden_size, self.hidden_size)
        )
        gate_weight, candidate_weight = gate_weight.T, candidate_weight.T
        outputs = []
        for gates, candidate in zip(gate_inputs.unbind(1), candidate_inputs.unbind(1), strict=True):
            r, z = torch.addmm(gates, h, gate_weight).sigmoid().chunk(2, 1)
            c = torch.addmm(candidate, r * h, candidate_weight).tanh()
            h = torch.lerp(c, h, z)  # (1 - z) * c + z * h
            outputs.append(h)
        return torch.stack(outputs, 1), h

    def _onnx_node(
        self, x: torch.Tensor, state: torch.Tensor | None, lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        batch, steps, _ = x.shape
        directions, hidden = len(self._suffixes), self.hidden_size
        # These reorder parameters, so conversion folds them: the file holds only their results.
        weights, recurrent, input_biases, recurrent_biases = (
            torch.stack([self._onnx_order(f"{name}_l0{suffix}") for suffix in self._suffixes])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        outputs, last = torch.onnx.ops.symbolic_multi_out(
            "GRU",
            (
                x.transpose(0, 1),
                weights,
                recurrent,
                torch.cat((input_biases, recurrent_biases), 1),
                None if lengths is None else lengths.to(torch.int32),  # None: all are of `steps`
                None if state is None else state.transpose(0, 1),
            ),
            attrs={
                "direction": "bidirectional" if self.bidirectional else "forward",
                "hidden_size": hidden,
                "linear_before_reset": int(self.reset_after),
            },
            dtypes=(x.dtype, x.dtype),
            shapes=((steps, directions, batch, hidden), (directions, batch, hidden)),
        )
        # Without a reshape, which would need sizes inside the graph.
        sides = [outputs[:, 0], outputs[:, 1]] if self.bidirectional else [outputs.squeeze(1)]
        return torch.cat(sides, 2).transpose(0, 1), last.transpose(0, 1)

    def _onnx_order(self, name: str) -> torch.Tensor:
        """(r, z, n) -> (z, r, h)."""
        parameter, hidden = getattr(self, name), self.hidden_size
        return torch.cat((parameter[hidden : 2 * hidden], parameter[:hidden], parameter[2 * hidden :]))
