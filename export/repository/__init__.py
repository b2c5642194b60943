"""Models in a repository: published at once, checked, copies held equal."""

from pathlib import Path

__all__ = ["MODEL_REPOSITORY"]

MODEL_REPOSITORY = Path(__file__).resolve().parent.parent.parent / "model_repository"  # of the project
