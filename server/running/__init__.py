"""One tritonserver: its process and those of its models, its API, its log, and what is open to whom."""
