"""What every part of the client may use: defaults, and the names that it runs under."""
