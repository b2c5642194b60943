"""English and Portuguese words with their frequencies, in three parts that share no word.

The lists are pyspellchecker's, counted in film subtitles. A word's part depends on its sha256 alone, so it
is the same in both languages and for ever: 90 % for training, 5 % for validation, 5 % for the test.
"""

import gzip
import hashlib
import json
import zipfile
from functools import cache

from export.common.packages import PYSPELLCHECKER, fetch
from export.networks.text.charset import CHARSET

__all__ = ["LANGUAGES", "SPLITS", "split_of_word", "words"]

LANGUAGES = ("en", "pt")
SPLITS = ("training", "validation", "test")
MOST_FREQUENT = 60_000  # below these the lists hold misspellings
ONE_LETTER = {"en": {"a", "i"}, "pt": {"a", "e", "o", "é", "à"}}
LETTERS = frozenset(c for c in CHARSET if c.isalpha() and c.islower()) - {"º", "ª"}


def split_of_word(word: str) -> str:
    """The part that has this word, however it is written: of 20 words 18, 1 and 1."""
    remainder = int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:4], "big") % 20
    return {0: "validation", 1: "test"}.get(remainder, "training")


@cache
def words(language: str, split: str) -> tuple[str, ...]:
    """The part's words in lower case, the most frequent first; only letters of the charset."""
    return tuple(word for word in _ranked(language) if split_of_word(word) == split)


@cache
def _ranked(language: str) -> list[str]:
    with zipfile.ZipFile(fetch(PYSPELLCHECKER)) as archive:
        counts = json.loads(gzip.decompress(archive.read(f"spellchecker/resources/{language}.json.gz")))
    ranked = sorted((word for word in counts if LETTERS.issuperset(word)), key=lambda word: -counts[word])
    return [word for word in ranked[:MOST_FREQUENT] if len(word) > 1 or word in ONE_LETTER[language]]
