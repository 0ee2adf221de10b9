"""Promised against delivered, and what the data say of their licence and origin."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.dataset import BadSample, Limits
from ..data.files import member, open_file, read_file
from ..data.images import sample_hash
from ..gate.audit import EXAMPLES, Check, Claims, Example, Limit, Place
from ..gate.findings import Status
from .audit_book import Book, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..data import Dataset, Sample
    from ..data.remote import RemotePath
    from ..gate.findings import DatasetSummary
    from .audit_media import Medium

CROISSANT = "croissant.json"
SHOWN_FIELDS = (
    "name", "description", "license", "creator", "citeAs", "url", "version", "datePublished",
    "prov:wasDerivedFrom", "prov:wasGeneratedBy", "prov:wasAttributedTo", "rai:dataCollection",
)  # fmt: skip
_LANGUAGE_CHARS = 300


# ---- provenance --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Croissant:
    """``croissant.json`` beside the data, read by its names alone: nothing is fetched."""

    fields: Mapping[str, Any] | None
    problem: str = ""
    root: Path | RemotePath | None = None

    @classmethod
    def read(cls, data: Dataset) -> Croissant:
        """Read it; in memory there is none."""
        if data.root is None:
            return cls(None)
        try:
            plain = json.loads(read_file(member(data.root, CROISSANT), Limits()))
        except BadSample as bad:
            return cls(None, "" if bad.kind == "missing" else str(bad), data.root)
        except (ValueError, RecursionError) as error:
            return cls(None, " ".join(str(error).split())[:200], data.root)
        if not isinstance(plain, dict):
            return cls(None, f"it holds a {type(plain).__name__}, not an object", data.root)
        return cls({_short(str(key)): value for key, value in plain.items()}, "", data.root)

    def text(self, name: str) -> str:
        """Give a field as text; ``prov`` stands for any of PROV's."""
        fields = self.fields or {}
        if name == "prov":
            return next(
                (t for key in fields if key.startswith("prov:") and (t := self.text(key))), ""
            )
        return _as_words(fields.get(name))

    def shown(self) -> dict[str, str]:
        """Give the fields that people ask for."""
        return {name: text for name in SHOWN_FIELDS if (text := self.text(name))}


def _short(key: str) -> str:
    """Give a key without the prefixes and addresses of schema.org and Croissant."""
    for prefix in ("https://schema.org/", "http://schema.org/", "http://mlcommons.org/croissant/"):
        key = key.removeprefix(prefix)
    key = key.replace("http://www.w3.org/ns/prov#", "prov:")
    return key.removeprefix("sc:").removeprefix("cr:")


def _as_words(value: Any, depth: int = 0) -> str:
    """Give a value of JSON-LD as a line of text."""
    if value is None or depth > 4:
        return ""
    if isinstance(value, list):
        return ", ".join(t for v in value[:10] if (t := _as_words(v, depth + 1)))[:500]
    if isinstance(value, dict):
        for key in ("name", "sc:name", "@value", "url", "@id", "identifier"):
            if text := _as_words(value.get(key), depth + 1):
                return text
        return _as_words(list(value.values()), depth + 1)
    return str(value).strip()[:500]


def check_provenance(book: Book, croissant: Croissant) -> None:
    """Check that the fields which are due are there, and that the files are the described ones."""
    bad = Status.FAIL if book.limits.missing_fields == "fail" else Status.WARN
    where = Place(uri=CROISSANT)
    if croissant.fields is None:
        message = (
            say("croissant_broken", detail=croissant.problem)
            if croissant.problem
            else say("croissant_missing")
        )
        examples = (
            (Example(sample=CROISSANT, place=where, message=message),) if croissant.problem else ()
        )
        book.checks.append(
            Check(
                id="provenance", area="provenance", status=bad, message=message, examples=examples
            )
        )
        return
    due = book.limits.required_fields
    missing = [name for name in due if not croissant.text(name)]
    book.checks.append(
        Check(
            id="provenance",
            area="provenance",
            status=bad if missing else Status.PASS,
            message=say("fields_missing", fields=", ".join(missing), count=len(missing))
            if missing
            else say("fields_there", fields=", ".join(due)),
            examples=tuple(
                Example(sample=CROISSANT, place=where, message=say("field_missing", field=name))
                for name in missing
            ),
            details={"missing": missing},
        )
    )
    _checksums(book, croissant)


def _checksums(book: Book, croissant: Croissant) -> None:
    """Compare the files of the set with the sha256 that the description states."""
    fields, root = croissant.fields or {}, croissant.root
    listed = fields.get("distribution")
    if not isinstance(listed, list) or root is None:
        return
    examples, of = [], 0
    for entry in listed:
        if not isinstance(entry, dict):
            continue
        plain = {_short(str(key)): value for key, value in entry.items()}
        url, stated = plain.get("contentUrl"), plain.get("sha256")
        if not isinstance(url, str) or not isinstance(stated, str) or "://" in url:
            continue
        of += 1
        try:
            with open_file(member(root, url)) as file:
                same = sample_hash(file) == stated.strip().lower()
            message = None if same else say("checksum_differs", file=url)
        except BadSample as bad:
            message = say("checksum_unread", file=url, detail=bad.detail)
        if message is not None:
            examples.append(Example(sample=url, place=Place(uri=CROISSANT), message=message))
    if of:
        book.share("checksums", "provenance", Limit(warn=0.0, fail=0.0), examples, of)


# ---- claims ------------------------------------------------------------------------------------


def check_claims(
    book: Book,
    claims: Claims,
    media: Mapping[str, list[Medium]],
    summary: DatasetSummary,
    croissant: Croissant,
) -> None:
    """Check each promise by itself."""

    def keep(
        name: str, ok: bool, promised: str, delivered: str, examples: Sequence[Example] = (),
        *, status: Status = Status.FAIL, **more: Any,
    ) -> None:  # fmt: skip
        book.checks.append(
            Check(
                id=f"claim_{name}",
                area="claims",
                status=Status.PASS if ok else status,
                message=say("claim_kept" if ok else "claim_broken", promised=promised,
                            delivered=delivered),
                examples=tuple(examples[:EXAMPLES]),
                **more,
            )
        )  # fmt: skip

    def each(
        name: str, promised: str, modality: str, broken: Callable[[Medium], str | None]
    ) -> None:
        """Check a claim on every file."""
        held = [
            (s, m) for s, some in media.items() for m in some if modality in ("any", m.modality)
        ]
        if not held:
            book.skip(f"claim_{name}", "claims", "no_such_files")
            return
        bad = [(s, text) for s, m in held if (text := broken(m)) is not None]
        examples = [
            book.example(s, say("claim_sample", promised=promised, delivered=text))
            for s, text in bad
        ]
        counted = Counter(text for _, text in bad).most_common(4)
        delivered = ", ".join(f"{text} ×{n}" for text, n in counted) if bad else promised
        keep(name, not bad, promised, delivered, examples, count=len(bad), of=len(held))

    if claims.samples is not None:
        low, high = claims.samples.min, claims.samples.max
        wanted = f"{low}" if low == high else f"{low}–{'' if high is None else high}"
        keep("samples", claims.samples.holds(summary.n_used), wanted, f"{summary.n_used}")
    if claims.classes is not None:
        _class_claims(claims, summary, keep)
    if claims.modalities is not None:
        there = book.data.modalities
        lacking = set(claims.modalities) - set(there)
        keep(
            "modalities",
            set(claims.modalities) == set(there),
            ", ".join(claims.modalities),
            ", ".join(there),
            status=Status.FAIL if lacking else Status.WARN,
        )
    if (rates := claims.sample_rate) is not None:
        each("sample_rate", ", ".join(f"{r} Hz" for r in rates), "audio",
             lambda m: None if m.rate in rates else f"{m.rate} Hz")  # fmt: skip
    for name in ("min_resolution", "max_resolution"):
        bound = getattr(claims, name)
        if bound is not None:
            sign = 1 if name == "min_resolution" else -1
            each(name, f"{bound[0]}×{bound[1]}", "image",
                 partial(_outside, bound=bound, sign=sign))  # fmt: skip
    if claims.formats is not None:
        allowed = {f.upper().removeprefix(".").replace("JPG", "JPEG") for f in claims.formats}
        each("formats", ", ".join(claims.formats), "any",
             lambda m: None if m.format in allowed else m.format)  # fmt: skip
    if claims.languages is not None:
        _language_claim(book, claims.languages)
    if claims.licence is not None:
        stated = croissant.text("license")
        keep("licence", _same_licence(claims.licence, stated), claims.licence, stated or "–")


def _outside(medium: Medium, bound: tuple[int, int], sign: int) -> str | None:
    if medium.size is None:
        return None  # no header: it is counted among the unreadable
    low = any(sign * have < sign * want for have, want in zip(medium.size, bound, strict=True))
    return f"{medium.size[0]}×{medium.size[1]}" if low else None


def _class_claims(claims: Claims, summary: DatasetSummary, keep: Callable[..., None]) -> None:
    have = summary.labels
    total = sum(have.values())
    table = {}
    for name in claims.classes or {}:
        low, high = claims.class_bounds(name, total)
        count = have.get(name, 0)
        table[name] = {"min": low, "max": high, "delivered": count, "ok": low <= count <= high}
    for name in have.keys() - table.keys():
        table[name] = {"min": 0, "max": 0, "delivered": have[name], "ok": False}
    bad = sorted(name for name, row in table.items() if not row["ok"])

    def bounds(row: Mapping[str, Any]) -> str:
        return f"{row['min']}" if row["min"] == row["max"] else f"{row['min']}–{row['max']}"

    shown = bad[:8] or sorted(table)[:8]
    keep(
        "classes",
        not bad,
        ", ".join(f"{name} {bounds(table[name])}" for name in shown),
        ", ".join(f"{name} {table[name]['delivered']}" for name in shown),
        count=len(bad),
        of=len(table),
        details={"classes": table},
    )


def _language_claim(book: Book, wanted: Sequence[str]) -> None:
    from ..metrics.text.words import guess_language

    texts: list[tuple[Sample, str]] = []
    for sample in book.data.samples:
        code = (sample.lang or "").lower().replace("_", "-").split("-")[0]
        if not code and sample.text:
            code = guess_language(sample.text[:_LANGUAGE_CHARS])
        if code and code != "none":
            texts.append((sample, code))
    if not texts:
        book.skip("claim_languages", "claims", "no_such_files")
        return
    promised = ", ".join(wanted)
    other = [(s, code) for s, code in texts if code not in {w.lower() for w in wanted}]
    book.share(
        "claim_languages",
        "claims",
        book.limits.other_languages,
        [
            book.example(s.id, say("claim_sample", promised=promised, delivered=code))
            for s, code in other
        ],
        len(texts),
        details={"languages": dict(Counter(code for _, code in texts).most_common(20))},
    )


def _same_licence(claimed: str, stated: str) -> bool:
    """Whether a stated licence is the claimed one: its SPDX id, or an address that ends in it."""

    def plain(text: str) -> str:
        return text.strip().lower().rstrip("/").removesuffix(".html").removesuffix(".txt")

    a, b = plain(claimed), plain(stated)
    return bool(b) and (a == b or b.rpartition("/")[2] == a or a.rpartition("/")[2] == b)
