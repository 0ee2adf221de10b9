"""Personal data in text that rules can know: found, checked by its checksum, replaced.

Names of people, postal addresses, and numbers in words are not found: there is no rule for them.
What comes out is text with less personal data in it, and not anonymous text.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np

from ...errors import UsageError
from ..registry import register, suggestion
from ..values import Modality, Params

PiiKind: TypeAlias = Literal["url", "email", "iban", "card", "my_number", "ip", "date", "phone"]
"""In the order of precedence: what one kind takes, the next cannot."""

KEY_VARIABLE = "EVALSUITE_PRIVACY_KEY"
_MIN_KEY = 16  # bytes: a shorter key can be found by trying

# ISO 13616 registry: length of an IBAN by country.
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 "
        "EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 "
        "IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 "
        "NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 "
        "TN24 TR26 UA29 VA22 VG24 XK20",
    )
}
_ERAS = {"明治": 1867, "大正": 1911, "昭和": 1925, "平成": 1988, "令和": 2018}

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9_\u00c0-\u024f.+-])[A-Za-z0-9\u00c0-\u024f][A-Za-z0-9_\u00c0-\u024f.+%'-]{0,63}"
    r"@(?:[A-Za-z0-9\u00c0-\u024f-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9_-])"
)
_URL = re.compile(
    r"(?<![A-Za-z0-9_@])(?:https?://|ftp://|www\.)[^\s<>\"'「」『』（）、。]{2,2000}", re.IGNORECASE
)
_IBAN = re.compile(
    # Looked for at every place: a word before it, as in "and CH93 …", must not swallow it.
    r"(?<![A-Z0-9])(?=([A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}))",
    re.IGNORECASE | re.ASCII,
)
_CARD = re.compile(r"(?<![\d.-])[2-6](?:[ -]?\d){12,18}(?![\d]|[.-]\d)")
_MY_NUMBER = re.compile(r"(?<![\d.-])(?<!\d{4} )\d{4}[ -]?\d{4}[ -]?\d{4}(?!\d|[.-]\d| \d{4})")
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d]|\.\d)")
_IPV6 = re.compile(r"(?<![A-Za-z0-9_:.])[0-9A-Fa-f:]{2,39}(?:\.\d{1,3}){0,3}(?![A-Za-z0-9_:])")
_DATE = re.compile(
    r"(?<![\d.,/-])(?:"
    r"(?P<y1>(?:18|19|20)\d\d)(?P<s1>[-/.])(?P<m1>\d{1,2})(?P=s1)(?P<d1>\d{1,2})"
    r"|(?P<d2>\d{1,2})\.(?P<m2>\d{1,2})\.(?P<y2>(?:18|19|20)\d\d)"
    r"|(?P<y3>(?:18|19|20)\d\d) ?年 ?(?P<m3>\d{1,2}) ?月 ?(?P<d3>\d{1,2})(?= ?日)"
    r"|(?P<era>明治|大正|昭和|平成|令和) ?(?P<y4>\d{1,2}|元) ?年 ?(?P<m4>\d{1,2}) ?月 ?"
    r"(?P<d4>\d{1,2})(?= ?日)"
    r")(?!\d|[./-]\d)"
)
# E.164 with its plus; Japan's numbers with and without separators; other national numbers that
# start with 0 and are written in groups; North America's in groups of 3, 3 and 4.
_PHONE = re.compile(
    r"(?<![A-Za-z0-9_.+-])(?:"
    r"\+[1-9](?:[ .-]?(?:\(0?\d{0,4}\)[ .-]?)?\d){6,14}"
    r"|\(?0\d{1,4}\)?[ -]?\d{1,4}[ -]\d{3,4}"
    r"|0[5789]0[ -]?\d{4}[ -]?\d{4}"
    r"|0120[ -]?\d{3}[ -]?\d{3}"
    r"|\(?0[1-9]\d{0,3}\)[ -]?\d{1,4}[ -]?\d{4}"
    r"|0[1-9]\d{8}"
    r"|0\d{1,4}(?:[ -]\d{2,4}){2,4}"
    r"|0\d{2,4}[ /-]\d{5,8}"
    r"|(?:1[ .-])?\(?[2-9]\d\d\)?[ .-][2-9]\d\d[ .-]\d{4}"
    r")(?!\d|[.-]\d)"
)
# A number whose length none of those rules out, but no telephone has.
_PHONE_DIGITS = range(9, 16)

_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−ー－ｰ"), "-")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Personal data in a text.

    Parameters
    ----------
    start, end : int
        ``text[start:end]`` is it.
    kind : str
        What it is (see :data:`PiiKind`).
    value : str
        It, in one spelling: digits without separators, small letters.
    """

    start: int
    end: int
    kind: PiiKind
    value: str


def find_pii(text: str, kinds: Iterable[PiiKind] | None = None) -> list[Span]:
    """Find personal data by rules.

    Full-width letters and digits and all kinds of dashes are read as their plain forms. IBANs must
    have the length of their country and be 1 modulo 97 (ISO 7064), card numbers satisfy Luhn's
    check (ISO/IEC 7812), My Numbers their check digit: of other numbers of the same shape, 1 of 97,
    1 of 10 and 1 of about 10 pass by chance and are taken as well. A version such as ``1.2.3.4`` is
    taken for an address.

    Parameters
    ----------
    text : str
        Any text.
    kinds : iterable of str, optional
        What to look for; by default all but ``date``.

    Returns
    -------
    list of Span
        In the order of the text; none overlaps another.

    Raises
    ------
    UsageError
        If a kind is unknown.

    References
    ----------
    Ministry of Internal Affairs and Communications (Japan), Ordinance No. 85 of 2014, art. 5: the
    check digit of a My Number.
    """
    wanted = _checked(kinds)
    plain = _plain(text)
    taken = bytearray(len(text))
    spans: list[Span] = []
    for kind in get_args(PiiKind):
        for span in _FINDERS[kind](plain) if kind in wanted else ():
            if not any(taken[span.start : span.end]):
                taken[span.start : span.end] = b"\1" * (span.end - span.start)
                spans.append(span)
    return sorted(spans)


def _checked(kinds: Iterable[PiiKind] | None) -> frozenset[str]:
    known: tuple[str, ...] = get_args(PiiKind)
    if kinds is None:
        return frozenset(known) - {"date"}
    wanted = frozenset(kinds)
    for kind in sorted(wanted - set(known)):
        raise UsageError(f"unknown kind of personal data {kind!r}{suggestion(kind, known)}")
    return wanted


def _plain(text: str) -> str:
    """Give the text in plain forms, every character in its place."""
    folded = (unicodedata.normalize("NFKC", c) for c in text)
    return "".join(f if len(f) == 1 else c for f, c in zip(folded, text, strict=True)).translate(
        _DASHES
    )


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _urls(text: str) -> list[Span]:
    found = []
    for match in _URL.finditer(text):
        url = match[0].rstrip(".,;:!?]}")
        while url.endswith(")") and url.count(")") > url.count("("):
            url = url[:-1].rstrip(".,;:!?]}")
        found.append(Span(match.start(), match.start() + len(url), "url", url))
    return found


def _emails(text: str) -> list[Span]:
    return [Span(*m.span(), "email", m[0].lower()) for m in _EMAIL.finditer(text)]


def _ibans(text: str) -> list[Span]:
    found = []
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[1][:2].upper(), 0)
        # The words that follow may look like more of it: only the country's length counts.
        places = [k for k, c in enumerate(match[1]) if c.isalnum()]
        if not 0 < length <= len(places):
            continue
        end = places[length - 1] + 1
        value = re.sub(r"[ -]", "", match[1][:end]).upper()
        after = text[match.start() + end : match.start() + end + 1]
        if iban_is_valid(value) and not after.isalnum():
            found.append(Span(match.start(), match.start() + end, "iban", value))
    return found


def _cards(text: str) -> list[Span]:
    found = (Span(*m.span(), "card", _digits(m[0])) for m in _CARD.finditer(text))
    return [span for span in found if luhn_is_valid(span.value)]


def _my_numbers(text: str) -> list[Span]:
    found = (Span(*m.span(), "my_number", _digits(m[0])) for m in _MY_NUMBER.finditer(text))
    return [span for span in found if my_number_is_valid(span.value)]


def _ips(text: str) -> list[Span]:
    found = []
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            address = match[0].rstrip(":") if match[0].count(":") > 1 else match[0]
            address = match[0] if match[0].endswith("::") else address
            if pattern is _IPV6 and (address.count(":") < 2 or len(address) < 4):
                continue
            try:
                value = str(ipaddress.ip_address(address))
            except ValueError:
                continue
            found.append(Span(match.start(), match.start() + len(address), "ip", value))
    return found


def _dates(text: str) -> list[Span]:
    found = []
    for match in _DATE.finditer(text):
        day = _date_of(match)
        if day is not None:
            found.append(Span(*match.span(), "date", day.isoformat()))
    return found


def _date_of(match: re.Match[str]) -> date | None:
    part = {name: value for name, value in match.groupdict().items() if value is not None}
    year = next(value for name, value in part.items() if name[0] == "y")
    number = 1 if year == "元" else int(year)
    number += _ERAS.get(part.get("era", ""), 0)
    month, day = (next(int(v) for n, v in part.items() if n[0] == c) for c in "md")
    try:
        return date(number, month, day)
    except ValueError:
        return None


def _phones(text: str) -> list[Span]:
    found = []
    for match in _PHONE.finditer(text):
        start = match.start() + (match[0].startswith("(") and ")" not in match[0])
        digits = _digits(match[0])
        if len(digits) in _PHONE_DIGITS:
            plus = "+" if match[0].startswith("+") else ""
            found.append(Span(start, match.end(), "phone", plus + digits))
    return found


_FINDERS: dict[PiiKind, Callable[[str], list[Span]]] = {
    "url": _urls,
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "my_number": _my_numbers,
    "ip": _ips,
    "date": _dates,
    "phone": _phones,
}


def iban_is_valid(value: str) -> bool:
    """Tell whether letters and digits are 1 modulo 97, the first four put last (ISO 13616).

    Check digits are 98 less a remainder: 00, 01 and 99 are none, though 97, 98 and 02 are as good.
    """
    moved = value[4:] + value[:4]
    return 2 <= int(value[2:4]) <= 98 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def luhn_is_valid(digits: str) -> bool:
    """Tell whether digits satisfy Luhn's check: every second doubled, the sum a multiple of 10."""
    return _luhn_sum(digits) % 10 == 0


def _luhn_sum(digits: str) -> int:
    total = 0
    for k, c in enumerate(reversed(digits)):
        value = int(c) * (1 + k % 2)
        total += value - 9 * (value > 9)
    return total


def my_number_check(first11: str) -> int:
    """Give the check digit of a My Number's first eleven digits."""
    total = sum(
        int(c) * (n + 1 if n <= 6 else n - 5) for n, c in enumerate(reversed(first11), start=1)
    )
    return 0 if total % 11 <= 1 else 11 - total % 11


def my_number_is_valid(digits: str) -> bool:
    """Tell whether the last of twelve digits is the check digit of the others."""
    return len(digits) == 12 and my_number_check(digits[:11]) == int(digits[11])


@register
class ReplacePII:
    """Replace personal data in a text by surrogates of the same shape.

    The same value has the same surrogate in all texts, as long as the key is the same (HMAC-SHA256
    of kind and value): who has the key can test a guess, who has not cannot. Surrogates are values
    that nobody has: names under example.com (RFC 2606), addresses for tests and documents (RFC
    2544, 3849), IBANs, card and My Numbers with a wrong check digit, telephone numbers that start
    with 000 or +999. Dates are all moved by the same number of days.

    The key is 16 bytes or more in ``EVALSUITE_PRIVACY_KEY``, or given to :meth:`with_key`; it is in
    no recipe and no record. Without the key, a record cannot be replayed.

    Parameters
    ----------
    kinds : list of str, optional
        What to replace (see :data:`PiiKind`); by default all but ``date``.

    Raises
    ------
    UsageError
        If a kind is unknown.
    """

    name: ClassVar[str] = "replace_pii"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.TEXT

    def __init__(self, kinds: list[PiiKind] | None = None) -> None:
        wanted = _checked(kinds)
        self.kinds: list[PiiKind] = [kind for kind in get_args(PiiKind) if kind in wanted]
        self._key: bytes | None = None

    @property
    def params(self) -> Params:
        """The kinds."""
        return {"kinds": self.kinds}

    def with_key(self, key: bytes) -> ReplacePII:
        """Give the same with a key of its own.

        Raises
        ------
        UsageError
            If it is shorter than 16 bytes.
        """
        bound = copy(self)
        bound._key = long_enough(key)
        return bound

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Draw nothing."""
        return {}

    def apply(self, value: str, params: Params) -> str:  # noqa: ARG002 - the protocol's
        """Replace what is found.

        Raises
        ------
        UsageError
            If there is no key.
        """
        key = self._key if self._key is not None else key_of_environment()
        parts, last = [], 0
        for span in find_pii(value, self.kinds):
            parts += [value[last : span.start], _surrogate(span, value[span.start : span.end], key)]
            last = span.end
        return "".join([*parts, value[last:]])


def key_of_environment() -> bytes:
    """Give the key of surrogates.

    Raises
    ------
    UsageError
        If there is none, or it is too short.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise UsageError(
            f"surrogates need a key: set {KEY_VARIABLE}, for example to what `python -c 'import "
            "secrets; print(secrets.token_hex(32))'` prints, and keep it secret"
        )
    return long_enough(key.encode())


def long_enough(key: bytes) -> bytes:
    """Give the key, if it cannot be found by trying.

    Raises
    ------
    UsageError
        If it is shorter than 16 bytes.
    """
    if len(key) < _MIN_KEY:
        raise UsageError(f"the key has {len(key)} bytes: {_MIN_KEY} or more are needed")
    return key


class Stream:
    """Keyed numbers that belong to one value."""

    def __init__(self, key: bytes, kind: str, value: str) -> None:
        self._rest = int.from_bytes(
            hmac.new(key, f"{kind}\n{value}".encode(), sha256).digest(), "big"
        )

    def below(self, n: int) -> int:
        """Give a number below n."""
        # 256 bits are enough for what is drawn here: 34 digits take 113.
        self._rest, value = divmod(self._rest, n)
        return value

    def digits(self, n: int) -> str:
        """Give n digits."""
        return "".join(str(self.below(10)) for _ in range(n))

    def word(self) -> str:
        """Give ten letters and digits."""
        return f"{self.below(2**40):010x}"


def _surrogate(span: Span, shown: str, key: bytes) -> str:
    stream = Stream(key, span.kind, span.value)
    digits = _digits(_plain(shown))
    match span.kind:
        case "email":
            return f"user-{stream.word()}@example.com"
        case "url":
            return f"https://example.com/{stream.word()}"
        case "ip" if ":" in span.value:
            return f"2001:db8::{stream.below(2**16):x}:{stream.below(2**16):x}"
        case "ip":
            return str(ipaddress.IPv4Address("198.18.0.0") + stream.below(2**17))
        case "iban":
            # No IBAN has the check digits 00.
            return _into(shown, f"{span.value[:2]}00{stream.digits(len(span.value) - 4)}")
        case "card":
            body = digits[0] + stream.digits(len(digits) - 2)
            right = -_luhn_sum(body + "0") % 10
            return _into(shown, f"{body}{(right + 1 + stream.below(9)) % 10}")
        case "my_number":
            body = stream.digits(11)
            right = my_number_check(body)
            return _into(shown, f"{body}{(right + 1 + stream.below(9)) % 10}")
        case "phone":
            start = "999" if span.value.startswith("+") else "000"
            return _into(shown, start + stream.digits(len(digits) - 3))
        case "date":
            return _moved(shown, Stream(key, "days", ""))


def _into(shown: str, characters: str | Sequence[str]) -> str:
    """Put characters where the letters and digits of a value were; what separates them stays."""
    rest = iter(characters)
    return "".join(next(rest) if c.isalnum() else c for c in shown)


def _moved(shown: str, stream: Stream) -> str:
    """Move a date; the same number of days for all, so that the time between two stays."""
    match = _DATE.match(_plain(shown) + "日")  # where 日 ends it, it is not part of it
    if match is None or (day := _date_of(match)) is None:
        raise AssertionError(f"not a date: {shown!r}")  # pragma: no cover
    days = (1 + stream.below(180)) * (1 - 2 * stream.below(2))
    new = day + timedelta(days)
    pieces = list(shown)
    for name in sorted(
        (n for n, v in match.groupdict().items() if v), key=match.start, reverse=True
    ):
        old = match[name]
        if name[0] == "y" and match["era"]:
            number = new.year - _ERAS[match["era"]]
            text = str(max(number, 1))
        elif name[0] in "ymd":
            number = {"y": new.year, "m": new.month, "d": new.day}[name[0]]
            text = str(number).zfill(len(old))
        else:
            continue
        pieces[match.start(name) : match.end(name)] = text
    return "".join(pieces)
