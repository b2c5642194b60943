"""The doctor's table is what NVIDIA's CSAF files say."""

import json

from export.cli.commands import run
from export.lint.releases import advisories
from server.operations.doctor import security


def bulletin(folder, number, title, *vulnerabilities):
    path = folder / "2026" / number / f"{number}.json"
    path.parent.mkdir(parents=True)
    document = {"title": title, "tracking": {"current_release_date": "2026-08-18T00:00:00Z"}}
    path.write_text(json.dumps({"document": document, "vulnerabilities": list(vulnerabilities)}))


def vulnerability(cve, score, *fixed):
    return {
        "cve": cve,
        "cwe": {"id": "CWE-1", "name": "Out-of-bounds Write"},
        "product_status": {"fixed": list(fixed)},
        "scores": [{"cvss_v3": {"baseScore": score}}],
    }


def test_the_command_reads_bulletins_of_triton_and_of_nothing_else(tmp_path, monkeypatch, capsys):
    table = tmp_path / "advisories.json"
    monkeypatch.setattr(advisories, "TABLE", table)
    bulletins = tmp_path / "bulletins"
    triton = "Security Bulletin: NVIDIA Triton Inference Server - August 2026"
    bulletin(bulletins, "1", triton, vulnerability("CVE-1", 9, "linux_triton_inference_server_r26_03"))
    bulletin(
        bulletins,
        "2",
        triton,
        vulnerability("CVE-1", 9, "linux_triton_inference_server_26_04"),  # corrected
        vulnerability("CVE-2", 7.5, "dali_backend_triton_inference_server_25_07"),
        vulnerability(
            "CVE-3", 7.5, "windows_linux_triton_inference_server_2_40"
        ),  # before there were releases
    )
    bulletin(
        bulletins, "3", "Security Bulletin: NVIDIA GPU Driver", vulnerability("CVE-4", 9, "driver_26_04")
    )
    assert run(["releases", "--advisories", str(bulletins)]) == 0
    assert "wrote 2 vulnerabilities" in capsys.readouterr().err
    written = json.loads(table.read_text())
    assert written["newest_bulletin"] == "2026-08-18"
    rows = [(row["cve"], row["score"], row["fixed"], row["part"]) for row in written["advisories"]]
    assert rows == [("CVE-2", 7.5, "25.07", "DALI backend"), ("CVE-1", 9.0, "26.04", "server")]


def test_the_table_that_is_written_is_the_doctors():
    assert advisories.TABLE == security.TABLE


def test_a_folder_without_bulletins_is_refused(tmp_path, capsys):
    assert run(["releases", "--advisories", str(tmp_path)]) == 1
    assert "give a clone of NVIDIA/product-security" in capsys.readouterr().err
