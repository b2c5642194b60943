"""The gateway: HAProxy in front of one or several tritonservers, for other people's traffic."""
