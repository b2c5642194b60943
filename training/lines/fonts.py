"""The font families of `fonts.txt`: where they come from, and which split has them.

Fonts are taken from pinned wheels (`export.common.packages`); nothing is installed. A `Face` is one file, and
of a variable font one weight and width. Faces are opened by Pillow, at a size in pixels.
"""

import zipfile
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

from export.common.packages import Package, extract, fetch, fetch_all
from export.networks.text.charset import CHARSET

__all__ = ["Face", "Family", "faces", "families", "missing_characters", "open_font"]

TABLE = Path(__file__).with_name("fonts.txt")
TOO_THIN = ("Thin", "Hairline", "ExtraLight", "UltraLight")
WEIGHTS = (300, 400, 500, 700)  # of variable fonts
NEWER_PYTHON = {"pdfboss-fonts": "3.13"}
SHARED_WHEELS = {  # families in wheels that hold more than one: how their files' names begin
    "DejaVu Sans": ("DejaVuSans.", "DejaVuSans-"),
    "DejaVu Sans Mono": ("DejaVuSansMono.", "DejaVuSansMono-"),
    "DejaVu Serif": ("DejaVuSerif.", "DejaVuSerif-"),
    "STIX General": ("STIXGeneral.", "STIXGeneralBol.", "STIXGeneralItalic.", "STIXGeneralBolIta."),
    "Tinos": ("Tinos-",),
    "Cousine": ("Cousine-",),
}


@dataclass(frozen=True)
class Family:
    """One row of the table."""

    split: str
    kind: str
    name: str
    package: Package


@dataclass(frozen=True)
class Face:
    """A font file of a family, and the values of its axes if it is variable."""

    family: str
    kind: str
    path: Path
    axes: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The file's, without its suffix; after an @ the values of the axes, if it is variable."""
        return self.path.stem + ("@" + ",".join(f"{value:g}" for value in self.axes) if self.axes else "")


@cache
def families(split: str | None = None) -> tuple[Family, ...]:
    """The table's rows, of one split or all."""
    rows = []
    for line in TABLE.read_text().splitlines():
        if line.startswith("#"):
            continue
        row_split, kind, name, requirement, sha256 = line.split(" | ")
        if split in (None, row_split):
            rows.append(Family(row_split, kind, name, _package(requirement, sha256)))
    return tuple(rows)


@cache
def faces(split: str) -> tuple[tuple[Face, ...], ...]:
    """The faces of a split, one tuple per family. Fetches the wheels on first use.

    Left out: hairline weights, and files that lack any character of the charset.
    """
    fetch_all([family.package for family in families(split)])
    return tuple(_faces_of(family) for family in families(split))


def missing_characters(face: Face) -> str:
    """What of the charset the face cannot draw: its glyph is the one for unknown characters, or empty."""
    font = ImageFont.truetype(face.path, 12, layout_engine=ImageFont.Layout.BASIC)

    def glyph(character: str) -> tuple[tuple[int, int], bytes]:
        mask = font.getmask(character)
        return mask.size, bytes(mask)

    unknown = glyph("\U0010fffe")
    found = {character: glyph(character) for character in CHARSET if character != " "}
    return "".join(c for c, drawn in found.items() if drawn == unknown or not any(drawn[1]))


# Up to half a gigabyte, and all that a test opens: a variable font that is opened again may draw a line
# by one pixel wider. Opening takes a tenth of the time of a line.
@lru_cache(maxsize=1000)
def open_font(face: Face, size: int) -> ImageFont.FreeTypeFont:
    """size: pixels per em."""
    font = ImageFont.truetype(face.path, size)
    if face.axes:
        font.set_variation_by_axes(list(face.axes))
    return font


def _package(requirement: str, sha256: str) -> Package:
    name, version = requirement.split("==")
    tags = "py3-none-any"
    if name == "matplotlib":
        tags = "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64"
    filename = f"{name.replace('-', '_')}-{version}-{tags}.whl"
    return Package(requirement, filename, sha256, NEWER_PYTHON.get(name, "3.11"))


def _faces_of(family: Family) -> tuple[Face, ...]:
    with zipfile.ZipFile(fetch(family.package)) as archive:
        members = [name for name in archive.namelist() if name.lower().endswith(".ttf")]
    found = []
    for member in sorted(members):
        name = Path(member).name
        if any(word in name for word in TOO_THIN):
            continue
        if family.name in SHARED_WHEELS and not name.startswith(SHARED_WHEELS[family.name]):
            continue
        path = extract(family.package, member)
        variants = [Face(family.name, family.kind, path, axes) for axes in _axes(path)]
        if not missing_characters(variants[0]):
            found += variants
    return tuple(found)


def _axes(path: Path) -> list[tuple[float, ...]]:
    """The settings that a font file is used with; one empty one if it is not variable."""
    try:
        axes = ImageFont.truetype(path, 16).get_variation_axes()
    except OSError:
        return [()]
    settings: list[tuple[float, ...]] = [()]
    for axis in axes:
        name = axis["name"].decode() if isinstance(axis["name"], bytes) else axis["name"]
        low, high = axis["minimum"] or 0, axis["maximum"] or 0
        values: list[int] = [axis["default"] or 0]
        if name == "Weight":
            values = [weight for weight in WEIGHTS if low <= weight <= high]
        elif name == "Width":
            values = sorted({max(low, 80), min(100, high)})
        settings = [(*setting, value) for setting in settings for value in values]
    return settings
