"""Numbers in disguise: text that `decimal`, `thousands`, `strip` and `missing` of [data.csv] read as numbers."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.core.spec import CsvSpec

LOOKED_AT = 1000
"""Different texts of a column that are looked at."""
FEW = 5
"""Different words among the numbers of a column that may all mean missing; of more, the column holds words."""
MANY = 20
"""Different numbers from which on an unknown word among them hardly names a class."""

_BLANKS = " \t\u00a0\u2009\u202f"
_NUMBER = re.compile(
    rf"(?P<front>\D*?)(?P<body>[.,]?\d(?:[\d.,'’_{_BLANKS}]*\d)?[.,]?(?:[eE][+-]?\d+)?)(?P<back>\D*)", re.DOTALL
)
_MISSING = frozenset(
    "? \\N - -- --- – — . .. ... * n.a. n.a n/a na n.d. nd n/d none nil null (null) <null> [null] missing unknown "
    "(blank) #n/a #nv #div/0! #value! #wert! #ref! #bezug! #name? #num! #zahl! #null! k.a. <na> nan".lower().split()
) | {"", "not available", "not applicable", "k. a."}  # fmt: skip
"""What is written for a missing number by databases, spreadsheets, statistics programs and people; in small letters."""
_TOTALS = re.compile(r"(?i)(grand |sub-?)?(total|totals|sum|summe|gesamt|gesamtsumme|somme|totaal|totale|suma)\b")
_MARKS = (("", ""), (",", ","), (".", r"\."), (" ", f"[{_BLANKS}]"), ("'", "['’]"), ("_", "_"))
"""Marks between groups of digits, each with what is taken for it."""


@dataclass
class Reading:
    """How to read columns of text as numbers."""

    written: CsvSpec
    """With the options that are needed for it, and that leave no doubt."""
    uses: dict[str, list[str]] = field(default_factory=dict)
    """Columns that need an option, by its name."""
    perhaps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Words that may mean missing, by column: only a person can say so."""
    open: list[str] = field(default_factory=list)
    """What no option mends or only a person can decide, one sentence each."""

    def unsure(self) -> CsvSpec:
        """Also with what only a person can say."""
        words = [word for each in self.perhaps.values() for word in each]
        return self.written.model_copy(update={"missing": tuple(dict.fromkeys([*self.written.missing, *words]))})


def lines(written: CsvSpec, than: CsvSpec) -> dict[str, str]:
    """The lines of [data.csv] that make another way of writing of `than`, by option."""
    return {name: f"{name} = {_toml(value)}" for name, value in written if value != getattr(than, name)}


def _toml(value: str | Sequence[str]) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f").replace("\u00a0", "\\u00a0")


def in_words(written: CsvSpec, than: CsvSpec) -> str:
    """Those lines in a sentence: `decimal = ","` and `strip = "%"`."""
    found = [f"`{line}`" for line in lines(written, than).values()]
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def disguised(
    columns: Mapping[str, Iterable[str | None]],
    written: CsvSpec,
    *,
    numbers: Collection[str] = (),
    private: Collection[str] = (),
    fixed: Collection[str] = (),
) -> Reading:
    """What reads columns of a text file as numbers, by some of their values.

    Of the columns in `numbers` it is known that they hold numbers, and whatever helps some of their values is found;
    of the others only where all of them are numbers then. No value of the columns in `private` is named, and no option
    in `fixed` is changed.
    """
    every = [_Texts.of(name, texts, written) for name, texts in columns.items()]
    looked = [one for one in every if one.bodies and (one.name in numbers or one.may_be_number)]
    found = Reading(written)
    read = _marks(looked, found, private, fixed)
    found.open += [said for one in every if one not in looked and (said := _strange(one, one.name in private))]
    for one in looked:
        if one.name in numbers or one.name in read:
            if "strip" not in fixed:
                _affixes(one, found, known=one.name in numbers, secret=one.name in private)
            if "missing" not in fixed:
                _words(one, found, known=one.name in numbers, secret=one.name in private)
    return found


@dataclass
class _Texts:
    """The different texts of a column, sorted by what they are."""

    name: str
    bodies: dict[str, str]
    """The digits with the marks in between, and what they were found in."""
    affixes: dict[str, str]
    """What is around the digits but for signs, brackets and blanks, each with an example."""
    brackets: str = ""
    """A number in brackets."""
    words: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """With digits, but no number that options could read."""

    @classmethod
    def of(cls, name: str, texts: Iterable[str | None], written: CsvSpec) -> _Texts:
        known = {word.strip() for word in written.missing}
        found, words, others = cls(name, {}, {}), [], []
        for text in dict.fromkeys(text.strip() for text in texts if text is not None):
            if text in known or text.lower() in ("true", "false", "inf", "-inf", "+inf", "nan"):
                continue
            if text.lower() in _MISSING or not any(one.isdigit() for one in text):
                words.append(text)
            elif (match := _NUMBER.fullmatch(text)) and (affix := _affix(match["front"], match["back"])) is not None:
                found.bodies.setdefault(match["body"], text)
                if "(" in match["front"]:
                    found.brackets = found.brackets or text
                if affix or match["body"].strip("0.,"):  # nothing is nothing in any unit
                    found.affixes.setdefault(affix, text)
            else:
                others.append(text)
        found.words, found.others = tuple(words), tuple(others)
        return found

    @property
    def may_be_number(self) -> bool:
        return not self.others and len(self.words) <= FEW


def _strange(one: _Texts, secret: bool) -> str:
    """What to say of a column that looks like numbers and has values which no option reads; empty for any other."""
    formulas = [text for text in one.others if re.fullmatch(r'="[^"]*"', text)]
    if formulas and len(formulas) == len(one.others):
        said = "" if secret else f", such as {formulas[0]!r}"
        return f"column {one.name!r} has formulas of a spreadsheet{said}: deliver what they stand for"
    if MANY < len(one.bodies) >= len(one.others) / 2 > 0 and len(one.words) <= FEW:
        said = "" if secret else f", such as {one.others[0]!r}"
        return f"column {one.name!r} has numbers, and others that no option reads as such{said}: deliver numbers alone"
    return ""


def _affix(front: str, back: str) -> str | None:
    """What is around a number; None for what makes another thing of it, such as `<5`, `A12`, `5-`."""
    bare = re.sub(rf"[{_BLANKS}]", "", front)
    around = re.sub(r"^[+-]|[+-]$", "", bare).replace("(", "") + back.strip(_BLANKS).replace(")", "")
    if (front.count("("), back.count(")")) not in ((0, 0), (1, 1)) or ("(" in front and re.search("[+-]", front)):
        return None
    if bare and bare[-1].isalpha() and not front[-1].isspace():
        return None
    fine = all(one.isalpha() or one in "%‰°. " or unicodedata.category(one) == "Sc" for one in around)
    return around if fine and not around.startswith(".") else None


# --- marks in numbers ----------------------------------------------------------------------------------------


def _value(body: str, decimal: str, thousands: str) -> float | None:
    """What digits are where these are the marks in them, None where they are no number."""
    point, mark = re.escape(decimal), dict(_MARKS)[thousands]
    if mark and re.fullmatch(
        rf"([1-9]\d{{0,2}}({mark}\d{{3}})+|[1-9]\d?({mark}\d\d)+{mark}\d{{3}})({point}\d*)?", body
    ):
        body = re.sub(mark, "", body)
    if not re.fullmatch(rf"(\d+({point}\d*)?|{point}\d+)([eE][+-]?\d+)?", body):
        return None
    return float(body.replace(decimal, "."))


def _marks(looked: Sequence[_Texts], found: Reading, private: Collection[str], fixed: Collection[str]) -> set[str]:
    """The marks with which most values are numbers, as they are written if that will do; and which columns are."""
    written = found.written
    ours = (written.decimal, written.thousands)
    ways = [ours, *((point, mark) for mark, _ in _MARKS for point in ".," if mark != point and (point, mark) != ours)]
    ways = [
        way
        for way in ways
        if ("decimal" not in fixed or way[0] == ours[0]) and (written.thousands in ("", way[1]))
        and ("thousands" not in fixed or way[1] == ours[1])
    ]  # fmt: skip
    read = {way: {one.name: [_value(body, *way) for body in one.bodies] for one in looked} for way in ways}
    share = {
        way: {name: sum(value is not None for value in values) / len(values) for name, values in each.items()}
        for way, each in read.items()
    }
    best = max(ways, key=lambda way: sum(share[way].values()))  # of equals the first: the one with the fewest changes
    changed = [name for name, its in share[best].items() if its > share[ours].get(name, 0)]
    rivals = [way for way in ways if share[way] == share[best] and read[way] != read[best]]
    if changed and rivals:
        name = next(name for name in changed if read[rivals[0]][name] != read[best][name])
        (one,) = (one for one in looked if one.name == name)
        place = next(place for place, value in enumerate(read[best][name]) if value != read[rivals[0]][name][place])
        text = "" if name in private else f", such as {list(one.bodies)[place]!r},"
        either = [
            f"{in_words(_with(written, way), written)}" + (f" if it is {read[way][name][place]:.12g}" if text else "")
            for way in (best, rivals[0])
        ]
        found.open.append(f"column {name!r} has numbers{text} that can be read in two ways: write {', '.join(either)}")
        return {name for name, its in share[ours].items() if its == 1}
    for one in looked:
        if share[best][one.name] < 1 and any(its[one.name] == 1 for its in share.values()):
            text = next(text for body, text in one.bodies.items() if _value(body, *best) is None)
            shown = "" if one.name in private else f", such as {text!r}"
            said = f"column {one.name!r} writes numbers otherwise than other columns{shown}"
            found.open.append(f"{said}: deliver all of them alike")
    found.written = _with(written, best)
    for option in lines(found.written, written):
        found.uses[option] = [name for name in changed if share[best][name] == 1] or changed
    return {name for name, its in share[best].items() if its == 1}


def _with(written: CsvSpec, way: tuple[str, str]) -> CsvSpec:
    return written.model_copy(update={"decimal": way[0], "thousands": way[1]})


# --- what is around them -------------------------------------------------------------------------------------


def _affixes(one: _Texts, found: Reading, *, known: bool, secret: bool) -> None:
    affixes = {affix for affix in one.affixes if affix}
    if len(affixes) > 1 or ("" in one.affixes and affixes and not _is_currency(affixes)):
        shown = " and ".join(repr(text) for text in list(one.affixes.values())[:3])
        said = "" if secret else f", {shown}"
        found.open.append(f"column {one.name!r} has numbers in several units{said}: deliver all of them in one")
        return
    if not affixes and not one.brackets:
        return
    strip = found.written.strip
    for mark in "".join(affixes) + ("()" if one.brackets else ""):
        strip += "" if mark in strip or mark.isspace() else mark
    stripped = found.written.model_copy(update={"strip": strip})
    if known or not any(mark.isalpha() for affix in affixes for mark in affix):
        found.written = stripped
        found.uses.setdefault("strip", []).append(one.name)
    elif stripped != found.written:
        said = "" if secret else f", such as {next(iter(one.affixes.values()))!r}"
        found.open.append(
            f"column {one.name!r} has numbers with letters{said}: {in_words(stripped, found.written)} "
            "reads them as numbers"
        )


def _is_currency(affixes: Collection[str]) -> bool:
    return all(unicodedata.category(mark) == "Sc" for affix in affixes for mark in affix)


def _words(one: _Texts, found: Reading, *, known: bool, secret: bool) -> None:
    sure = []
    perhaps = []
    for word in one.words if len(one.words) <= FEW else ():
        if word == one.name:
            found.open.append(f"column {one.name!r} has its own name among its values: remove that line, a header")
        elif _TOTALS.match(word):
            said = "a word" if secret else repr(word)
            found.open.append(f"column {one.name!r} has {said} among its numbers: remove that line, which is no row")
        elif word.lower() in _MISSING:
            sure.append(word)
        elif not secret and (known or len(one.bodies) > MANY):
            perhaps.append(word)
    if sure:
        every = dict.fromkeys([*found.written.missing, *(word or " " for word in sure)])
        found.written = found.written.model_copy(update={"missing": tuple(every)})
        found.uses.setdefault("missing", []).append(one.name)
    if perhaps:
        found.perhaps[one.name] = tuple(perhaps)
