"""Finds the arithmetic in a question, whether it is written in signs or in words."""

from __future__ import annotations

import re
from collections.abc import Callable

_UNITS = "zero one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SMALL = {word: number for number, word in enumerate([*_UNITS, *_TEENS])}
_LARGE = {word: 10 * number for number, word in enumerate(_TENS, 2)}
_NUMBER_WORDS = re.compile(rf"\b(?:({'|'.join(_LARGE)})(?:[- ]({'|'.join(_UNITS[1:])}))?|({'|'.join(_SMALL)}))\b")
# Characters that are looked at: a search may take the square of their number.
_LONGEST = 1000
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}

_N = r"(-?\d+(?:\.\d+)?)"
_LIST = rf"{_N}(?:(?:,? and |, ?){_N})+".replace("(-?", "(?:-?")

Rule = tuple[str, str | Callable[[re.Match[str]], str]]


def _joined(sign: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"({f' {sign} '.join(re.findall(_N, match[0]))})"


def _between(words: str) -> str:
    """A pattern for *words* that stand between two operands."""
    return rf"(?<=[\d)])\s*(?:{words})\s*(?=[-+(\d])"


# In this order: each works on the text that the ones before it have made.
_RULES: tuple[Rule, ...] = (
    (r"[$€£]", ""),
    (r"[−–]", "-"),
    (r"(?<=\d),(?=\d{3}\b)", ""),
    (rf"{_N} ({'|'.join(_SCALES)})\b", lambda match: f"{float(match[1]) * _SCALES[match[2]]:.12g}"),
    (rf"\b(?:sum|total) of {_LIST}", _joined("+")),
    (rf"\bproduct of {_LIST}", _joined("*")),
    (rf"\bdifference (?:of|between) {_N} and {_N}", r"(\1 - \2)"),
    (rf"\bquotient of {_N} and {_N}", r"(\1 / \2)"),
    (rf"\badd {_N} (?:and|to|with) {_N}", r"(\1 + \2)"),
    (rf"\b(?:subtract|take) {_N} (?:away )?from {_N}", r"(\2 - \1)"),
    (rf"\bmultiply {_N} (?:and|by|with) {_N}", r"(\1 * \2)"),
    (rf"\bdivide {_N} by {_N}", r"(\1 / \2)"),
    (rf"\bhalf (?:of )?{_N}", r"(\1 / 2)"),
    (rf"\b(?:twice|double) {_N}", r"(2 * \1)"),
    (rf"\bsquare root of {_N}", r"(\1 ** 0.5)"),
    (rf"{_N} ?(?:%|percent) of {_N}", r"(\1 / 100 * \2)"),
    (rf"{_N} squared\b", r"\1 ** 2"),
    (rf"{_N} cubed\b", r"\1 ** 3"),
    (_between(r"to the power of|raised to(?: the power of)?|\^"), " ** "),
    (_between(r"times|multiplied by|[x×·]"), " * "),
    (_between(r"divided by|over|÷"), " / "),
    (_between(r"plus|added to"), " + "),
    (_between(r"minus|take away|less"), " - "),
    (_between(r"mod|modulo"), " % "),
)
_EXPRESSION = re.compile(r"[-+(]*\d[\d\s.+*/%()-]*[\d)]")
_WHOLE = re.compile(r"\((-?[^()]*)\)")


def expression_in(text: str) -> str | None:
    """The first arithmetic expression in *text*, in signs; None if there is none.

    ``"What is twelve times 7?"`` has ``"12 * 7"``.
    """
    text = _NUMBER_WORDS.sub(_digits, text[:_LONGEST].lower())
    for pattern, made in _RULES:
        text = re.sub(pattern, made, text)
    found = [match[0].strip() for match in _EXPRESSION.finditer(text)]
    # A number alone is none: "In 2024, what is 3 plus 4?"
    found = [part for part in found if re.search(r"[\d)]\s*[-+*/%(\s]", part)]
    if not found:
        return None
    first = next((part for part in found if re.search(r"[\d)]\s*[-+*/%]", part)), found[0])
    whole = _WHOLE.fullmatch(first)
    return whole[1] if whole else first


def _digits(match: re.Match[str]) -> str:
    large, unit, small = match.groups()
    return str(_LARGE[large] + _SMALL.get(unit, 0) if large else _SMALL[small])
