"""What the client promises to type checkers: its own code, its overloads, and the pages' examples hold."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.documented import fenced

pytestmark = pytest.mark.slow

PAGES = (
    *("README.md", "client/README.md", "docs/how-to/client.md"),
    *("docs/how-to/explain.md", "docs/how-to/faces.md"),
    "docs/how-to/robustness.md",
    "docs/reference/client.md",
)


def mypy(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "mypy", f"--config-file={ROOT / 'pyproject.toml'}", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def examples():
    for page in PAGES:
        for number, code in enumerate(fenced((ROOT / page).read_text(), "python"), 1):
            yield page, number, code


def test_the_examples_of_the_pages_type_check(tmp_path):
    """Strictly, and all at once, as each run of mypy reads numpy's types anew."""
    written = []
    for page, number, code in examples():
        path = tmp_path / f"{re.sub('[^a-z]', '_', page.lower())}_{number}.py"
        path.write_text(code.replace("from triton_vision", "from client"))
        written.append(path)
    assert len(written) > 8
    done = mypy(*written)
    assert done.returncode == 0, done.stdout


OVERLOADS = """
from client import AsyncVisionClient, VisionClient

def blocking(vision: VisionClient) -> None:
    reveal_type(vision.classify("a.jpg"))
    reveal_type(vision.classify(b"a", on_error="return"))
    reveal_type(vision.classify(["a.jpg", b"b"]))
    reveal_type(vision.classify(["a.jpg"], on_error="return"))
    reveal_type(vision.classify_iter(["a.jpg"]))
    reveal_type(vision.detect("a.jpg", classes=["cat", 3]))
    reveal_type(vision.detect(["a.jpg"], score_threshold=0.5, on_error="return"))
    reveal_type(vision.detect_faces("a.jpg"))
    reveal_type(vision.detect_faces(["a.jpg"], 40, on_error="return"))
    reveal_type(vision.compare_faces("a.jpg", b"b"))
    reveal_type(vision.read_text("a.png"))
    reveal_type(vision.read_text(["a.png"], on_error="return"))
    reveal_type(vision.explain("a.jpg", "tabby"))
    reveal_type(vision.explain(["a.jpg"], 281, on_error="return"))

async def asynchronous(vision: AsyncVisionClient) -> None:
    reveal_type(await vision.classify("a.jpg"))
    reveal_type(await vision.classify(["a.jpg"], on_error="return"))
    reveal_type(vision.detect_iter(["a.png"]))
    reveal_type(vision.read_text_iter(["a.png"]))
    reveal_type(await vision.explain("a.jpg"))
    reveal_type(await vision.explain_text(["a.png"]))
"""
REVEALED = [
    "Prediction",
    "Prediction | VisionError",
    "list[Prediction]",
    "list[Prediction | VisionError]",
    "Iterator[Prediction]",
    "Detections",
    "list[Detections | VisionError]",
    "Faces",
    "list[Faces | VisionError]",
    "FaceComparison",
    "Reading",
    "list[Reading | VisionError]",
    "Explanation",
    "list[Explanation | VisionError]",
    "Prediction",
    "list[Prediction | VisionError]",
    "AsyncIterator[Detections]",
    "AsyncIterator[Reading]",
    "Explanation",
    "list[TextExplanation]",
]


def test_one_image_gives_one_answer_and_many_a_list(tmp_path):
    path = tmp_path / "overloads.py"
    path.write_text(OVERLOADS)
    done = mypy(path)
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert [re.sub(r"\b[a-z_]+\.", "", kind) for kind in revealed] == REVEALED, done.stdout


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('vision.classify("a.jpg", on_eror="return")', "call-overload"),
        ('vision.classify("a.jpg", on_error="ignore")', "call-overload"),
        ("vision.classify(7)", "call-overload"),
        ('vision.explain("a.jpg", 2.5)', "call-overload"),
        ('VisionClient(timeout="5")', "call-arg"),
        ('vision.classify("a.jpg")[0]', "index"),
    ],
)
def test_what_is_wrong_is_seen(line, said, tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(f"from client import VisionClient\n\nvision = VisionClient()\n{line}\n")
    done = mypy(path)
    assert done.returncode == 1
    assert f"[{said}]" in done.stdout
