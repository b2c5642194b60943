"""What NVIDIA's security bulletins say of Triton: a table for the doctor, out of their CSAF files.

    git clone --depth 1 https://github.com/NVIDIA/product-security bulletins
    python -m export releases --advisories bulletins

Each vulnerability is open in every release before the one that fixes it. Bulletins that name versions of
Triton instead of releases are older than any release of the lock, and are left out.
"""

import json
import re
from pathlib import Path
from typing import Any

from export.common.errors import ExportError
from export.common.release import LOCK

__all__ = ["TABLE", "write_advisories"]

TABLE = LOCK.parent / "server" / "operations" / "doctor" / "advisories.json"
TITLE = re.compile(r"Triton Inference Server")
FIXED = re.compile(r"(?:^|_)r?(\d\d)_(\d\d)$")  # product ids end in the release: ..._r26_03
PAGE = "https://github.com/NVIDIA/product-security/tree/main"


def write_advisories(bulletins: Path) -> int:
    """Write the table from a clone of NVIDIA/product-security; returns how many vulnerabilities it holds.

    Raises `ExportError` where the folder holds no bulletin of Triton.
    """
    rows: dict[str, dict[str, Any]] = {}
    dates = []
    for path in sorted(bulletins.glob("20[0-9][0-9]/*/*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        head = document.get("document", {})
        if path.stem != path.parent.name or not TITLE.search(head.get("title", "")):
            continue
        dates.append(head["tracking"]["current_release_date"][:10])
        for vulnerability in document.get("vulnerabilities", []):
            row = _row(vulnerability, f"{PAGE}/{path.parent.relative_to(bulletins)}")
            if row and row["fixed"] >= rows.get(row["cve"], row)["fixed"]:  # the last bulletin counts
                rows[row["cve"]] = row
    if not rows:
        raise ExportError(f"{bulletins} holds no bulletin of Triton: give a clone of NVIDIA/product-security")
    table = {
        "source": "https://github.com/NVIDIA/product-security",
        "newest_bulletin": max(dates),
        "advisories": sorted(rows.values(), key=lambda row: (row["fixed"], -row["score"], row["cve"])),
    }
    TABLE.write_text(_text(table), encoding="utf-8")
    return len(rows)


def _row(vulnerability: dict[str, Any], source: str) -> dict[str, Any] | None:
    fixed = vulnerability.get("product_status", {}).get("fixed", [])
    releases = [".".join(match.groups()) for name in fixed if (match := FIXED.search(name))]
    scores = [
        score["cvss_v3"]["baseScore"] for score in vulnerability.get("scores", []) if "cvss_v3" in score
    ]
    if not releases:
        return None
    return {
        "cve": vulnerability["cve"],
        "score": float(max(scores, default=0)),
        "fixed": max(releases),
        "part": "DALI backend" if all("dali_backend" in name for name in fixed) else "server",
        "weakness": vulnerability.get("cwe", {}).get("name", ""),
        "source": source,
    }


def _text(table: dict[str, Any]) -> str:
    """JSON with a line for each vulnerability."""
    rows = ",\n".join("  " + json.dumps(row) for row in table["advisories"])
    head = {key: value for key, value in table.items() if key != "advisories"}
    return json.dumps(head, indent=1)[:-2] + ',\n "advisories": [\n' + rows + "\n ]\n}\n"
