"""A planted fault, and the list that collects them."""

from dataclasses import dataclass

from tests.lint_corpus.parts import Files


@dataclass
class Fault:
    """code: what the linter must say, and nothing else but `also`; line: of the finding, if it is fixed."""

    code: str
    what: str
    files: Files
    also: tuple[str, ...] = ()
    target: str = "any"
    severity: str = ""
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.code} {self.what}"


def collect(faults: list[Fault]):
    """What adds a fault to a list: `fault(code, what, files, **more)`."""

    def fault(code: str, what: str, files: Files, **more) -> None:
        faults.append(Fault(code, what, files, **more))

    return fault
