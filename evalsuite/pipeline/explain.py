"""What stands behind a gap: attributes that drifted, the map, the samples worth looking at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from ..errors import ModelError, UsageError
from ..gate.findings import (
    DatasetSummary,
    EmbeddingMap,
    Finding,
    Gallery,
    GalleryItem,
    Interval,
    MapPoint,
    Message,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ..encoders import Encoded
    from ..gate.policy import Policy
    from .calibrate import Measured
    from .plan import Part

Layout: TypeAlias = Literal["pca", "umap"]
"""How a map puts samples in a plane."""
MAP_POINTS = 1000
UMAP_NEIGHBOURS = 15
GALLERY_ITEMS = 24
GALLERY_TEXT = 400
MAP_TEXT = 160
ATTRIBUTE_VALUES = 1000
MOST_NOTES = 3
NOTABLE_EFFECT = 0.2
"""An attribute's drift is worth a sentence from a fifth of the real standard deviation on."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Drift of every readable property: the part of a gap that a person can name."""

    findings: tuple[Finding, ...]
    values: dict[str, dict[str, tuple[float, ...]]]
    """Attribute to side to at most 1,000 values, for the overlays."""

    def to_bytes(self) -> bytes:
        """All of it as JSON."""
        found = [f.model_dump(mode="json") for f in self.findings]
        return json.dumps({"findings": found, "values": self.values}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Drift:
        """Read what :meth:`to_bytes` wrote."""
        stored = json.loads(data)
        return cls(
            findings=tuple(Finding.model_validate(f) for f in stored["findings"]),
            values={
                name: {side: tuple(values) for side, values in sides.items()}
                for name, sides in stored["values"].items()
            },
        )


def drifted_attributes(
    left: Encoded,
    right: Mapping[str, npt.NDArray[np.float64]],
    groups: tuple[Sequence[str] | None, Sequence[str] | None],
    policy: Policy,
) -> Drift:
    """Compare every readable property that ``right`` has with the real set's."""
    from ..metrics.drift.multiplicity import adjust_pvalues
    from ..metrics.drift.univariate import numeric_drift

    found: list[Finding] = []
    overlays: dict[str, dict[str, tuple[float, ...]]] = {}
    rng = np.random.default_rng(policy.seed)
    for name, values in left.attributes.items():
        if name not in right:
            continue
        other = right[name]
        a, b = values[np.isfinite(values)], other[np.isfinite(other)]
        if min(a.size, b.size) < 2:
            continue
        drift = numeric_drift(
            a,
            b,
            groups_real=_where(groups[0], values),
            groups_synthetic=_where(groups[1], other),
            level=policy.calibration.confidence,
            seed=policy.seed,
        )
        known = left.described[name]
        ci = drift.mean_shift_ci
        value = float(b.mean() - a.mean())
        sd = float(a.std(ddof=1))
        # In units of the spread, or of what is hardly worth a word where the spread is less.
        small = sd / known.step if known.step > sd > 0 else 1.0
        found.append(
            Finding(
                kind="attribute",
                modality=left.modality,
                metric=name,
                value=value,
                unit=known.unit,
                n_real=int(a.size),
                n_synthetic=int(b.size),
                gap=drift.mean_shift * small,
                gap_ci=Interval(
                    low=ci.low * small, high=ci.high * small, level=ci.level, method=ci.method
                ),
                gap_unit=f"{'real' if drift.scale_of == 'real' else 'pooled'} standard deviations",
                p_value=drift.ks_p,
                p_method=f"Kolmogorov-Smirnov, {drift.ks_method}",
                details={
                    "real_mean": float(a.mean()),
                    "synthetic_mean": float(b.mean()),
                    "real_sd": sd,
                    "synthetic_sd": float(b.std(ddof=1)),
                    "ks": drift.ks,
                    # Beyond what chance alone gives at these sizes.
                    "effect": small * max(0.0, drift.wasserstein - (drift.wasserstein_null or 0.0)),
                    "wasserstein": drift.wasserstein,
                    "psi": drift.psi,
                    "psi_critical": drift.psi_critical,
                    "js": drift.js,
                    "scale_of": drift.scale_of,
                    "acts": known.acts,
                },
            )
        )
        overlays[name] = {
            side: tuple(float(v) for v in _some(x, ATTRIBUTE_VALUES, rng))
            for side, x in (("real", a), ("synthetic", b))
        }
    if not found:
        return Drift((), overlays)
    adjusted = adjust_pvalues([f.p_value or 0.0 for f in found], "bh")
    judged = tuple(
        f.model_copy(
            update={
                "p_adjusted": float(p),
                "detected": bool(p <= policy.alpha),
                "message": _attribute_message(f, bool(p <= policy.alpha)),
            }
        )
        for f, p in zip(found, adjusted, strict=True)
    )
    return Drift(judged, overlays)


def _where(groups: Sequence[str] | None, values: Any) -> list[str] | None:
    if groups is None:
        return None
    return [g for g, ok in zip(groups, np.isfinite(values), strict=True) if ok]


def _effect(finding: Finding) -> float:
    """How far an attribute moved or changed shape, in real standard deviations."""
    return float(finding.details["effect"])


def _number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 10_000 else f"{x:.4g}"


def _attribute_message(finding: Finding, detected: bool) -> Message:
    shift = finding.gap or 0.0
    params: dict[str, str | int | float | None] = {
        "attribute": finding.metric,
        "shift": shift,
        "effect": _effect(finding),
        "real_mean": finding.details["real_mean"],
        "synthetic_mean": finding.details["synthetic_mean"],
        "unit": finding.unit,
        "acts": finding.details["acts"],
    }
    if not detected or _effect(finding) < NOTABLE_EFFECT:
        return Message(
            id="attribute_alike",
            text=f"{finding.metric} is alike in both sets.",
            params=params,
        )
    unit = f" {finding.unit}" if finding.unit else ""
    if finding.details["scale_of"] != "real":  # real samples are all alike: there is no unit
        return Message(
            id="attribute_constant",
            text=f"{finding.metric} is {_number(finding.details['real_mean'])}{unit} in every real "
            f"sample, and {_number(finding.details['synthetic_mean'])}{unit} in the synthetic set "
            "on average.",
            params=params,
        )
    if abs(shift) < NOTABLE_EFFECT:
        return Message(
            id="attribute_shape",
            text=f"{finding.metric} is spread differently in the synthetic set "
            f"(by {_effect(finding):.2g} real standard deviations in all).",
            params=params,
        )
    way = "higher" if shift > 0 else "lower"
    return Message(
        id=f"attribute_{way}",
        text=f"{finding.metric} is {way} in the synthetic set, by {abs(shift):.2g} real standard "
        f"deviations ({_number(finding.details['real_mean'])} → "
        f"{_number(finding.details['synthetic_mean'])}{unit}).",
        params=params,
    )


def notable_drift(attributes: Sequence[Finding]) -> list[Finding]:
    """Give the attributes whose difference is worth a sentence, the largest effect first.

    Before all others come those that are the same in every real sample, such as the size of the
    pictures: no effect can be larger, though in units of the pooled spread it is never above 2.
    """
    found = [f for f in attributes if f.detected and _effect(f) >= NOTABLE_EFFECT]
    return sorted(found, key=lambda f: (f.details["scale_of"] == "real", -_effect(f), f.metric))


def explanations(attributes: Sequence[Finding]) -> tuple[Message, ...]:
    """Give the sentences on the attributes that differ, the largest effect first."""
    return tuple(f.message for f in notable_drift(attributes) if f.message is not None)


def noted_differences(
    real: DatasetSummary, synthetic: DatasetSummary, alpha: float
) -> tuple[Message, ...]:
    """Give the sentences on what decoding noted more often on one side: silent, grey, clipped.

    A drift of a tenth of the samples moves no distribution far enough for Kolmogorov-Smirnov.
    Fisher's exact test and Holm; the largest difference first, three at most.
    """
    from scipy.stats import fisher_exact

    from ..metrics.drift.multiplicity import adjust_pvalues

    names = sorted(set(real.notes) | set(synthetic.notes))
    if not names:
        return ()
    counts = [(real.notes.get(name, 0), synthetic.notes.get(name, 0)) for name in names]
    n, m = (max(side.n_used, *side.notes.values(), 1) for side in (real, synthetic))
    p = [float(fisher_exact([[a, n - a], [b, m - b]]).pvalue) for a, b in counts]
    found = [
        (name, a / n, b / m)
        for name, (a, b), q in zip(names, counts, adjust_pvalues(p, "holm"), strict=True)
        if q <= alpha
    ]
    found.sort(key=lambda row: (-abs(row[2] - row[1]), row[0]))
    return tuple(
        Message(
            id="noted",
            text=f"Noted on decoding as {name!r}: {after:.1%} of the synthetic samples, "
            f"{before:.1%} of the real ones.",
            params={"note": name, "real": before, "synthetic": after},
        )
        for name, before, after in found[:MOST_NOTES]
    )


def _some(x: Any, limit: int, rng: np.random.Generator) -> Any:
    return x if x.size <= limit else x[np.sort(rng.permutation(x.size)[:limit])]


def check_layout(layout: str) -> None:
    """Ask, before anything that takes long, whether a map can be laid out so.

    Raises
    ------
    UsageError
        If there is no such layout.
    ModelError
        If the library that it needs is not installed.
    """
    if layout not in get_args(Layout):
        raise UsageError(f"there is no map {layout!r}; there are {', '.join(get_args(Layout))}")
    if layout == "umap" and find_spec("umap") is None:
        raise ModelError("a map by UMAP needs the library: run `pip install 'evalsuite[umap]'`")


def _umap(rows: Any, seed: int) -> Any:
    """Lay out rows by UMAP, the same way whenever the seed is the same (so on one thread)."""
    import warnings

    from umap import UMAP

    from .calibrate import PERMUTED_COMPONENTS, principal_components

    scores = principal_components(rows.astype(np.float64), PERMUTED_COMPONENTS, seed)[0]
    with warnings.catch_warnings():
        # It says that a seed costs it its threads, which is what is wanted here.
        warnings.simplefilter("ignore", UserWarning)
        return UMAP(
            n_neighbors=min(UMAP_NEIGHBOURS, len(rows) - 1), random_state=seed % 2**32
        ).fit_transform(scores)


def embedding_map(
    encoder: str,
    left: Encoded,
    right: Encoded,
    measured: Measured,
    seed: int,
    layout: Layout = "pca",
) -> EmbeddingMap:
    """Give the map: at most 1,000 points a side, a random part where there are more.

    Parameters
    ----------
    encoder : str
        Whose features are laid out.
    left, right : Encoded
        Real and synthetic.
    measured : Measured
        Its coordinates are the principal components.
    seed : int
        Of the choice of points, and of UMAP.
    layout : {"pca", "umap"}
        UMAP keeps neighbours together and makes up the distances between groups; it sees the
        points of the map alone.
    """
    n = len(left.samples)
    rng = np.random.default_rng(seed)
    points: list[MapPoint] = []
    rows_shown: list[Any] = []
    for side, part, scores, flags, offset in (
        ("real", left, measured.scores_real, measured.covered, 0),
        ("synthetic", right, measured.scores_synthetic, measured.on_manifold, n),
    ):
        rows = np.flatnonzero(
            np.isfinite(measured.coordinates[offset : offset + len(part.samples), 0])
        )
        shown = _some(rows, MAP_POINTS, rng)
        rows_shown.append(part.features[encoder][shown])
        for i in shown:
            sample = part.samples[i]
            x, y = measured.coordinates[offset + i]
            score = scores[i]
            points.append(
                MapPoint(
                    side=side,  # type: ignore[arg-type]
                    sample=sample.id,
                    x=float(x),
                    y=float(y),
                    label=sample.label,
                    group=sample.group,
                    covered=bool(flags[i]),
                    score=float(score) if np.isfinite(score) else None,
                    text=shortened(sample.text, MAP_TEXT),
                )
            )
    if layout == "umap":
        plane = _umap(np.concatenate(rows_shown), seed)
        points = [
            point.model_copy(update={"x": float(x), "y": float(y)})
            for point, (x, y) in zip(points, plane, strict=True)
        ]
    return EmbeddingMap(
        encoder=encoder,
        method="UMAP" if layout == "umap" else "principal components of the pooled features",
        explained=None if layout == "umap" else measured.explained,
        points=tuple(points),
        shown_of=(n, len(right.samples)),
    )


def same_content(
    parts: Mapping[str, Part],
    real: Mapping[str, tuple[str, ...]],
    synthetic: Mapping[str, tuple[str, ...]],
) -> list[Gallery]:
    """Show synthetic samples that hold what a real one, or another synthetic one, holds.

    Copies of real samples first, then what is repeated most. Of several with one content one is
    shown, beside the real sample or beside the next of them.

    Parameters
    ----------
    parts : mapping
        Modality to both sets. The first that is not text is shown: texts alone have galleries of
        near copies, which hold the exact ones too.
    real, synthetic : mapping
        Sample id to its content: that which duplicates and exact copies are counted by.
    """
    modality = next((name for name in parts if name != "text"), None)
    if modality is None:
        return []
    # Of all modalities: a record may lack the one that is shown.
    samples = {
        "real": {s.id: s for part in parts.values() for s in part.left.samples},
        "synthetic": {s.id: s for part in parts.values() for s in part.right.samples},
    }
    original: dict[tuple[str, ...], str] = {}
    for name, content in real.items():
        original.setdefault(content, name)
    holders: dict[tuple[str, ...], list[str]] = {}
    for name, content in synthetic.items():
        holders.setdefault(content, []).append(name)
    found = [(c, who) for c, who in holders.items() if c in original or len(who) > 1]
    found.sort(key=lambda pair: (pair[0] not in original, -len(pair[1])))
    items = []
    for content, who in found[:GALLERY_ITEMS]:
        side: Literal["real", "synthetic"] = "real" if content in original else "synthetic"
        sample = samples["synthetic"][who[0]]
        other = samples[side][original[content] if side == "real" else who[1]]
        items.append(
            GalleryItem(
                side="synthetic",
                sample=sample.id,
                score=float(len(who)),
                score_text=f"{len(who)} with this content",
                partner_side=side,
                partner=other.id,
                label=sample.label,
                text=shortened(sample.text),
                partner_text=shortened(other.text),
            )
        )
    if not items:
        return []
    return [Gallery(id="same_content", encoder="bytes", modality=modality, items=tuple(items))]


def shortened(text: str | None, limit: int = GALLERY_TEXT) -> str | None:
    """Give as much of a text as a gallery, or the map, needs."""
    if text is None or len(text) <= limit:
        return text
    return text[:limit] + "…"


def galleries(encoder: str, left: Encoded, right: Encoded, measured: Measured) -> list[Gallery]:
    """Pick the samples that say most: looking synthetic, close to a real one, left uncovered."""
    scores = np.where(np.isfinite(measured.scores_synthetic), measured.scores_synthetic, -np.inf)
    looking = np.argsort(-scores, kind="stable")[:GALLERY_ITEMS]
    closest = np.argsort(measured.nearest_distance, kind="stable")[:GALLERY_ITEMS]
    uncovered = np.flatnonzero(~measured.covered)
    real_scores = np.where(np.isfinite(measured.scores_real), measured.scores_real, np.inf)
    uncovered = uncovered[np.argsort(real_scores[uncovered], kind="stable")][:GALLERY_ITEMS]
    return [
        Gallery(
            id="most_synthetic_looking",
            encoder=encoder,
            modality=left.modality,
            items=tuple(
                GalleryItem(
                    side="synthetic",
                    sample=right.samples[i].id,
                    score=float(scores[i]),
                    score_text=f"score {scores[i]:.3g}",
                    label=right.samples[i].label,
                    text=shortened(right.samples[i].text),
                )
                for i in looking
                if np.isfinite(scores[i])
            ),
        ),
        Gallery(
            id="nearest_real_neighbour",
            encoder=encoder,
            modality=left.modality,
            items=tuple(
                GalleryItem(
                    side="synthetic",
                    sample=right.samples[i].id,
                    score=float(measured.nearest_distance[i]),
                    score_text=f"distance {measured.nearest_distance[i]:.3g}",
                    partner_side="real",
                    partner=left.samples[int(measured.nearest_real[i])].id,
                    percentile=float(measured.nearest_percentile[i]),
                    label=right.samples[i].label,
                    text=shortened(right.samples[i].text),
                    partner_text=shortened(left.samples[int(measured.nearest_real[i])].text),
                )
                for i in closest
            ),
        ),
        Gallery(
            id="least_covered_real",
            encoder=encoder,
            modality=left.modality,
            items=tuple(
                GalleryItem(
                    side="real",
                    sample=left.samples[i].id,
                    score=float(measured.scores_real[i]) if np.isfinite(real_scores[i]) else 0.0,
                    score_text="no synthetic neighbour",
                    label=left.samples[i].label,
                    text=shortened(left.samples[i].text),
                )
                for i in uncovered
            ),
        ),
    ]
