"""What a model may be called: it becomes a folder."""

import re

__all__ = ["MODEL_NAME"]

MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
