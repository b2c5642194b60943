"""What a model does as a process of Triton: its network, values of requests, spans, its memory when idle."""
