"""What HAProxy reads: its configuration and the files that go with it."""
