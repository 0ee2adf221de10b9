"""The run behind ``evalsuite correct``: find what drifted, correct it, and say whether it helped.

Everything is fitted on one half of the real data and judged on the other, by the policy's encoders
and by a second look that nothing was fitted in: a correction or a selection can be made to please
one encoder without making the data any better.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .data import open_dataset
from .encoders import FeatureCache, encode
from .errors import DataError, UsageError
from .gate.policy import Policy, load_policy
from .generators.correction.base import (
    correction_class,
    correction_names,
    corrections_for,
    fit_chain,
)
from .generators.protocol import derive_seed, is_held_out, suggestion
from .pipeline.calibrate import SPECS, measure
from .pipeline.explain import NOTABLE_EFFECT, drifted_attributes
from .pipeline.plan import sample_groups
from .pipeline.run import run_gate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from .data import Dataset, Sample
    from .encoders import Encoded
    from .gate.findings import Finding, GateResult
    from .generators import Item, Operation
    from .generators.selection.subset import Agreement, Selected

SELECTIONS = (
    "density_ratio",
    "dsir",
    "herding",
    "kliep",
    "label_agreement",
    "match_lengths",
    "on_manifold",
    "transport",
    "ulsif",
)
"""What can be named beside the corrections: these keep some samples and change none."""

DISTANCES = ("frechet_distance", "kid", "mmd_rbf")
"""The metrics of which one must fall for a correction to have helped."""

GAP_ITEMS = 150
"""Samples on which ``auto`` tries whether a correction lowers the gap."""

Change = Literal["smaller", "same", "larger"]


@dataclass(frozen=True, slots=True)
class Drifted:
    """An attribute that differs between the calibration half and the synthetic set."""

    attribute: str
    effect: float
    """In real standard deviations, beyond chance."""
    acts: str
    """What would move it, in words."""
    corrections: tuple[str, ...]
    """The corrections that were chosen for it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric before and after, on real data that nothing was fitted on."""

    encoder: str
    second: bool
    """Whether this is the second look."""
    metric: str
    unit: str
    before: float
    after: float
    change: float
    """``after - before``; under 0 the gap has become smaller."""
    low: float
    high: float
    """Interval for the change: all intervals of a run hold together."""
    outcome: Change


@dataclass(frozen=True, slots=True)
class LabelsKept:
    """Shares of samples whose label a probe trained on the calibration half agrees with."""

    before: float
    after: float
    real: float
    """Of real samples that it was not trained on: more cannot be expected."""
    lost: bool
    """Whether fewer agree than before *and* than of the real samples, beyond chance."""


@dataclass(frozen=True, slots=True)
class CorrectionResult:
    """What was done, and whether it helped."""

    improved: bool
    reasons: tuple[str, ...]
    modality: str
    n_real: int
    n_calibration: int
    n_judge: int
    n_synthetic: int
    n_corrected: int
    n_failed: int
    drifted: tuple[Drifted, ...]
    corrections: tuple[dict[str, Any], ...]
    """As :func:`~evalsuite.generators.spec` describes operations: with these it can be replayed."""
    skipped: tuple[tuple[str, str], ...]
    selections: tuple[tuple[str, str], ...]
    """Name, and what it did, in words."""
    selected: Selected | None
    labels_kept: LabelsKept | None
    """None where the sets have no labels to compare."""
    comparisons: tuple[Comparison, ...]
    verdict_before: str
    verdict_after: str | None
    level: float
    seed: int

    @property
    def exit_code(self) -> int:
        """0 if it helped, 1 if not."""
        return 0 if self.improved else 1


def correct(
    real: str | Path,
    synthetic: str | Path,
    *,
    out: str | Path,
    using: Sequence[str] = ("auto",),
    policy: Policy | str | Path | None = None,
    modality: str | None = None,
    keep: float = 0.5,
    seed: int | None = None,
    cache: FeatureCache | bool = True,
    device: str = "auto",
    allow_download: bool = False,
    progress: bool | None = None,
    workers: int = 1,
    lang: str = "en",
    redact: bool = False,
) -> CorrectionResult:
    """Bring a synthetic set nearer to the real one, and judge whether that worked.

    Parameters
    ----------
    real, synthetic : path
        As :func:`evalsuite.gate`. Groups of the real data stay whole when it is halved, and its
        held-out splits are kept for judging.
    out : path
        A new folder. Gets ``corrected/`` (an ImageFolder or AudioFolder with ``metadata.jsonl``),
        ``before/`` and ``after/`` (reports), ``real/calibration`` and ``real/judge`` (the two
        halves, so that every step can be run again), ``correction.json`` and ``summary.md``.
    using : sequence of str
        Corrections and selections, applied in this order; ``auto`` stands for the corrections that
        act on the attributes that drifted, less those that raise the calibration half's gap.
    policy : Policy or path, optional
        Its encoders and rules judge.
    modality : str, optional
        Which part of the records to correct; needed where there is more than one medium.
    keep : float
        Share of the samples that ``herding``, ``transport``, ``dsir`` and ``match_lengths`` keep.
    seed : int, optional
        In place of the policy's.
    cache, device, allow_download, progress
        As :func:`~evalsuite.pipeline.run.run_gate`.
    workers : int
        Threads that write the corrected set.
    lang, redact
        Of the reports.

    Returns
    -------
    CorrectionResult
        ``improved`` is true where, on the judge half, the distance became smaller beyond its
        interval in the policy's encoders *and* in the second look, and no judged metric became
        worse in either, and labels did not get lost.

    Raises
    ------
    UsageError
        If a name is unknown, the folder is not new, or the modality is not clear.
    DataError
        If a set is missing or too small to be halved, or a named correction cannot be fitted.
    """
    from .report import write_outputs

    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not empty: name a new folder")
    if not 0 < keep < 1:
        raise UsageError(f"keep must be between 0 and 1, got {keep:g}")
    rules = policy if isinstance(policy, Policy) else load_policy(_path(policy))
    if seed is not None:
        rules = rules.model_copy(update={"seed": seed})
    steps = _Steps.of(using)
    sides = {"real": open_dataset(real), "synthetic": open_dataset(synthetic)}
    kind = _modality(sides, modality, steps)
    store = FeatureCache() if cache is True else cache or None
    chosen = halves(sides["real"], rules)
    homes = {}
    for name, samples in chosen.items():
        homes[name] = target / "real" / name
        write_part(sides["real"], samples, homes[name])
    looks = Looks(kind, rules, store, device, allow_download, progress)
    data = {name: open_dataset(home) for name, home in homes.items()}
    seen = {
        "calibration": looks.at(data["calibration"], "calibration"),
        "judge": looks.at(data["judge"], "judge"),
        "synthetic": looks.at(sides["synthetic"], "synthetic"),
    }
    judged = partial(
        run_gate,
        homes["judge"],
        policy=rules,
        cache=store if store is not None else False,
        device=device,
        allow_download=allow_download,
        progress=progress,
    )
    before = judged(synthetic)
    write_outputs(before.result, target / "before", thumbnails=before.thumbnails,
                  clips=before.clips, lang=lang, redact=redact)  # fmt: skip
    drifted = _drifted(seen["calibration"], seen["synthetic"], rules)
    names = _named(steps.corrections, drifted, kind)
    drifted = tuple(_with_corrections(d, names) for d in drifted)

    from .generators import items_of
    from .generators.protocol import spec

    fitted = fit_chain(
        names,
        items_of(data["calibration"]),
        items_of(sides["synthetic"]),
        seed=rules.seed,
        strict=not steps.auto,
        drifted=partial(_still_drifted, seen["calibration"], rules) if steps.auto else None,
        gap=partial(_gap, seen["calibration"], looks) if steps.auto else None,
    )
    facts: dict[str, Any] = {
        "modality": kind,
        "n_real": len(sides["real"]),
        "n_calibration": len(seen["calibration"]),
        "n_judge": len(seen["judge"]),
        "n_synthetic": len(seen["synthetic"]),
        "drifted": drifted,
        "corrections": tuple(spec(c) for c in fitted.corrections),
        "skipped": fitted.skipped,
        "verdict_before": before.result.verdict.value,
        "level": rules.calibration.confidence,
        "seed": rules.seed,
    }
    if not fitted.corrections and not steps.selections:
        result = CorrectionResult(
            improved=False,
            reasons=(_nothing_to_do(drifted, fitted.skipped),),
            n_corrected=0,
            n_failed=0,
            selections=(),
            selected=None,
            labels_kept=None,
            comparisons=(),
            verdict_after=None,
            **facts,
        )
        _write(result, target)
        return result

    home = target / "corrected"
    made, failed = sides["synthetic"], 0
    if fitted.corrections:
        where = target / "transformed" if steps.selections else home
        failed = _transform(fitted.corrections, sides["synthetic"], where, rules.seed, workers)
        made = open_dataset(where)
    told: list[tuple[str, str]] = []
    selected = None
    if steps.selections:
        whole = looks.at(made, "transformed")
        rows = list(range(len(whole)))
        for name in steps.selections:
            kept, what = _select(name, seen["calibration"], whole, rows, looks, keep, rules.seed)
            rows = kept
            told.append((name, what))
        from .generators.selection.subset import judged as shape

        selected = shape(
            seen["judge"].features[looks.own[0]],
            whole.features[looks.own[0]],
            rows,
            seed=rules.seed,
        )
        write_part(made, [whole.samples[i] for i in rows], home, rows_of=_provenance(made, told))
        made = open_dataset(home)
    after = judged(home)
    write_outputs(after.result, target / "after", thumbnails=after.thumbnails, clips=after.clips,
                  lang=lang, redact=redact)  # fmt: skip
    seen["corrected"] = looks.at(made, "corrected")
    comparisons = _compare(before.result, after.result, seen, looks, rules)
    labels = _labels_kept(seen, looks.own[0], rules)
    improved, reasons = _verdict(comparisons, labels)
    result = CorrectionResult(
        improved=improved,
        reasons=reasons,
        n_corrected=len(seen["corrected"]),
        n_failed=failed,
        selections=tuple(told),
        selected=selected,
        labels_kept=labels,
        comparisons=comparisons,
        verdict_after=after.result.verdict.value,
        **facts,
    )
    _write(result, target)
    return result


def _path(policy: str | Path | None) -> Path | None:
    return None if policy is None else Path(policy)


@dataclass(frozen=True, slots=True)
class _Steps:
    """What was asked for."""

    corrections: tuple[str, ...]
    selections: tuple[str, ...]

    @property
    def auto(self) -> bool:
        return "auto" in self.corrections

    @classmethod
    def of(cls, using: Sequence[str]) -> _Steps:
        known = ("auto", *correction_names(), *SELECTIONS)
        for name in using:
            if name not in known:
                raise UsageError(f"unknown correction {name!r}{suggestion(name, known)}")
        if not using:
            raise UsageError(f"name at least one correction: {', '.join(known)}")
        return cls(
            tuple(n for n in using if n not in SELECTIONS),
            tuple(n for n in using if n in SELECTIONS),
        )


def _modality(sides: Mapping[str, Dataset], wanted: str | None, steps: _Steps) -> str:
    """Settle what is corrected; texts beside media are captions, and stay."""
    shared = [m for m in sides["real"].modalities if m in sides["synthetic"].modalities]
    if not shared:
        raise UsageError(
            f"the sets have nothing in common: {', '.join(sides['real'].modalities)} and "
            f"{', '.join(sides['synthetic'].modalities)}"
        )
    inputs = {str(correction_class(n).input) for n in steps.corrections if n != "auto"}
    if wanted is None:
        media = [m for m in shared if m != "text"] or shared
        if len(inputs) == 1:
            media = sorted(inputs)
        if len(media) > 1:
            raise UsageError(f"the records hold {' and '.join(media)}: name one as the modality")
        wanted = media[0]
    if wanted not in shared:
        raise UsageError(f"not both sets hold {wanted}; both hold {', '.join(shared)}")
    if wrong := sorted(inputs - {wanted}):
        raise UsageError(f"a correction of {', '.join(wrong)} does not fit {wanted}")
    return wanted


def halves(real: Dataset, policy: Policy) -> dict[str, list[Sample]]:
    """Part the real data into ``calibration`` and ``judge``.

    Groups stay whole. Held-out splits are to judge; where there are any, all the rest is to learn
    from.

    Raises
    ------
    DataError
        If a part has fewer samples than the policy asks for.
    """
    judge = [s for s in real if is_held_out(s.split)]
    reserved = {s.group for s in judge if s.group is not None}
    free = [s for s in real if not is_held_out(s.split) and s.group not in reserved]
    if judge:
        calibration = free
        judge += [s for s in real if not is_held_out(s.split) and s.group in reserved]
    else:
        calibration, judge = halved(free, policy.seed, "halves")
    parts = {"calibration": calibration, "judge": judge}
    for name, part in parts.items():
        if len(part) < policy.min_samples:
            raise DataError(
                f"the {name} part of the real data has {len(part)} samples, and the policy asks "
                f"for {policy.min_samples}: give more real data"
                + ("" if name == "judge" else ", or samples of the split 'train'")
            )
    return parts


def halved(samples: Sequence[Sample], seed: int, salt: str) -> tuple[list[Sample], list[Sample]]:
    """Deal samples into two parts, whole groups at a time, by a hash of the group's name."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group or f"\0{sample.id}", []).append(sample)
    first: list[Sample] = []
    second: list[Sample] = []
    for name in sorted(groups, key=lambda g: (derive_seed(seed, salt, g), g)):
        (first if len(first) <= len(second) else second).extend(groups[name])
    return first, second


_MAGIC = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"fLaC", ".flac"),
    (b"OggS", ".ogg"),
    (b"ID3", ".mp3"),
    (b"\xff\xfb", ".mp3"),
)


def _suffix(data: bytes, source: str) -> str:
    """Name a file's kind by its first bytes; by its old name where they say nothing."""
    if data[:4] == b"RIFF":
        return {b"WAVE": ".wav", b"WEBP": ".webp"}.get(data[8:12], Path(source).suffix)
    return next((s for magic, s in _MAGIC if data.startswith(magic)), Path(source).suffix)


def write_part(
    data: Dataset,
    samples: Sequence[Sample],
    folder: Path,
    rows_of: Callable[[Sample], dict[str, Any]] | None = None,
) -> None:
    """Write some samples of a data set as a folder of their own, their bytes as they are.

    Parameters
    ----------
    data : Dataset
    samples : sequence of Sample
        Of the data set. One that cannot be read is left out; the gate reports it in the whole set.
    folder : Path
        New.
    rows_of : callable, optional
        More columns of ``metadata.jsonl`` for a sample.
    """
    from .data.dataset import BadSample

    folder.mkdir(parents=True)
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as stream:
        for k, sample in enumerate(samples):
            row: dict[str, Any] = {"id": sample.id}
            try:
                for medium in sample.media:
                    content = data.read(sample, medium)
                    name = f"{k:06d}{_suffix(content, sample.source)}"
                    column = "file_name" if "file_name" not in row else f"{medium}_file_name"
                    (folder / name).write_bytes(content)
                    row[column] = name
            except BadSample:
                continue
            for column in ("text", "label", "group", "split"):
                if (value := getattr(sample, column)) is not None:
                    row[column] = value
            row |= rows_of(sample) if rows_of is not None else {}
            stream.write(json.dumps(row) + "\n")


class Looks:
    """The encoders that judge: the policy's, and one that shares nothing with them."""

    def __init__(
        self,
        modality: str,
        policy: Policy,
        cache: FeatureCache | None,
        device: str = "auto",
        allow_download: bool = False,
        progress: bool | None = None,
    ) -> None:
        self.modality, self.cache, self.progress = modality, cache, progress
        specs = list(policy.encoders.get(modality, ()))
        if not specs:
            raise UsageError(f"the policy names no encoder for {modality}")
        encoders: list[Any]
        if modality == "image":
            from .encoders import load_encoder
            from .encoders.random_conv import load_random_conv

            encoders = [
                load_encoder(s, device=device, allow_download=allow_download, cache=cache)
                for s in specs
            ]
            second: Any = load_random_conv("image")
        elif modality == "audio":
            from .encoders.random_conv import load_random_conv
            from .encoders.speech import load_audio_encoder

            encoders = [load_audio_encoder(s, cache=cache) for s in specs]
            second = load_random_conv("audio")
        else:
            from .encoders.text import CHAR_NGRAMS, DEFAULT, load_text_encoder

            encoders = [load_text_encoder(s, cache=cache) for s in specs]
            second = load_text_encoder(DEFAULT if CHAR_NGRAMS in specs else CHAR_NGRAMS)
        self.own = [e.info.id for e in encoders]
        self.second = str(second.info.id)
        if self.second in self.own:
            raise UsageError(
                f"the policy's encoders include {self.second}, which is the second look: name "
                "another one"
            )
        self._encoders = [*encoders, second]

    def at(self, data: Dataset, label: str, *, second: bool = True) -> Encoded:
        """Encode a set with all of them, or without the second look."""
        encoders = self._encoders if second else self._encoders[:-1]
        if self.modality == "image":
            return encode(
                data,
                encoders,
                cache=self.cache,
                progress=self.progress,
                thumbnails=False,
                label=label,
            )
        from .encoders.encode_media import encode_media

        return encode_media(
            data,
            "audio" if self.modality == "audio" else "text",
            encoders,
            cache=self.cache,
            progress=self.progress,
            label=label,
        )


def _drifted(calibration: Encoded, synthetic: Encoded, policy: Policy) -> tuple[Drifted, ...]:
    """Name what drifted, on the half that corrections are fitted on: the other one only judges."""
    found = drifted_attributes(
        calibration, synthetic, sample_groups(calibration, synthetic), policy
    )
    notable = [
        f for f in found.findings if f.detected and float(f.details["effect"]) >= NOTABLE_EFFECT
    ]
    notable.sort(key=lambda f: (-float(f.details["effect"]), f.metric))
    return tuple(
        Drifted(f.metric, float(f.details["effect"]), str(f.details["acts"]), ()) for f in notable
    )


def _still_drifted(calibration: Encoded, policy: Policy, items: Sequence[Item]) -> set[str]:
    """Name the attributes that differ between the calibration half and items in memory."""
    from .metrics.drift.multiplicity import adjust_pvalues
    from .metrics.drift.univariate import numeric_drift

    rows = [_attributes(item, calibration.modality) for item in items]
    effects: dict[str, float] = {}
    p_values: list[float] = []
    for name, values in calibration.attributes.items():
        # Models' scores are not measured anew.
        other = np.array([row[name] for row in rows if name in row], np.float64)
        a, b = values[np.isfinite(values)], other[np.isfinite(other)]
        if min(a.size, b.size) < 2:
            continue
        found = numeric_drift(a, b, level=policy.calibration.confidence, seed=policy.seed)
        effects[name] = found.wasserstein - (found.wasserstein_null or 0.0)
        p_values.append(found.ks_p)
    if not effects:
        return set()
    adjusted = adjust_pvalues(p_values, "bh")
    return {
        name
        for (name, effect), p in zip(effects.items(), adjusted, strict=True)
        if p <= policy.alpha and effect >= NOTABLE_EFFECT
    }


def _gap(calibration: Encoded, looks: Looks, items: Sequence[Item]) -> float:
    """Measure how far items in memory are from the calibration half, in the policy's encoders."""
    from .generators import Identity, generate_folder
    from .metrics.distribution.kernel import kernel_distance

    with tempfile.TemporaryDirectory() as folder:
        # Through files, as the gate will see them.
        generate_folder(Identity(looks.modality), items[:GAP_ITEMS], Path(folder) / "x", seed=0)
        found = looks.at(open_dataset(Path(folder) / "x"), "corrected so far", second=False)
    distances = [
        kernel_distance(calibration.features[e], found.features[e], "polynomial") for e in looks.own
    ]
    return float(np.mean([d.value / d.spread for d in distances]))


def _attributes(item: Item, modality: str) -> dict[str, float]:
    from .generators.protocol import Modality

    value = item.value(Modality(modality))
    if modality == "image":
        from .metrics.image.attributes import image_attributes

        return image_attributes(np.asarray(value, np.uint8))
    if modality == "audio":
        from .metrics.audio.attributes import audio_attributes

        return audio_attributes(value.samples, value.rate)
    from .metrics.text.attributes import text_attributes

    return text_attributes(value)


def _named(asked: Sequence[str], drifted: Sequence[Drifted], modality: str) -> list[str]:
    """Put the corrections in the place of ``auto``."""
    names: list[str] = []
    for name in asked:
        if name == "auto":
            names += corrections_for([d.attribute for d in drifted], modality)
        else:
            names.append(name)
    return names


def _with_corrections(drifted: Drifted, names: Sequence[str]) -> Drifted:
    acting = (n for n in dict.fromkeys(names) if drifted.attribute in correction_class(n).acts_on)
    return Drifted(drifted.attribute, drifted.effect, drifted.acts, tuple(acting))


def _nothing_to_do(drifted: Sequence[Drifted], skipped: Sequence[tuple[str, str]]) -> str:
    if skipped:
        return "nothing was corrected: " + "; ".join(f"{name}: {why}" for name, why in skipped)
    if drifted:
        listed = ", ".join(f"{d.attribute} ({d.acts})" for d in drifted)
        return f"no correction acts on what drifted: {listed}"
    return (
        "no readable attribute drifted: whatever gap there is, is in the content, which no "
        "correction changes; generate what is missing"
    )


def _transform(
    corrections: Sequence[Operation], data: Dataset, where: Path, seed: int, workers: int
) -> int:
    """Write the corrected set; give how many samples failed."""
    from .generators import Compose, generate_folder, items_of

    operation = corrections[0] if len(corrections) == 1 else Compose(corrections)
    report = generate_folder(operation, items_of(data), where, seed=seed, workers=workers)
    return len(report.failures)


def _provenance(
    made: Dataset, selections: Sequence[tuple[str, str]]
) -> Callable[[Sample], dict[str, Any]]:
    """Give the columns of a selected sample: those that it has, and what selected it."""
    stored: dict[str, dict[str, Any]] = {}
    metadata = None if made.root is None else made.root / "metadata.jsonl"
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


def _select(
    name: str,
    calibration: Encoded,
    whole: Encoded,
    rows: Sequence[int],
    looks: Looks,
    keep: float,
    seed: int,
) -> tuple[list[int], str]:
    """Select among ``rows``; give those that are left, and say what was done."""
    from .generators.selection import ratio, subset

    a = calibration.features[looks.own[0]]
    b = whole.features[looks.own[0]][list(rows)]
    n = max(1, round(keep * len(rows)))
    what = ""
    if name in {"density_ratio", "ulsif", "kliep"}:
        method: Any = "classifier" if name == "density_ratio" else name
        found = ratio.density_ratio(a, b, method=method, seed=seed)
        picked = ratio.keep_by_weight(found, seed=seed)
        what = f"effective sample size {found.effective_sample_size:.1f} of {len(b)}; "
    elif name == "herding":
        picked = sorted(subset.herding(a, b, n))
    elif name == "transport":
        picked = subset.transport_subset(a, b, n)
    elif name == "on_manifold":
        picked = subset.on_manifold(a, b)
    elif name == "label_agreement":
        labels = [[s.label for s in part.samples] for part in (calibration, whole)]
        chosen = [labels[1][i] for i in rows]
        if any(label is None for part in (labels[0], chosen) for label in part):
            raise DataError("label_agreement needs a label for every sample of both sets")
        agreed = subset.label_agreement(a, labels[0], b, chosen, seed=seed)
        picked = [i for i, ok in enumerate(agreed.keep) if ok]
        what = f"of real samples it would drop {1 - agreed.real_agreement:.1%}; "
    else:
        from .generators.selection.text import dsir, match_lengths

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
                f"effective sample size {drawn.effective_sample_size:.1f}; KL of the n-grams "
                f"{drawn.kl_before:.3f} → {drawn.kl_after:.3f} nats; "
            )
    if not picked:
        raise DataError(f"{name} kept none of {len(rows)} samples: correct the set first")
    return [rows[i] for i in picked], f"{what}{len(picked)} of {len(rows)} kept"


def _labels_kept(seen: Mapping[str, Encoded], encoder: str, policy: Policy) -> LabelsKept | None:
    """Tell whether samples still show their label, where there are labels to compare."""
    from scipy.special import ndtri

    from .generators.selection.subset import label_agreement

    labels = {k: [s.label for s in seen[k].samples] for k in ("calibration", "synthetic",
                                                             "corrected")}  # fmt: skip
    if any(label is None for part in labels.values() for label in part):
        return None

    def agreed(probe: Literal["knn", "linear"]) -> tuple[Agreement, Agreement]:
        first, second = (
            label_agreement(
                seen["calibration"].features[encoder],
                labels["calibration"],
                seen[side].features[encoder],
                labels[side],
                probe=probe,
                seed=policy.seed,
            )
            for side in ("synthetic", "corrected")
        )
        return first, second

    try:
        # The probe that knows the real classes better is the one to ask.
        first, second = max(
            (agreed("knn"), agreed("linear")), key=lambda pair: pair[0].real_agreement
        )
    except ValueError:  # too few of a class, or classes that the real data does not have
        return None
    # The sides as if they were independent: the cautious way, for each child has its parent's
    # difficulty.
    z = float(ndtri(0.5 + policy.calibration.confidence / 2))
    shares = [(first.agreement, len(first.keep)), (second.agreement, len(second.keep)),
              (first.real_agreement, len(labels["calibration"]))]  # fmt: skip
    before, after, real = (max(p * (1 - p), 1e-9) / n for p, n in shares)
    return LabelsKept(
        before=first.agreement,
        after=second.agreement,
        real=first.real_agreement,
        # Samples that agree as often as real ones have lost nothing, whatever they agreed before.
        lost=first.agreement - second.agreement > z * math.sqrt(before + after)
        and first.real_agreement - second.agreement > z * math.sqrt(real + after),
    )


def _compare(
    before: GateResult,
    after: GateResult,
    seen: Mapping[str, Encoded],
    looks: Looks,
    policy: Policy,
) -> tuple[Comparison, ...]:
    """Set every judged gap after the correction against the one before."""
    from scipy.special import ndtri

    metrics = [m for m in dict.fromkeys(r.metric for r in policy.rules) if m in SPECS]
    metrics += [m for m in ("kid", "precision", "coverage") if m not in metrics]
    pairs: list[tuple[str, bool, Finding, Finding]] = []
    for encoder in looks.own:
        found = [
            {
                f.metric: f
                for f in result.findings
                if f.kind == "distribution" and f.encoder == encoder and f.slice == "all"
            }
            for result in (before, after)
        ]
        pairs += [
            (encoder, False, found[0][m], found[1][m])
            for m in metrics
            if m in found[0] and m in found[1]
        ]
    second = []
    judge, *others = in_real_units(
        *(
            seen[k].features[looks.second]
            for k in ("calibration", "judge", "synthetic", "corrected")
        )
    )
    for side, features in zip(("synthetic", "corrected"), others, strict=True):
        groups = sample_groups(seen["judge"], seen[side])
        measured = measure(
            judge,
            features,
            modality=looks.modality,
            groups_real=groups[0],
            groups_synthetic=groups[1],
            settings=policy.calibration,
            seed=policy.seed,
            metrics=metrics,
        )
        second.append({f.metric: f for f in measured.findings})
    pairs += [(looks.second, True, second[0][m], second[1][m]) for m in metrics]
    judged = [p for p in pairs if p[2].gap is not None and p[3].gap is not None]
    if not judged:
        raise DataError(
            "the gate measured no gap before and after: see the reports for what was missing"
        )
    # Bonferroni: one of many intervals must not miss by chance and be taken for a success.
    z = float(ndtri(1 - (1 - policy.calibration.confidence) / (2 * len(judged))))
    return tuple(_comparison(*p, z) for p in judged)


def in_real_units(
    calibration: npt.NDArray[np.float32], *others: npt.NDArray[np.float32]
) -> list[npt.NDArray[np.float32]]:
    """Give features of the second look in the calibration half's standard deviations.

    They are not trained, so their scales mean nothing: unscaled, tone would be nearly all that
    they see.
    """
    spread = calibration.std(axis=0, dtype=np.float64)
    varied = spread > 1e-6 * max(float(spread.max()), 1e-30)
    # A filter that hardly ever answers must not outweigh all others the one time it does.
    spread = np.maximum(spread, 0.5 * np.median(spread[varied]))
    mean = calibration.mean(axis=0, dtype=np.float64)
    return [((x[:, varied] - mean[varied]) / spread[varied]).astype(np.float32) for x in others]


def _comparison(
    encoder: str, second: bool, before: Finding, after: Finding, z: float
) -> Comparison:
    one, other = float(before.gap or 0.0), float(after.gap or 0.0)
    # The two gaps share the real half, so their errors go together: this is the cautious side.
    half = z * math.hypot(*(float(f.details["standard_error"]) for f in (before, after)))
    change = other - one
    outcome: Change = "smaller" if change + half < 0 else "larger" if change - half > 0 else "same"
    return Comparison(
        encoder=encoder,
        second=second,
        metric=before.metric,
        unit=before.gap_unit,
        before=one,
        after=other,
        change=change,
        low=change - half,
        high=change + half,
        outcome=outcome,
    )


def _verdict(
    comparisons: Sequence[Comparison], labels: LabelsKept | None
) -> tuple[bool, tuple[str, ...]]:
    """Say whether it helped, and why not."""
    reasons: list[str] = []
    nearer = {
        second: [
            c
            for c in comparisons
            if c.second is second and c.metric in DISTANCES and c.outcome == "smaller"
        ]
        for second in (False, True)
    }
    if not nearer[False] and not nearer[True]:
        reasons.append("no distance to the real data became smaller beyond its interval")
    elif not nearer[True]:
        reasons.append(
            "the distance became smaller in the policy's encoder only: the second look does not "
            "confirm it"
        )
    elif not nearer[False]:
        reasons.append("the distance became smaller in the second look only")
    reasons += [
        f"{c.metric} became worse ({c.encoder}: gap {c.before:.3g} → {c.after:.3g})"
        for c in comparisons
        if c.outcome == "larger"
    ]
    if labels is not None and labels.lost:
        reasons.append(
            f"samples lost their label: a probe trained on real data agrees with {labels.after:.1%}"
            f" of them, {labels.before:.1%} before"
        )
    if reasons:
        return False, tuple(reasons)
    return True, tuple(
        f"{c.metric}: gap {c.before:.3g} → {c.after:.3g} ({c.encoder}"
        f"{', the second look' if c.second else ''})"
        for c in (*nearer[False], *nearer[True])
    )


def _write(result: CorrectionResult, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(result), indent=1, allow_nan=False)
    (out / "correction.json").write_text(text + "\n", "utf-8")
    (out / "summary.md").write_text(summary(result), "utf-8")


def summary(result: CorrectionResult) -> str:
    """Write a result as Markdown, for people."""
    from .report.text import clean, number

    lines = [
        f"# {'Improved' if result.improved else 'Not improved'}",
        "",
        *(f"- {clean(reason, 400)}" for reason in result.reasons),
        "",
        f"{result.n_synthetic} synthetic samples ({result.modality}); {result.n_calibration} real "
        f"samples to fit on, {result.n_judge} others to judge on. Gate: {result.verdict_before} "
        f"→ {result.verdict_after or 'not run'}.",
        "",
    ]
    if result.drifted:
        lines += [
            "## What drifted",
            "",
            "| attribute | effect (real sd) | what acts on it | correction |",
            "|---|---|---|---|",
            *(
                f"| {d.attribute} | {number(d.effect)} | {d.acts} | "
                f"{', '.join(d.corrections) or '–'} |"
                for d in result.drifted
            ),
            "",
        ]
    if result.corrections:
        lines += ["Applied, in order: " + ", ".join(c["name"] for c in result.corrections) + ".",
                  ""]  # fmt: skip
    lines += [f"Not applied: {name}: {clean(why, 400)}.\n" for name, why in result.skipped]
    lines += [f"Selected by {name}: {clean(what)}.\n" for name, what in result.selections]
    if result.n_failed:
        lines += [f"{result.n_failed} samples could not be corrected and are left out.", ""]
    if (s := result.selected) is not None:
        lines += [
            "| set | n | precision | coverage |",
            "|---|---|---|---|",
            *(
                f"| {name} | {x.n} | {number(x.precision)} | {number(x.coverage)} |"
                for name, x in (
                    ("before selection", s.before),
                    ("after selection", s.after),
                    ("random, of the same size", s.random),
                )
            ),
            "",
        ]
    if (kept := result.labels_kept) is not None:
        lines += [
            f"A probe trained on real data agrees with {kept.before:.1%} of the labels before and "
            f"{kept.after:.1%} after (with {kept.real:.1%} of real ones).",
            "",
        ]
    if result.comparisons:
        lines += [
            "## Gaps before and after",
            "",
            f"On the judge half, which nothing was fitted on. All intervals hold together at "
            f"{result.level:.0%}.",
            "",
            "| encoder | metric | before | after | change | interval | |",
            "|---|---|---|---|---|---|---|",
            *(
                f"| {c.encoder}{' (second look)' if c.second else ''} | {c.metric} | "
                f"{number(c.before)} | {number(c.after)} | {number(c.change)} | "
                f"[{number(c.low)}, {number(c.high)}] | {c.outcome} |"
                for c in result.comparisons
            ),
            "",
        ]
    return "\n".join(lines)
