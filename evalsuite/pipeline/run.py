"""The run behind ``evalsuite gate``: data in, one result out."""

from __future__ import annotations

import difflib
import hashlib
import logging
import math
import platform
import shlex
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache as cached
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__, plugins
from .. import metrics as metrics_package
from ..data import open_dataset
from ..encoders import FeatureCache
from ..errors import PolicyError
from ..gate.findings import (
    DatasetSummary,
    EmbeddingMap,
    EncoderSummary,
    Finding,
    Gallery,
    GateResult,
    Problem,
)
from ..gate.judge import exit_code, judge
from ..gate.policy import Policy, load_policy
from ..gate.waivers import load_waivers
from .calibrate import SPECS, Measured, measure
from .engines import open_engine
from .explain import (
    Drift,
    Layout,
    check_layout,
    drifted_attributes,
    embedding_map,
    explanations,
    galleries,
    noted_differences,
    same_content,
)
from .external import plugins_of
from .plan import Part, Plan, make_plan, sample_groups
from .preview import previews
from .slices import class_findings, class_messages
from .sounds import sound_findings
from .texts import VARIETY, text_findings, text_messages
from .ties import TIE_METRICS
from .utility import utility_findings

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ..data import Dataset
    from ..encoders import Encoded, EncoderInfo
    from ..gate.policy import Calibration
    from ..metrics.pair import PairMetric

log = logging.getLogger("evalsuite")

PROBLEM_EXAMPLES = 100
JUDGED = (
    *SPECS,
    "naturalness",
    "speaker_similarity",
    "speaker_diversity",
    *VARIETY,
    "language_shares",
    "near_copy_share",
    "near_duplicate_share",
    "utility",
    *TIE_METRICS,
)
"""Metrics that a rule may be for: what has a gap with an interval."""
REPORTED = ("label_shares", "label_leakage", "mauve", "recogniser_artefact")
"""Metrics of the report that no tolerance can be held against: they have no interval."""


@dataclass(frozen=True, slots=True)
class Run:
    """A result, and the pictures that its report shows: ``(side, sample id)`` to image bytes."""

    result: GateResult
    thumbnails: Mapping[tuple[str, str], bytes]
    clips: Mapping[tuple[str, str], bytes]
    """The same for the recordings that the report plays."""
    parts: Mapping[str, Part]
    """Modality to both sets as numbers."""


def gate(
    real: str | os.PathLike[str],
    synthetic: str | os.PathLike[str],
    *,
    policy: Policy | str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    **options: Any,
) -> GateResult:
    """Judge whether a synthetic set is near enough to the real one to be used.

    Parameters
    ----------
    real, synthetic : path
        A folder, manifest, Parquet file, tar or data set on disk.
    policy : Policy or path, optional
        The default policy needs no editing.
    out : path, optional
        Folder for ``report.html``, ``result.json``, ``summary.md`` and ``junit.xml``.
    **options
        As :func:`run_gate`, and ``lang`` and ``redact`` for the report.

    Returns
    -------
    GateResult
        ``result.verdict`` and all findings.

    Raises
    ------
    PolicyError
        If the policy is not valid.
    DataError
        If one of the sets is missing, or has no sample that can be read.
    """
    report = {key: options.pop(key) for key in ("lang", "redact") if key in options}
    run = run_gate(real, synthetic, policy=policy, **options)
    if out is not None:
        from ..report import write_outputs

        write_outputs(run.result, Path(out), thumbnails=run.thumbnails, clips=run.clips, **report)
    return run.result


def run_gate(
    real: str | os.PathLike[str],
    synthetic: str | os.PathLike[str],
    *,
    policy: Policy | str | os.PathLike[str] | None = None,
    cache: FeatureCache | bool | None = True,
    seed: int | None = None,
    device: str = "auto",
    allow_download: bool = False,
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
    allow_hosts: Sequence[str] = (),
    progress: bool | None = None,
    strict: bool = False,
    waivers: str | os.PathLike[str] | None = None,
    today: date | None = None,
    layout: Layout = "pca",
    command: str | None = None,
) -> Run:
    """Make a run without writing anything but the cache.

    Parameters
    ----------
    real, synthetic, policy
        As :func:`gate`.
    cache : FeatureCache or bool
        False computes everything anew; True uses the default folder.
    seed : int, optional
        In place of the policy's.
    device : str
        ``"auto"`` takes a GPU where there is one.
    allow_download : bool
        Whether a model hub may be asked for weights that are not at hand.
    engine, address, workers
        Where samples are encoded: see :func:`.engines.open_engine`. No finding depends on it.
    allow_hosts : sequence of str
        Servers of object stores that may be asked although they are not on premise.
    progress : bool, optional
        By default a bar is shown where standard error is a terminal.
    strict : bool
        Whether a warning ends in exit code 1.
    waivers : path, optional
        A file of findings that are let pass, as warnings, until a day.
    today : date, optional
        The day that waivers are held against; by default this one, in UTC.
    layout : {"pca", "umap"}
        How the map puts the samples in a plane; ``umap`` needs the extra of this name.
    command : str, optional
        The command line that the report shows.

    Returns
    -------
    Run
    """
    began = time.time()
    clock = _Clock()
    chosen = (
        policy
        if isinstance(policy, Policy)
        else load_policy(None if policy is None else Path(policy))
    )
    if seed is not None:
        chosen = chosen.model_copy(update={"seed": seed})
    store = FeatureCache() if cache is True else cache or None

    _check_metrics(chosen)
    plugged = plugins_of(chosen, JUDGED)
    let_pass = load_waivers(Path(waivers)) if waivers is not None else ()
    check_layout(layout)
    opened = open_engine(engine, address=address, workers=workers)
    # Both sets are opened, and the models found, before anything that takes long.
    with clock("open"):
        sides = {
            "real": open_dataset(real, allow_hosts=allow_hosts),
            "synthetic": open_dataset(synthetic, allow_hosts=allow_hosts),
        }
        plan = make_plan(chosen, sides, device=device, allow_download=allow_download, cache=store)
    for warning in plan.warnings:
        log.warning("%s", warning)
    parts: dict[str, Part] = {}
    with opened as crew:
        for modality in plan.modalities:
            encoded = {}
            for role, data in sides.items():
                with clock(f"encode {role} {modality}"):
                    encoded[role] = crew.encode(
                        plan, modality, data, role, cache=store, progress=progress
                    )
                for warning in encoded[role].warnings:
                    log.warning("%s", warning)
            left, right = encoded["real"], encoded["synthetic"]
            parts[modality] = Part(modality, left, right, sample_groups(left, right))
    summaries = {
        role: dataset_summary(role, sides[role], parts) for role in ("real", "synthetic")
    }  # fmt: skip
    chosen_calibration = _enough_permutations(chosen, plan)
    unmeasured = dict(plan.unmeasured)
    findings: list[Finding] = []
    attributes: list[Finding] = []
    values: dict[str, dict[str, tuple[float, ...]]] = {}
    maps: list[EmbeddingMap] = []
    shelves: list[Gallery] = []
    largest = max((part.smallest for part in parts.values()), default=0)
    for part in parts.values():
        if part.smallest < chosen.min_samples:
            if part.smallest < largest:
                # A few captions beside many images say nothing of the set; the report says so.
                unmeasured[part.modality] = "too_few"
            else:
                for info in part.left.infos:
                    findings.extend(_too_few(chosen, part, info.id))
            continue
        remember = _Memory(store, part, chosen, chosen_calibration)
        for info in part.left.infos:
            with clock(f"measure {info.id}"):
                stored = remember(
                    "measure",
                    f"{info.key} {plugged.key}".strip(),
                    partial(_measure, part, info.id, chosen, chosen_calibration, plugged.metrics),
                )
                measured = Measured.from_bytes(stored)
            findings.extend(f.model_copy(update={"encoder": info.id}) for f in measured.findings)
            with clock(f"classes {info.id}"):
                found = class_findings(part, info.id, chosen, chosen_calibration, remember)
            # The shares of the classes are the same whoever looks at the features.
            findings.extend(f for f in found if f.slice != "all" or info is part.left.infos[0])
            maps.append(
                embedding_map(info.id, part.left, part.right, measured, chosen.seed, layout)
            )
            shelves.extend(galleries(info.id, part.left, part.right, measured))
        with clock(f"utility {part.modality}"):
            findings.extend(utility_findings(part, chosen, remember))
        with clock(f"attributes {part.modality}"):
            stored = remember(
                "attributes",
                plan.scored_by(part.modality),
                lambda part=part: drifted_attributes(  # type: ignore[misc]
                    part.left, part.right.attributes, part.groups, chosen
                ).to_bytes(),
            )
            drift = Drift.from_bytes(stored)
        attributes.extend(drift.findings)
        values.update(drift.values)
        if part.modality == "audio":
            with clock("naturalness"):
                findings.extend(sound_findings(part, sides, chosen, remember))
        if part.modality == "text":
            with clock("text sets"):
                found, shelf = text_findings(part, chosen, remember)
            findings.extend(found)
            shelves.extend(shelf)
    held = (
        _content({name: part.side(role) for name, part in parts.items()})
        for role in ("real", "synthetic")
    )
    shelves.extend(same_content(parts, *held))
    with clock("ties"):
        for tie in plan.ties:
            found, shelf = tie.measure(sides, parts, chosen, store)
            findings.extend(found)
            shelves.extend(shelf)
    findings = adjusted(findings, chosen)
    judged, verdict, reasons = judge(
        [*findings, *attributes],
        chosen,
        real=summaries["real"],
        synthetic=summaries["synthetic"],
        unmeasured=unmeasured,
        waivers=let_pass,
        today=today or datetime.now(UTC).date(),
    )
    result = GateResult(
        evalsuite_version=__version__,
        verdict=verdict,
        exit_code=exit_code(verdict, strict=strict),
        reasons=reasons,
        explanations=(
            *class_messages(findings, parts.values()),
            *text_messages(findings),
            *noted_differences(summaries["real"], summaries["synthetic"], chosen.alpha),
            *explanations(attributes),
        ),
        findings=judged,
        real=summaries["real"],
        synthetic=summaries["synthetic"],
        encoders=encoder_summaries(plan.infos),
        maps=tuple(maps),
        galleries=tuple(shelves),
        attributes=values,
        policy=chosen.canonical(),
        policy_sha256=chosen.sha256(),
        calibration=chosen_calibration.model_dump(mode="json"),
        seed=chosen.seed,
        alpha=chosen.alpha,
        command=command or _command(real, synthetic, policy, seed, waivers, layout, allow_hosts),
        versions=library_versions(),
        plugins=plugged.records,
        times={
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "seconds": {**clock.seconds, "total": clock.total()},
            **{
                role: {
                    modality: dict(getattr(part, side).timings) for modality, part in parts.items()
                }
                for role, side in (("real", "left"), ("synthetic", "right"))
            },
        },
    )
    with clock("previews"):
        pictures, clips = previews(result, sides, parts)
    return Run(result=result, thumbnails=pictures, clips=clips, parts=parts)


def _measure(
    part: Part,
    encoder: str,
    policy: Policy,
    settings: Calibration,
    extra: Sequence[PairMetric] = (),
) -> bytes:
    return measure(
        part.left.features[encoder],
        part.right.features[encoder],
        modality=part.modality,
        groups_real=part.groups[0],
        groups_synthetic=part.groups[1],
        settings=settings,
        seed=policy.seed,
        extra=extra,
    ).to_bytes()


def _enough_permutations(policy: Policy, plan: Plan) -> Calibration:
    """Raise the permutations where so many findings are judged that none could be detected."""
    judged = sum(
        rule.modality in ("*", info.modality) and rule.encoder in ("*", info.id)
        for rule in policy.rules
        if rule.metric in SPECS or rule.metric not in JUDGED
        for info in plan.encoder_infos
    ) + sum(rule.metric in TIE_METRICS for rule in policy.rules) * len(plan.ties)
    settings = policy.calibration
    needed = math.ceil(1.2 * judged / policy.alpha)
    return settings.model_copy(
        update={
            name: max(getattr(settings, name), needed)
            for name in ("permutations", "costly_permutations")
            if judged / (getattr(settings, name) + 1) > policy.alpha
        }
    )


def _check_metrics(policy: Policy) -> None:
    for rule in policy.rules:
        if rule.metric in JUDGED or plugins.find("metric", rule.metric):
            continue
        judged = f"a rule can be for {', '.join(JUDGED)}"
        if rule.metric in REPORTED:
            raise PolicyError(
                f"the policy has a rule for {rule.metric!r}, which the report shows but no "
                f"tolerance can be held against, for it has no interval; {judged}"
            )
        close = difflib.get_close_matches(rule.metric, JUDGED, n=1)
        hint = f"did you mean {close[0]!r}?" if close else judged
        raise PolicyError(f"the policy asks for the unknown metric {rule.metric!r}; {hint}")


class _Clock:
    """Seconds spent in each named step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()
        self._name = ""
        self._began = 0.0

    def __call__(self, name: str) -> _Clock:
        self._name = name
        return self

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self._name] = round(time.perf_counter() - self._began, 4)

    def total(self) -> float:
        return round(time.perf_counter() - self._start, 4)


def _command(
    real: object,
    synthetic: object,
    policy: object,
    seed: int | None,
    waivers: object,
    layout: Layout,
    allow_hosts: Sequence[str],
) -> str:
    parts = ["evalsuite", "gate", str(real), str(synthetic)]
    if policy is not None and not isinstance(policy, Policy):
        parts += ["--policy", str(policy)]
    if seed is not None:
        parts += ["--seed", str(seed)]
    if waivers is not None:
        parts += ["--waivers", str(waivers)]
    if layout != "pca":
        parts += ["--map", layout]
    for host in allow_hosts:
        parts += ["--allow-host", host]
    return shlex.join(parts)


def library_versions() -> dict[str, str]:
    """Give the versions of what the numbers depend on."""
    found = {"evalsuite": __version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "scikit-learn", "torch", "timm", "onnxruntime", "pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def dataset_summary(role: Any, data: Dataset, parts: Mapping[str, Part]) -> DatasetSummary:
    """Say what was found in a set, and what of it could be used in every modality."""
    mine = {name: part.side(role) for name, part in parts.items()}
    problems = [
        Problem(sample=p.sample, kind=p.kind, detail=p.detail)
        for p in (*data.problems, *(p for part in mine.values() for p in part.problems))
    ]
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.kind] = counts.get(problem.kind, 0) + 1
    broken = {p.sample for part in mine.values() for p in part.problems}
    used = [sample for sample in data.samples if sample.id not in broken]
    labels: dict[str, int] = {}
    groups: set[str] = set()
    for sample in used:
        if sample.label is not None:
            labels[sample.label] = labels.get(sample.label, 0) + 1
        if sample.group is not None:
            groups.add(sample.group)
    content = _content(mine)
    originals = (
        set(_content({name: part.left for name, part in parts.items()}).values())
        if role == "synthetic"
        else set()
    )
    prints = [part.fingerprint for part in mine.values()]
    return DatasetSummary(
        role=role,
        name=data.name,
        format=data.format,
        fingerprint=prints[0]
        if len(prints) == 1
        else hashlib.sha256("\n".join(prints).encode()).hexdigest(),
        n_found=data.n_found,
        n_used=len(used),
        problems=dict(sorted(counts.items())),
        problem_examples=tuple(problems[:PROBLEM_EXAMPLES]),
        ignored=dict(sorted(data.ignored.items())),
        n_duplicates=len(content) - len(set(content.values())),
        n_exact_copies=sum(c in originals for c in content.values()),
        labels=dict(sorted(labels.items())),
        groups=len(groups) or None,
        notes=dict(sorted(sum((part.notes for part in mine.values()), Counter()).items())),
        modalities={name: len(part) for name, part in mine.items()},
    )


def encoder_summaries(infos: Iterable[EncoderInfo]) -> tuple[EncoderSummary, ...]:
    """Give the records of models as the result has them."""
    return tuple(
        EncoderSummary(
            id=info.id,
            modality=info.modality,
            dim=info.dim,
            weights_sha256=info.weights_sha256,
            weights_source=info.weights_source,
            backend=info.backend,
            preprocessing=dict(info.preprocessing),
        )
        for info in infos
    )


def _content(mine: Mapping[str, Encoded]) -> dict[str, tuple[str, ...]]:
    """Give what each sample holds: its media, for a caption may well repeat; else its text."""
    chosen = [name for name in mine if name != "text"] or list(mine)
    found: dict[str, tuple[str, ...]] = {}
    for name in chosen:
        for sample, digest in zip(mine[name].samples, mine[name].hashes, strict=True):
            found[sample.id] = (*found.get(sample.id, ()), digest)
    return found


@cached
def _code_digest() -> str:
    """Hash over the code that a stored measurement depends on: a new version computes anew.

    How samples are decoded is a part of it: attributes are measured on what comes out of that.
    """
    here = Path(__file__).parent
    metrics = Path(metrics_package.__file__).parent
    digest = hashlib.sha256()
    for path in (
        *sorted(here.glob("*.py")),
        *sorted((here.parent / "data").glob("*.py")),
        *sorted(metrics.rglob("*.py")),
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Memory:
    """Measurements that an earlier run on the very same input made."""

    def __init__(
        self, cache: FeatureCache | None, part: Part, policy: Policy, settings: Calibration
    ) -> None:
        self._cache = cache
        if cache is None:
            return
        lines = [
            _code_digest(),
            *sorted(f"{name} {version}" for name, version in library_versions().items()),
            str(policy.seed),
            str(policy.alpha),
            settings.model_dump_json(),
            part.modality,
            # Of all encoders, by weights and code: what is measured of a set may look at any.
            *(info.key for info in part.left.infos),
        ]
        for side, encoded, names in (
            ("real", part.left, part.groups[0]),
            ("synthetic", part.right, part.groups[1]),
        ):
            lines += [f"\1{side}", *encoded.hashes, "\1groups", *(names or ())]
            lines += ["\1labels", *(s.label or "" for s in encoded.samples)]
            # Galleries name samples: the same content under other names is another gallery.
            lines += ["\1ids", *(s.id for s in encoded.samples)]
        self._key = hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def __call__(self, name: str, key: str, compute: Callable[[], bytes]) -> bytes:
        if self._cache is None:
            return compute()
        return self._cache.memo(name, f"{self._key} {key}", compute)


def _too_few(policy: Policy, part: Part, encoder: str) -> list[Finding]:
    """One finding for each metric that the policy asks for and that n is too small for."""
    return [
        Finding(
            kind="distribution",
            modality=part.modality,
            metric=name,
            encoder=encoder,
            value=None,
            n_real=len(part.left),
            n_synthetic=len(part.right),
            n_required=policy.min_samples,
        )
        for name in dict.fromkeys(
            rule.metric
            for rule in policy.rules
            if rule.slice == "all" and (rule.metric in SPECS or rule.metric not in JUDGED)
        )
    ]


def adjusted(findings: Sequence[Finding], policy: Policy) -> list[Finding]:
    """Add Holm-adjusted p-values over the findings that a rule judges."""
    from ..metrics.drift.multiplicity import adjust_pvalues

    judged = {(rule.metric, rule.slice) for rule in policy.rules}
    index = [
        i for i, f in enumerate(findings) if f.p_value is not None and (f.metric, f.slice) in judged
    ]
    result = list(findings)
    if index:
        raw = [float(findings[i].p_value or 0.0) for i in index]
        for i, p in zip(index, adjust_pvalues(raw, "holm"), strict=True):
            result[i] = findings[i].model_copy(
                update={"p_adjusted": float(p), "detected": bool(p <= policy.alpha)}
            )
    return result
