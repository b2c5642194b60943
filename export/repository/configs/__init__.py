"""`config.pbtxt` in its two halves, contract and policy, and which models a pipeline calls."""
