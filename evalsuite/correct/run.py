"""The run: what drifted, the corrections that act on it, the judgement."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import open_dataset
from ..encoders import FeatureCache
from ..errors import DataError, UsageError
from ..gate.findings import Message
from ..gate.policy import Policy, load_policy
from ..generators.correction.base import (
    correction_class,
    correction_names,
    corrections_for,
    fit_chain,
)
from ..generators.registry import suggestion
from ..pipeline.run import run_gate
from .drift import drifted, gap, still_drifted
from .examples import changed, left_out
from .judge import compare, labels_kept, ties, verdict
from .looks import Looks
from .parts import halves, new_folder, write_part
from .report import write_correction
from .result import CorrectionResult, Drifted, said
from .selecting import SELECTIONS, provenance, select

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..data import Dataset, Sample
    from ..generators import Operation


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
    allow_hosts: Sequence[str] = (),
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
        halves, so that every step can be run again), ``correction.html``, ``correction.json`` and
        ``summary.md``, and where something was corrected ``recipe.yaml``, with which ``evalsuite
        generate`` does the same to another set.
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
    cache, device, allow_download, allow_hosts, progress
        As :func:`~evalsuite.pipeline.run.run_gate`.
    workers : int
        Threads that write the corrected set.
    lang, redact
        Of the pages; ``redact`` also hides the sets' names and the command in the other files.

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
    if not 0 < keep < 1:
        raise UsageError(f"keep must be between 0 and 1, got {keep:g}")
    rules = policy if isinstance(policy, Policy) else load_policy(_path(policy))
    if seed is not None:
        rules = rules.model_copy(update={"seed": seed})
    options: list[tuple[str, object]] = [
        ("--out", out), ("--with", ",".join(using)), ("--policy", _path(policy)),
        ("--modality", modality), ("--keep", f"{keep:g}"), ("--seed", seed),
        *(("--allow-host", host) for host in allow_hosts),
    ]  # fmt: skip
    words = [str(word) for option in options if option[1] is not None for word in option]
    command = shlex.join(["evalsuite", "correct", str(real), str(synthetic), *words])
    with new_folder(Path(out)) as target:
        return _corrected(
            real, synthetic, target, _Steps.of(using), rules, modality, keep,
            cache=cache, device=device, allow_download=allow_download, allow_hosts=allow_hosts,
            progress=progress, workers=workers, lang=lang, redact=redact, command=command,
        )  # fmt: skip


def _corrected(
    real: str | Path,
    synthetic: str | Path,
    target: Path,
    steps: _Steps,
    rules: Policy,
    modality: str | None,
    keep: float,
    *,
    cache: FeatureCache | bool,
    device: str,
    allow_download: bool,
    allow_hosts: Sequence[str],
    progress: bool | None,
    workers: int,
    lang: str,
    redact: bool,
    command: str,
) -> CorrectionResult:
    from ..report import write_outputs

    sides = {
        "real": open_dataset(real, allow_hosts=allow_hosts),
        "synthetic": open_dataset(synthetic, allow_hosts=allow_hosts),
    }
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
    if len(seen["synthetic"]) < rules.min_samples:
        raise DataError(
            f"the synthetic set has {len(seen['synthetic'])} samples that can be used, and the "
            f"policy asks for {rules.min_samples}: generate more"
        )
    judged = partial(
        run_gate,
        homes["judge"],
        policy=rules,
        cache=store if store is not None else False,
        device=device,
        allow_download=allow_download,
        allow_hosts=allow_hosts,
        progress=progress,
    )
    before = judged(synthetic)
    write_outputs(before.result, target / "before", thumbnails=before.thumbnails,
                  clips=before.clips, lang=lang, redact=redact)  # fmt: skip
    moved = drifted(seen["calibration"], seen["synthetic"], rules)
    names = _named(steps.corrections, moved, kind)
    moved = tuple(_with_corrections(d, names) for d in moved)

    from ..generators import items_of
    from ..generators.registry import spec

    fitted = fit_chain(
        names,
        items_of(data["calibration"]),
        items_of(sides["synthetic"]),
        seed=rules.seed,
        strict=not steps.auto,
        drifted=partial(still_drifted, seen["calibration"], seen["synthetic"], rules)
        if steps.auto
        else None,
        gap=partial(gap, seen["calibration"], looks) if steps.auto else None,
    )
    facts: dict[str, Any] = {
        "names": ("real", "synthetic") if redact else (sides["real"].name, sides["synthetic"].name),
        "command": "evalsuite correct …" if redact else command,
        "modality": kind,
        "n_real": len(sides["real"]),
        "n_calibration": len(seen["calibration"]),
        "n_judge": len(seen["judge"]),
        "n_synthetic": len(seen["synthetic"]),
        "drifted": moved,
        "corrections": tuple(spec(c) for c in fitted.corrections),
        "skipped": tuple(
            (name, Message(id=f"refused_{e.reason}", text=str(e), params=dict(e.values)))
            for name, e in fitted.skipped
        ),
        "verdict_before": before.result.verdict.value,
        "level": rules.calibration.confidence,
        "seed": rules.seed,
    }
    if not fitted.corrections and not steps.selections:
        result = CorrectionResult(
            improved=False,
            reasons=(_nothing_to_do(moved, fitted.skipped),),
            n_corrected=0,
            n_failed=0,
            selections=(),
            selected=None,
            labels_kept=None,
            labels_unjudged=None,
            comparisons=(),
            ties=(),
            verdict_after=None,
            **facts,
        )
        write_correction(result, target, lang=lang, redact=redact)
        return result

    home = target / "corrected"
    made, failed = sides["synthetic"], 0
    if fitted.corrections:
        where = target / "transformed" if steps.selections else home
        failed = _transform(fitted.corrections, sides["synthetic"], where, rules.seed, workers)
        made = open_dataset(where)
    uncut = made
    told: list[tuple[str, tuple[Message, ...]]] = []
    selected = None
    dropped: list[Sample] = []
    if steps.selections:
        whole = looks.at(made, "transformed")
        rows = list(range(len(whole)))
        for name in steps.selections:
            rows, what = select(name, seen["calibration"], whole, (data["calibration"], made),
                                rows, looks, keep, rules.seed)  # fmt: skip
            told.append((name, what))
        if len(rows) < rules.min_samples:
            raise DataError(
                f"{', '.join(steps.selections)} kept {len(rows)} samples, and the policy asks for "
                f"{rules.min_samples}: select less strictly, or generate more"
            )
        from ..generators.selection.subset import judged as shape

        selected = shape(
            seen["judge"].features[looks.own[0]],
            whole.features[looks.own[0]],
            rows,
            seed=rules.seed,
        )
        kept = set(rows)
        dropped = [s for i, s in enumerate(whole.samples) if i not in kept]
        write_part(made, [whole.samples[i] for i in rows], home, rows_of=provenance(made, told))
        made = open_dataset(home)
    after = judged(home)
    write_outputs(after.result, target / "after", thumbnails=after.thumbnails, clips=after.clips,
                  lang=lang, redact=redact)  # fmt: skip
    seen["corrected"] = looks.at(made, "corrected")
    comparisons = compare(before.result, after.result, seen, looks, rules)
    labels, unjudged = labels_kept(seen, looks.own[0], rules)
    improved, reasons = verdict(comparisons, labels)
    result = CorrectionResult(
        improved=improved,
        reasons=reasons,
        n_corrected=len(seen["corrected"]),
        n_failed=failed,
        selections=tuple(told),
        selected=selected,
        labels_kept=labels,
        labels_unjudged=unjudged,
        comparisons=comparisons,
        ties=ties(before.result, after.result),
        verdict_after=after.result.verdict.value,
        **facts,
    )
    write_correction(
        result,
        target,
        changed=changed(sides["synthetic"], made, kind) if fitted.corrections else (),
        left_out=left_out(uncut, dropped, kind),
        lang=lang,
        redact=redact,
    )
    return result


def _path(policy: Policy | str | Path | None) -> Path | None:
    return None if policy is None or isinstance(policy, Policy) else Path(policy)


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
    if "quality" in steps.selections and wanted != "audio":
        raise UsageError(
            f"quality is a grade of speech, and there is none of {wanted}: on_manifold and "
            "transport leave out what is unlike the real set"
        )
    if wrong := sorted(inputs - {wanted}):
        raise UsageError(f"a correction of {', '.join(wrong)} does not fit {wanted}")
    return wanted


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


def _nothing_to_do(drifted: Sequence[Drifted], skipped: Sequence[object]) -> Message:
    if skipped:
        return said("correct_all_refused", n=len(skipped))
    return said("correct_nothing_acts" if drifted else "correct_no_drift")


def _transform(
    corrections: Sequence[Operation], data: Dataset, where: Path, seed: int, workers: int
) -> int:
    """Write the corrected set; give how many samples failed."""
    from ..generators import Compose, generate_folder, items_of

    operation = corrections[0] if len(corrections) == 1 else Compose(corrections)
    report = generate_folder(operation, items_of(data), where, seed=seed, workers=workers)
    return len(report.failures)
