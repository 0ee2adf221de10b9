"""Selection within a correction: which samples stay, and what chose them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .consistent import DROPPED, inconsistent
from .looks import GRADE
from .result import said

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..data import Dataset, Sample
    from ..encoders import Encoded
    from ..gate.findings import Message
    from .looks import Looks

SELECTIONS = (
    "consistency",
    "density_ratio",
    "dsir",
    "herding",
    "kliep",
    "label_agreement",
    "match_lengths",
    "on_manifold",
    "quality",
    "transport",
    "ulsif",
)
"""What can be named beside the corrections: these keep some samples and change none."""

_CHOOSES_BY = {"match_lengths": ("characters", "words", "sentences")}


def selections_for(attribute: str) -> tuple[str, ...]:
    """Name the selections that move an attribute by what they keep."""
    return tuple(name for name, moved in _CHOOSES_BY.items() if attribute in moved)


def provenance(
    made: Dataset, selections: Sequence[tuple[str, tuple[Message, ...]]]
) -> Callable[[Sample], dict[str, Any]]:
    """Give the columns of a selected sample: those that it has, and what selected it."""
    stored: dict[str, dict[str, Any]] = {}
    # The sets of a correction are copies in folders of this machine.
    metadata = made.root / "metadata.jsonl" if isinstance(made.root, Path) else None
    if metadata is not None and metadata.is_file():
        for line in metadata.read_text("utf-8").splitlines():
            row = json.loads(line)
            stored[str(row.get("id"))] = row
    chosen_by = [name for name, _ in selections]

    def columns(sample: Sample) -> dict[str, Any]:
        row = stored.get(sample.id, {})
        kept = {k: v for k, v in row.items() if k not in {"file_name", "audio_file_name"}}
        return {"parents": [sample.id], "synthetic": True, **kept, "selected_by": chosen_by}

    return columns


def select(
    name: str,
    calibration: Encoded,
    whole: Encoded,
    data: tuple[Dataset, Dataset],
    rows: Sequence[int],
    looks: Looks,
    keep: float,
    seed: int,
) -> tuple[list[int], tuple[Message, ...]]:
    """Select among ``rows``; give those that are left, and say what was done.

    ``data`` is what ``calibration`` and ``whole`` were encoded from.
    """
    from ..generators.selection import ratio, subset

    a = calibration.features[looks.own[0]]
    b = whole.features[looks.own[0]][list(rows)]
    n = max(1, round(keep * len(rows)))
    what: tuple[Message, ...] = ()
    if name in {"density_ratio", "ulsif", "kliep"}:
        method: Any = "classifier" if name == "density_ratio" else name
        found = ratio.density_ratio(a, b, method=method, seed=seed)
        picked = ratio.keep_by_weight(found, seed=seed)
        what = (said("select_effective", effective=found.effective_sample_size, n=len(b)),)
    elif name == "herding":
        picked = sorted(subset.herding(a, b, n))
    elif name == "transport":
        picked = subset.transport_subset(a, b, n)
    elif name == "on_manifold":
        picked = subset.on_manifold(a, b)
    elif name == "quality":
        real, made = (looks.grades(*of) for of in zip(data, (calibration, whole), strict=True))
        picked = subset.within_real_scores(real, [made[i] for i in rows], share=DROPPED)
        what = (said("select_quality", grade=GRADE, share=DROPPED),)
    elif name == "consistency":
        out, what = inconsistent(data, calibration, whole, rows, looks)
        picked = [i for i, row in enumerate(rows) if row not in out]
    elif name == "label_agreement":
        labels = [[s.label for s in part.samples] for part in (calibration, whole)]
        chosen = [labels[1][i] for i in rows]
        if any(label is None for part in (labels[0], chosen) for label in part):
            raise DataError("label_agreement needs a label for every sample of both sets")
        agreed = subset.label_agreement(a, labels[0], b, chosen, seed=seed)
        picked = [i for i, ok in enumerate(agreed.keep) if ok]
        what = (
            said(
                "select_labels",
                dropped=1 - agreed.real_agreement,
                of_class=1 - agreed.real_recall.mean,
            ),
        )
    else:
        from ..generators.selection.text import dsir, match_lengths

        texts = [[s.text for s in part.samples] for part in (calibration, whole)]
        real_texts = [t for t in texts[0] if t is not None]
        own = [texts[1][i] or "" for i in rows]
        if not real_texts or not any(own):
            raise DataError(f"{name} needs texts in both sets")
        if name == "match_lengths":
            picked = match_lengths(real_texts, own, n)
        else:
            drawn = dsir(real_texts, own, n, seed=seed)
            picked = list(drawn.rows)
            what = (
                said("select_effective", effective=drawn.effective_sample_size, n=len(own)),
                said("select_ngrams", before=drawn.kl_before, after=drawn.kl_after),
            )
            if drawn.effective_sample_size < ratio.FEWEST:
                what += (said("select_few"),)
    if not picked:
        raise DataError(f"{name} kept none of {len(rows)} samples: correct the set first")
    return [rows[i] for i in picked], (
        *what,
        said("select_kept", kept=len(picked), n=len(rows)),
    )
