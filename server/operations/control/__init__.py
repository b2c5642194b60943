"""Commands to launchers that run: status, stop, reload."""
