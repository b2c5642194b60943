"""Words, each in one split."""

from export.networks.text.charset import CHARSET
from training.lines.words import LANGUAGES, SPLITS, split_of_word, words


def test_no_word_is_in_two_splits():
    for language in LANGUAGES:
        parts = {split: set(words(language, split)) for split in SPLITS}
        everything = sum(len(part) for part in parts.values())
        assert everything == len(set.union(*parts.values()))
        assert 0.03 < len(parts["test"]) / everything < 0.07
        assert set("".join(parts["test"])) <= set(CHARSET)
    assert split_of_word("Key") == split_of_word("kEY")
