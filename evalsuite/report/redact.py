"""A result without anything private: for people who may see the verdict but not the data."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from .i18n import Translator, catalogue
from .text import number

if TYPE_CHECKING:
    from ..gate.comparison import Comparison
    from ..gate.findings import GateResult, Message, Waived

HIDDEN = "redacted"
_CURVE = {"added", "score", "gain", "low", "high"}
"""What a point of a learning curve is made of."""
_PLAIN = re.compile(r"-{1,2}[A-Za-z][\w-]*|-?\d+(\.\d+)?")


def redact_result(result: GateResult) -> GateResult:
    """Leave out sample names, group names, paths, and all text that came from the data.

    Kept are numbers, metric, encoder and attribute names, and class names where a label or a slice
    says what a number is about. Samples keep an ordinal, so that the map and the galleries still
    point at one another.

    Parameters
    ----------
    result : GateResult
        The full result.

    Returns
    -------
    GateResult
        The same findings and the same verdict.
    """
    names: dict[tuple[str, str], str] = {}
    groups: dict[str, str] = {}

    def sample(side: str | None, name: str | None) -> str | None:
        if side is None or name is None:
            return None
        return names.setdefault((side, name), f"{side}-{len(names) + 1}")

    maps = tuple(
        m.model_copy(
            update={
                "points": tuple(
                    p.model_copy(
                        update={
                            "sample": sample(p.side, p.sample),
                            "group": p.group
                            and groups.setdefault(p.group, f"group-{len(groups) + 1}"),
                            "text": None,
                        }
                    )
                    for p in m.points
                )
            }
        )
        for m in result.maps
    )
    galleries = tuple(
        g.model_copy(
            update={
                "items": tuple(
                    i.model_copy(
                        update={
                            "sample": sample(i.side, i.sample),
                            "partner": sample(i.partner_side, i.partner),
                            "score_text": number(i.score),
                            "text": None,
                            "partner_text": None,
                            "alignment": (),
                        }
                    )
                    for i in g.items
                )
            }
        )
        for g in result.galleries
    )
    known = _vocabulary(result)
    return result.model_copy(
        update={
            "reasons": tuple(
                r.model_copy(
                    update={"message": _message(r.message, known), "waiver": _waiver(r.waiver)}
                )
                for r in result.reasons
            ),
            "explanations": tuple(_message(m, known) for m in result.explanations),
            "findings": tuple(
                f.model_copy(
                    update={
                        "message": f.message and _message(f.message, known),
                        "waiver": _waiver(f.waiver),
                        "details": _numbers_only(f.details),
                    }
                )
                for f in result.findings
            ),
            "real": _dataset(result.real),
            "synthetic": _dataset(result.synthetic),
            "encoders": tuple(
                e.model_copy(update={"weights_source": _no_path(e.weights_source)})
                for e in result.encoders
            ),
            "maps": maps,
            "galleries": galleries,
            "command": _command(result.command),
        }
    )


def redact_comparison(comparison: Comparison, *, names: bool = True) -> Comparison:
    """Leave the data sets' names, paths and the names of samples out of a comparison.

    Parameters
    ----------
    comparison : Comparison
    names : bool
        Whether to replace the candidates' names, by default those of their folders, by numbers in
        the order of the leaderboard.

    Returns
    -------
    Comparison
    """
    called = {
        c.name: f"candidate {k}" if names else c.name
        for k, c in enumerate(comparison.candidates, 1)
    }
    return comparison.model_copy(
        update={
            "real": _dataset(comparison.real),
            "candidates": tuple(
                c.model_copy(update={"name": called[c.name], "data": _dataset(c.data)})
                for c in comparison.candidates
            ),
            "columns": tuple(
                c.model_copy(update={"scores": {called[n]: s for n, s in c.scores.items()}})
                for c in comparison.columns
            ),
            "command": _command(comparison.command),
        }
    )


def _vocabulary(result: GateResult) -> frozenset[str]:
    """Strings that a message may go on using: they name what was measured, not who is in it."""
    known = {"real", "synthetic", "holdout", "all", *result.real.notes, *result.synthetic.notes}
    for f in result.findings:
        known.update((f.metric, f.modality, f.slice, f.encoder or "", f.unit, f.gap_unit))
    known.update(result.attributes)
    return frozenset(known)


def _message(message: Message, known: frozenset[str]) -> Message:
    params = {
        key: HIDDEN
        # Where a gap lies is said by a list: modality, encoder, slice.
        if isinstance(value, str) and value not in known and not known.issuperset(value.split(", "))
        else value
        for key, value in message.params.items()
    }
    kept = message.model_copy(update={"params": params, "text": HIDDEN})
    if f"message.{message.id}" in catalogue("en"):
        return kept.model_copy(update={"text": Translator("en").message(kept)})
    return kept


def _waiver(waiver: Waived | None) -> Waived | None:
    """Keep that there is one, and until when: its words and its owner are not for everybody."""
    return waiver and waiver.model_copy(update={"reason": HIDDEN, "owner": HIDDEN})


def _dataset(data: Any) -> Any:
    return data.model_copy(
        update={
            "name": data.role,
            "problem_examples": tuple(
                p.model_copy(update={"sample": HIDDEN, "detail": HIDDEN})
                for p in data.problem_examples
            ),
        }
    )


def _numbers_only(details: dict[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> bool:
        if isinstance(value, list | tuple):
            return all(plain(v) for v in value)
        if isinstance(value, dict):  # a key may come from the data as well
            return value.keys() <= _CURVE and all(plain(v) for v in value.values())
        return value is None or isinstance(value, bool | int | float)

    return {key: value for key, value in details.items() if plain(value)}


def _no_path(text: str) -> str:
    return HIDDEN if "/" in text or "\\" in text else text


def _command(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:
        return HIDDEN
    if words[:1] != ["evalsuite"]:
        return HIDDEN
    return " ".join(
        word if i < 2 or _PLAIN.fullmatch(word) else "…" for i, word in enumerate(words)
    )
