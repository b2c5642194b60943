"""Text as people save it, and what reads it: configs and Python sources, from their bytes."""

import ast
import codecs
import re

__all__ = ["config_text", "parse_python", "python_text", "wide_encoding"]

MARKS = {  # the longer ones first: that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
PROBED = 64  # bytes, where there is no mark
CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # PEP 263
COMMENT = re.compile(rb"^[ \t\f]*(?:#.*)?$")
REPLACEMENT = "\ufffd"  # what a byte becomes that is not of the encoding


def wide_encoding(data: bytes) -> str:
    """UTF-16 or UTF-32, by its byte order mark or by the zeros of Latin letters; "" for anything else."""
    for mark, name in MARKS.items():
        if data.startswith(mark):
            return name
    start = data[:PROBED]
    halves = (start[::2], start[1::2])
    return "UTF-16" if any(half and not half.strip(b"\0") for half in halves) else ""


def config_text(data: bytes) -> str:
    """As Triton reads a config: UTF-8, and anything in comments; a byte that is not is a lone surrogate."""
    return data.decode("utf-8", errors="surrogateescape")


def python_text(data: bytes) -> str:
    """As Python reads a source, by its byte order mark and coding line; other bytes become U+FFFD."""
    try:
        return data.decode(_python_encoding(data), errors="replace")
    except LookupError:
        return data.decode("utf-8-sig", errors="replace")


def parse_python(data: bytes) -> ast.Module:
    """Raises `SyntaxError` or `ValueError` where importing the file would.

    Bytes that are not of its encoding are let be in comments, if that is UTF-8.
    """
    if wide := wide_encoding(data):
        raise SyntaxError(f"it is {wide}, and Python reads UTF-8")
    encoding = _python_encoding(data)
    marked = data.startswith(codecs.BOM_UTF8)
    try:
        utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    except LookupError as error:
        raise SyntaxError(f"unknown encoding: {encoding}") from error
    if marked and not utf8:
        raise SyntaxError(f"a UTF-8 byte order mark, and the coding line says {encoding}")
    if not utf8:
        return ast.parse(data.decode(encoding))
    if marked:
        data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return ast.parse(data.decode("utf-8"))
    except UnicodeDecodeError:
        pass
    tree = ast.parse(data.replace(REPLACEMENT.encode(), b"???").decode("utf-8", errors="replace"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and REPLACEMENT in node.value:
            raise SyntaxError("a text holds bytes that are no UTF-8", ("", node.lineno, None, None))
    return tree


def _python_encoding(data: bytes) -> str:
    """Of a coding line, which is the first, or the second below a comment or an empty one."""
    for line in data.removeprefix(codecs.BOM_UTF8).split(b"\n", 2)[:2]:
        line = line.rstrip(b"\r")
        if found := CODING.match(line):
            return found[1].decode("ascii", errors="replace")
        if not COMMENT.match(line):
            break
    return "utf-8-sig"
