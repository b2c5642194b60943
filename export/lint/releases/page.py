"""The table of docs/reference/releases.md, derived from the lock."""

from export.common.release import CONTAINER, LOCK, PIP, RELEASES, Fact

__all__ = ["PAGE", "table", "written"]

PAGE = LOCK.parent / "docs" / "reference" / "releases.md"
BEGIN, END = "<!-- table: python -m export releases --page -->", "<!-- end of the table -->"
ROWS = {
    "triton": "Triton",
    "image": "image",
    "onnxruntime": "ONNX Runtime",
    "onnx_opset": "highest opset",
    "onnx_ir_version": "highest IR version",
    "tensorrt": "TensorRT",
    "python": "Python",
    "cuda": "CUDA",
    "driver": "driver, or later",
    "driver_of_data_center_gpus": "older drivers that may do",
    "compute_capability": "lowest compute capability",
    "tensorrt_compute_capability": "lowest for TensorRT",
    "highest_compute_capability": "highest compute capability",
    "client_shared_memory": "shared memory of clients",
}


def table() -> str:
    """A column for each release, a row for each fact; what no source states has a question mark."""
    roles = {PIP.name: " (pip)", CONTAINER.name: " (container)"}
    if PIP is CONTAINER:
        roles = {PIP.name: " (pip, container)"}
    lines = ["| | " + " | ".join(name + roles.get(name, "") for name in RELEASES) + " |"]
    lines.append("|---" * (len(RELEASES) + 1) + "|")
    for key, words in ROWS.items():
        cells = (_cell(release.facts[key]) for release in RELEASES.values())
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def written(page: str) -> str:
    """The page with the table of today."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _cell(fact: Fact) -> str:
    value = ", ".join(fact.value) if isinstance(fact.value, list) else str(fact.value)
    value = f"`{value}`" if value.startswith(("nvcr.io", "--")) else value
    return value if fact.confirmed else f"{value} ?"
