"""Pipelines from a photograph to boxes: `detect_objects`, and `detect_NAME` for detectors that users
bring."""
