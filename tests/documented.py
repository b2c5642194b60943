"""Finds every command that pages, Makefile, help and messages name, and writes it in one way."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "README.md",
    "client/README.md",
    "CONTRIBUTING.md",
    "docs/**/*.md",
    "export/checkpoints/*.md",
    "server/README.md",
)
SOURCES = ("client", "export", "perf", "server", "training", "deploy")
FENCE = re.compile(r"^\s*```(\w*)")
PROMPT = re.compile(r"^(\$ )?((?:[A-Z_]+=\S+ )*)(?:\.venv/bin/)?")
# What a line of a page begins with if it is a command; `python -m pip` and the like are another program's.
BEGINNINGS = (
    *(
        f"python -m {package}"
        for package in ("client", "export", "perf", "server", "server.tfserving", "training")
    ),
    *("python deploy/", "python demo.py", "triton-vision", "triton-vision-server", "make", "docker", "curl"),
    *("pip", "perf/scripts/"),
)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Command:
    text: str
    place: str  # file:line

    def __str__(self) -> str:
        return self.text


def normalised(line: str) -> str | None:
    """Without prompt, settings of the environment, remarks, and .venv/bin/; None if it is not one of ours."""
    line = PROMPT.sub("", line.strip().replace("python3 -m", "python -m"))
    line = re.split(r"\s{2,}|\s#\s", line)[0].rstrip(".")
    ours = any(line == one or line.startswith(one if one.endswith("/") else f"{one} ") for one in BEGINNINGS)
    return line if ours else None


def fenced(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def of_page(path: Path) -> Iterator[Command]:
    """Lines of its code blocks, and what is written `so` in its text."""
    inside, waiting = False, ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        place = f"{path.relative_to(ROOT)}:{number}"
        if FENCE.match(line):
            inside, waiting = not inside, ""
            continue
        if inside:
            waiting += line.removesuffix("\\")
            if line.endswith("\\"):
                continue
        for text in [waiting] if inside else INLINE.findall(line):
            if command := normalised(text):
                yield Command(command, place)
        waiting = ""


def of_source(path: Path) -> Iterator[Command]:
    """Lines of the docstring of a module, which is its command's help, and what its messages name `so`."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            lines = [line for line in node.value.splitlines() if line.startswith("    ")]
            for text in [*lines, *INLINE.findall(node.value)]:
                if "\n" not in text.strip() and (command := normalised(text)):
                    yield Command(command, f"{path.relative_to(ROOT)}:{node.lineno}")


def of_makefile() -> Iterator[Command]:
    for number, line in enumerate((ROOT / "Makefile").read_text().splitlines(), 1):
        if target := re.match(r"([a-z-]+):.*## ", line):
            yield Command(f"make {target[1]}", f"Makefile:{number}")


def collected() -> list[Command]:
    found: list[Command] = []
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            found += of_page(path)
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            found += of_source(path)
    found += of_makefile()
    return found
