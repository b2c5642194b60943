"""Search the policy half of a config.pbtxt by measurement; `python -m perf tune` is the command."""
