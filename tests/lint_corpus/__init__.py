"""Small faulty model repositories, each with one planted fault and the code of the rule that tells it.

A repository is a dict of its files: text or bytes by path. All are variants of a few sound ones.
"""

from tests.lint_corpus import (
    backend,
    batching,
    ensembles,
    files,
    graphs,
    python_models,
    runtime,
    sequences,
    tensors,
)
from tests.lint_corpus.faults import Fault
from tests.lint_corpus.parts import write
from tests.lint_corpus.sound import SOUND

__all__ = ["FAULTS", "SOUND", "Fault", "write"]

FAULTS: list[Fault] = [
    fault
    for topic in (files, python_models, tensors, graphs, backend, batching, sequences, ensembles, runtime)
    for fault in topic.FAULTS
]
