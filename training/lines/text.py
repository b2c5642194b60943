"""What the lines say: words, numbers, codes, always within the charset.

`TextSource(split).draw(kind, random)` gives one line's text. Kinds: "english" and "portuguese" (words in
every way of writing them, some with punctuation), "numbers" (counts, prices, dates, times, percentages,
telephone and document numbers), "codes" (random letters and digits, so that no knowledge of words hides a
letter that is rare in them), "signs" (words and numbers among brackets and rarer signs).
"""

import numpy as np

from training.lines.words import words

__all__ = ["KINDS", "TextSource"]

KINDS = ("english", "portuguese", "numbers", "codes", "signs")
LOWER, UPPER, DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
ACCENTED = "áàâãçéêíóôõúü"
CODE_LETTERS = {  # without what many fonts draw alike: I, l and O among digits
    "lower": LOWER.replace("l", ""),
    "upper": UPPER.replace("I", "").replace("O", ""),
    "digits": DIGITS,
}
SIGNS = "#@&*+-=/\\_<>|°ºª%$"
MONTHS = {
    "english": "January February March April May June July August September October November December",
    "portuguese": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
}
FREQUENT = 3000  # half of the words are among these, the others anywhere in the list
LANGUAGE = {"english": "en", "portuguese": "pt"}


class TextSource:
    """Texts with the words of one split."""

    def __init__(self, split: str) -> None:
        self._words = {kind: words(language, split) for kind, language in LANGUAGE.items()}

    def draw(self, kind: str, random: np.random.Generator, longest: int = 60) -> str:
        """One line of at most `longest` characters, of the kind."""
        make = {"numbers": self._numbers, "codes": self._codes, "signs": self._signs}.get(kind)
        parts = make(random) if make else self._words_of(kind, random)
        text = parts[0][:longest]
        for part in parts[1:]:
            if len(text) + 1 + len(part) > longest:
                break
            text += " " + part
        return text

    def _word(self, kind: str, random: np.random.Generator) -> str:
        pool = self._words[kind]
        frequent = min(FREQUENT, len(pool) // 4)
        return pool[random.integers(frequent if random.random() < 0.5 else len(pool))]

    def _words_of(self, kind: str, random: np.random.Generator) -> list[str]:
        count = _length(random, 7)
        parts = [self._word(kind, random) for _ in range(count)]
        style = random.random()
        if style < 0.20:
            parts[0] = parts[0].capitalize()
        elif style < 0.40:
            parts = [part.capitalize() for part in parts]
        elif style < 0.58:
            parts = [part.upper() for part in parts]
        elif style < 0.70:
            parts = [
                (part, part.capitalize(), part.upper())[random.choice(3, p=(0.5, 0.35, 0.15))]
                for part in parts
            ]
        if random.random() < 0.35:
            parts = [self._punctuated(part, kind, random) for part in parts]
            if random.random() < 0.5:
                parts[-1] = parts[-1].rstrip(".,;:!?") + str(random.choice(list(".,;:!?")))
        return parts

    def _punctuated(self, part: str, kind: str, random: np.random.Generator) -> str:
        choice = random.random()
        if choice < 0.15:
            return part + str(random.choice(list(".,;:!?"), p=(0.3, 0.4, 0.08, 0.1, 0.06, 0.06)))
        if choice < 0.21:
            opening, closing = ("()", '""', "''", "[]", "{}")[random.choice(5, p=(0.4, 0.3, 0.15, 0.1, 0.05))]
            return opening + part + closing
        if choice < 0.25:
            return part + ("'S" if part.isupper() else "'s")
        if choice < 0.29:
            second = self._word(kind, random)
            return part + "-" + (second.upper() if part.isupper() else second)
        return part

    def _numbers(self, random: np.random.Generator) -> list[str]:
        return [_number(random) for _ in range(_length(random, 4))]

    @staticmethod
    def _codes(random: np.random.Generator) -> list[str]:
        parts = []
        for _ in range(_length(random, 4)):
            style = random.integers(6)
            letters = (
                LOWER,
                UPPER,
                LOWER + ACCENTED,
                CODE_LETTERS["upper"] + CODE_LETTERS["digits"],
                CODE_LETTERS["lower"] + CODE_LETTERS["digits"],
                CODE_LETTERS["lower"] + CODE_LETTERS["upper"] + CODE_LETTERS["digits"] + ACCENTED.upper(),
            )[style]
            letters += "kwykwyKWY" if style in (0, 5) else ""
            parts.append("".join(random.choice(list(letters), random.integers(2, 10))))
        return parts

    def _signs(self, random: np.random.Generator) -> list[str]:
        parts = []
        for _ in range(_length(random, 5)):
            kind = ("english", "portuguese")[random.integers(2)]
            core = self._word(kind, random) if random.random() < 0.6 else _number(random)
            core = core.upper() if random.random() < 0.2 else core
            sign = SIGNS[random.integers(len(SIGNS))]
            form = random.integers(7)
            if form == 0:
                core = sign
            elif form == 1:
                core = sign + core
            elif form == 2:
                core = core + sign
            elif form == 3:
                core = core + sign + self._word(kind, random)
            elif form == 4:
                opening, closing = ("()", "[]", "{}", "<>", '""', "''", "||")[random.integers(7)]
                core = opening + core + closing
            elif form == 5:
                core = core + str(random.choice(list(".,;:!?")))
            parts.append(core)
        return parts


def _length(random: np.random.Generator, most: int) -> int:
    """How many words: few more often than many."""
    return 1 + int(most * random.random() ** 1.6)


def _digits(random: np.random.Generator, count: int) -> str:
    return "".join(DIGITS[i] for i in random.integers(10, size=count))


def _number(random: np.random.Generator) -> str:
    whole = int(10 ** random.uniform(0, 6.5))
    cents = random.integers(100)
    day, month, year = random.integers(1, 32), random.integers(1, 13), random.integers(1900, 2040)
    form = random.integers(16)
    if form <= 3:
        return str(whole)
    if form == 4:
        return f"{whole:,}"
    if form == 5:
        return f"{whole:,}".replace(",", ".")
    if form == 6:
        return ("$", "R$ ", "US$ ", "")[random.integers(4)] + f"{whole % 100000:,}.{cents:02d}"
    if form == 7:
        english = f"{whole % 100000:,}.{cents:02d}"
        return "R$ " + english.replace(",", " ").replace(".", ",").replace(" ", ".")
    if form == 8:
        return f"{day:02d}/{month:02d}/{year}"
    if form == 9:
        return (f"{year}-{month:02d}-{day:02d}", f"{day:02d}.{month:02d}.{year}")[random.integers(2)]
    if form == 10:
        months = MONTHS[("english", "portuguese")[random.integers(2)]].split()
        return f"{day} {months[month - 1]} {year}"
    if form == 11:
        return f"{random.integers(24):02d}:{random.integers(60):02d}" + (":00", "", "")[random.integers(3)]
    if form == 12:
        return f"{random.uniform(-100, 100):.{random.integers(4)}f}" + ("%", "", "")[random.integers(3)]
    if form == 13:
        return f"+{random.integers(1, 100)} ({_digits(random, 2)}) {_digits(random, 4)}-{_digits(random, 4)}"
    if form == 14:
        return f"{_digits(random, 3)}.{_digits(random, 3)}.{_digits(random, 3)}-{_digits(random, 2)}"
    return _digits(random, random.integers(3, 13))
