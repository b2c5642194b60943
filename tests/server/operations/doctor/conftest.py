"""A program on PATH in the place of nvidia-smi."""

import pytest


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program on PATH that answers as nvidia-smi was seen to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def answer(query, status=0, listing="", unknown=()):
        (folder / "query").write_text(query)
        (folder / "listing").write_text(listing)
        refusals = "".join(
            f"""*{field}*) echo 'Field "{field}" is not a valid field to query.'; echo; exit 2 ;;\n"""
            for field in unknown
        )
        program = folder / "nvidia-smi"
        program.write_text(
            f'#!/bin/sh\ncase "$1" in\n{refusals}-L) cat {folder}/listing ;;\n'
            f"*) cat {folder}/query; exit {status} ;;\nesac\n"
        )
        program.chmod(0o755)

    return answer
