"""What NVIDIA's own backend does with small models and requests, and what ours does."""

from . import dims, parameters, requests, sequences, tensors

CASES = [*dims.CASES, *tensors.CASES, *parameters.CASES, *sequences.CASES, *requests.CASES]
