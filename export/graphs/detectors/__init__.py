"""Detectors that users bring: what their outputs mean, and graphs of them with the tensors of ours."""
