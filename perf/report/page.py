"""The page: one HTML file with nothing to load, and the PNG files beside it."""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perf.report.content import Section, Table
from perf.report.style import png, svg

__all__ = ["Drawn", "draw", "write_page"]

STYLE = """
:root { color-scheme: light dark;
  --ink: #1b1b1f; --paper: #fff; --soft: #5c5f66; --line: #d9d9de; --wash: #f5f5f7 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --paper: #16171a; --soft: #a2a5ad; --line: #3a3c42; --wash: #1f2125 }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.7rem; margin: 0 0 .3rem } h2 { font-size: 1.25rem; margin: 0 0 .4rem }
p { margin: .3rem 0 } a { color: inherit }
nav ul { padding-left: 1.1rem } nav li { margin: .25rem 0 } nav .doubted { color: #e8710a }
section { border-top: 1px solid var(--line); padding-top: 1.4rem; margin-top: 1.8rem }
.doubt { border-left: 3px solid #e8710a; padding-left: .7rem }
.soft, figcaption { color: var(--soft); font-size: .85rem }
figure { margin: 1rem 0 }
figure svg { width: 100%; min-width: 34rem; max-width: 50rem; height: auto; display: block }
svg text { font-family: system-ui, sans-serif !important }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .82rem; margin: .4rem 0 1rem;
  font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); padding-bottom: .2rem }
th, td { padding: .18rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { font-weight: 600; white-space: normal; vertical-align: bottom }
tbody tr:hover { background: var(--wash) }
th.left, td.left { text-align: left }
summary { cursor: pointer; color: var(--soft); font-size: .85rem }
pre { background: var(--wash); padding: .8rem; overflow-x: auto; font-size: .75rem; max-height: 30rem }
"""


@dataclass(frozen=True)
class Drawn:
    """A section as HTML, and its pictures by the names of their files."""

    section: Section
    anchor: str
    text: str
    pictures: dict[str, bytes]


def draw(section: Section, anchor: str) -> Drawn:
    """Draw a section's figures, as PNG and as SVG; `anchor` is its id on the page, and begins theirs."""
    pictures = {f"{section.name}-{figure.name}.png": png(figure) for figure in section.figures}
    return Drawn(section, anchor, written(section, anchor), pictures)


def write_page(folder: Path, parts: Sequence[Drawn], skipped: Sequence[str] = ()) -> Path:
    """Write index.html and a PNG for each figure, NAME-FIGURE.png; the page. Raises `OSError`."""
    for part in parts:
        for name, picture in part.pictures.items():
            (folder / name).write_bytes(picture)
    told = [part for part in parts if part.section.verdict]
    untold = [part for part in parts if not part.section.verdict]  # of kinds that are not drawn
    links = "".join(map(in_short, told))
    if untold:
        names = (f'<a href="#{part.anchor}">{html.escape(part.section.title)}</a>' for part in untold)
        links += f"<li>Raw numbers alone: {', '.join(names)}</li>"
    doubts = "".join(f'<p class="doubt">Skipped: {html.escape(why)}</p>' for why in skipped)
    page = folder / "index.html"
    page.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>What was measured</title>'
        f"<style>{STYLE}</style></head><body><h1>What was measured</h1>"
        '<p class="soft">Every number is from a raw result, named below its figures with the machine that it '
        "was taken on. Numbers of different machines are not comparable; ratios are, roughly.</p>"
        f"{doubts}<nav><h2>In short</h2><ul>{links}</ul></nav>"
        f"{''.join(part.text for part in (*told, *untold))}</body></html>\n"
    )
    return page


def in_short(part: Drawn) -> str:
    """One line of the list on top: what was measured, and what came out."""
    one = part.section
    doubts = (
        f' <span class="doubted">({len(one.doubts)} caveat{"s" if len(one.doubts) > 1 else ""})</span>'
        if one.doubts
        else ""
    )
    verdict = f": {html.escape(one.verdict)}" if one.verdict else ""
    return f'<li><a href="#{part.anchor}">{html.escape(one.title)}</a>{verdict}{doubts}</li>'


def written(section: Section, anchor: str) -> str:
    """The section as HTML, its figures as SVG inside; tables are folded where there are figures."""
    doubts = "".join(f'<p class="doubt">{html.escape(doubt)}</p>' for doubt in section.doubts)
    figures = "".join(
        f"<figure><div class=wide>{svg(figure, f'{anchor}-{figure.name}')}</div>"
        f"<figcaption>{html.escape(figure.title)} ({section.name}-{figure.name}.png)</figcaption></figure>"
        for figure in section.figures
    )
    tables = "".join(map(table, section.tables))
    numbers = f"<details{' open' if not section.figures else ''}><summary>numbers</summary>{tables}</details>"
    return (
        f'<section id="{anchor}"><h2>{html.escape(section.title)}</h2>'
        f"<p><strong>{html.escape(section.verdict)}</strong> {html.escape(section.summary)}</p>"
        f"{doubts}{figures}{numbers if tables else ''}{origin(section)}</section>"
    )


def table(one: Table) -> str:
    """A table as HTML; it scrolls by itself where the page is too narrow."""

    def row(cells: list[str], tag: str) -> str:
        return (
            "<tr>"
            + "".join(
                f"<{tag}{' class=left' if n < one.left else ''}>{html.escape(cell)}</{tag}>"
                for n, cell in enumerate(cells)
            )
            + "</tr>"
        )

    body = "".join(row(cells, "td") for cells in one.rows)
    return (
        f'<div class="wide"><table><caption>{html.escape(one.title)}</caption>'
        f"<thead>{row(one.headings, 'th')}</thead><tbody>{body}</tbody></table></div>"
    )


def origin(section: Section) -> str:
    """Which file, when, on what; folded, the configs and hashes of the models."""
    raw = section.raw
    if raw is None:
        return ""
    machine = ", ".join(f"{key} {value}" for key, value in raw.machine.items())
    facts = [raw["model"]] if "model" in raw.content else []
    facts += raw.content.get("composing", [])
    served = "".join(
        f"<p class=soft>{html.escape(one['name'])}, version {one.get('version')}: "
        f"{html.escape(json.dumps(one.get('sha256', {})))}</p><pre>{html.escape(one['config_pbtxt'])}</pre>"
        for one in facts
    )
    return (
        f'<p class="soft">{html.escape(section.name)}.json, {html.escape(raw.taken or "no date")}; '
        f"{html.escape(machine)}</p>"
        + (
            f"<details><summary>config.pbtxt and hashes of what was served</summary>{served}</details>"
            if served
            else ""
        )
    )
