"""What makes the load: perf_analyzer, wrk, and gRPC requests of ready-made bytes."""
