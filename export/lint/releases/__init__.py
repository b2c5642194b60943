"""What the ONNX Runtime of each Triton release has and answers, asked of the wheel of that version."""
