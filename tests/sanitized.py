"""The native half with AddressSanitizer and UndefinedBehaviorSanitizer: TRITON_VISION_NATIVE=sanitize.

Only that library is built with them; tritonserver, ONNX Runtime and Python are not, but share its malloc. A
test whose server leaves a report fails.

Left out are tests of what ASan changes: how much malloc keeps, and what becomes of an allocation beyond all
memory, where its `operator new` (of gcc 12) ends the process instead of throwing.
"""

import os
import re
import subprocess

import pytest

from server.environment import native

SUMMARY = re.compile(r"^SUMMARY: .*|^.*: runtime error: .*", re.MULTILINE)
LARGEST_ALLOCATION_MB = 1024  # a graph that asks for more gets an error, as on a machine without that memory


def wanted():
    return os.environ.get(native.NATIVE_VARIABLE) == "sanitize"


def environment(folder):
    """Variables for a server, so that each of its processes writes its reports to a file in `folder`."""
    names = ("libasan.so", "libstdc++.so.6")  # the latter before all that throws through the former
    libraries = [
        subprocess.run(
            ["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in names
    ]
    assert all(map(os.path.isabs, libraries)), "gcc's libasan is missing"
    return {
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": f"log_path={folder}/asan:detect_leaks=0:allocator_may_return_null=1:"
        f"max_allocation_size_mb={LARGEST_ALLOCATION_MB}:exitcode=99",
        "UBSAN_OPTIONS": f"log_path={folder}/ubsan:print_stacktrace=1",
    }


@pytest.fixture(scope="session")
def reports(tmp_path_factory):
    """The folder of the reports; None without sanitizers."""
    if not wanted():
        yield None
        return
    folder = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(folder).items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(autouse=True)
def no_report(reports):
    before = set(reports.iterdir()) if reports else set()
    yield
    if reports:
        said = [
            f"{file}: {line}"
            for file in sorted(set(reports.iterdir()) - before)
            for line in SUMMARY.findall(file.read_text(errors="replace"))
        ]
        assert not said, "\n".join(said)
