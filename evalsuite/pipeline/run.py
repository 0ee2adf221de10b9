"""The run behind ``evalsuite gate``: data in, one result out."""

from __future__ import annotations

import difflib
import hashlib
import logging
import platform
import shlex
import time
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .. import __version__
from .. import metrics as metrics_package
from ..data import open_dataset
from ..encoders import FeatureCache, encode, load_encoder
from ..errors import PolicyError, UsageError
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
from .calibrate import SPECS, Measured, measure
from .explain import Drift, drifted_attributes, embedding_map, explanations, galleries

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from ..data import Dataset
    from ..encoders import Encoded

log = logging.getLogger("evalsuite")

PROBLEM_EXAMPLES = 100

_Groups: TypeAlias = tuple[list[str] | None, list[str] | None]


@dataclass(frozen=True, slots=True)
class Run:
    """A result, and the pictures that its report shows: ``(side, sample id)`` to image bytes."""

    result: GateResult
    thumbnails: Mapping[tuple[str, str], bytes]


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

        write_outputs(run.result, Path(out), thumbnails=run.thumbnails, **report)
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
    progress: bool | None = None,
    strict: bool = False,
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
    progress : bool, optional
        By default a bar is shown where standard error is a terminal.
    strict : bool
        Whether a warning ends in exit code 1.
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
    specs = chosen.encoders.get("image", ())
    if not specs:
        raise UsageError("the policy names no encoder for images: add `encoders: {image: [...]}`")
    # Both sets are opened, and the models found, before anything that takes long.
    with clock("open"):
        sides = {"real": open_dataset(real), "synthetic": open_dataset(synthetic)}
        encoders = [
            load_encoder(spec, device=device, allow_download=allow_download, cache=store)
            for spec in specs
        ]
    encoded: dict[str, Encoded] = {}
    for role, data in sides.items():
        with clock(f"encode {role}"):
            encoded[role] = encode(data, encoders, cache=store, progress=progress, label=role)
        for warning in encoded[role].warnings:
            log.warning("%s", warning)

    left, right = encoded["real"], encoded["synthetic"]
    summaries = {
        "real": _summary("real", sides["real"], left, None),
        "synthetic": _summary("synthetic", sides["synthetic"], right, left),
    }
    findings: list[Finding] = []
    maps: list[EmbeddingMap] = []
    shelves: list[Gallery] = []
    shown: set[tuple[str, str]] = set()
    groups = _groups(left, right)
    remember = _Memory(store, left, right, groups, chosen)

    def compute(encoder: str) -> bytes:
        return measure(
            left.features[encoder],
            right.features[encoder],
            groups_real=groups[0],
            groups_synthetic=groups[1],
            settings=chosen.calibration,
            seed=chosen.seed,
        ).to_bytes()

    for info in left.infos:
        if min(len(left.samples), len(right.samples)) < chosen.min_samples:
            findings.extend(_too_few(chosen, left, right, info.id))
            continue
        with clock(f"measure {info.id}"):
            stored = remember("measure", info.key, partial(compute, info.id))
            measured = Measured.from_bytes(stored)
        findings.extend(
            f.model_copy(update={"modality": info.modality, "encoder": info.id})
            for f in measured.findings
        )
        maps.append(embedding_map(info.id, left, right, measured, chosen.seed))
        shelves.extend(galleries(info.id, left, right, measured))
    with clock("attributes"):
        stored = remember(
            "attributes", "", lambda: drifted_attributes(left, right, groups, chosen).to_bytes()
        )
        drift = Drift.from_bytes(stored)
    findings = adjusted(findings, chosen)
    judged, verdict, reasons = judge(
        [*findings, *drift.findings],
        chosen,
        real=summaries["real"],
        synthetic=summaries["synthetic"],
    )
    for embedding in maps:
        shown.update((p.side, p.sample) for p in embedding.points)
    for gallery in shelves:
        for item in gallery.items:
            shown.add((item.side, item.sample))
            if item.partner is not None and item.partner_side is not None:
                shown.add((item.partner_side, item.partner))
    thumbnails = {
        (role, sample.id): thumbnail
        for role, part in encoded.items()
        for sample, thumbnail in zip(part.samples, part.thumbnails, strict=True)
        if (role, sample.id) in shown
    }
    result = GateResult(
        evalsuite_version=__version__,
        verdict=verdict,
        exit_code=exit_code(verdict, strict=strict),
        reasons=reasons,
        explanations=explanations(drift.findings),
        findings=judged,
        real=summaries["real"],
        synthetic=summaries["synthetic"],
        encoders=tuple(
            EncoderSummary(
                id=info.id,
                modality=info.modality,
                dim=info.dim,
                weights_sha256=info.weights_sha256,
                weights_source=info.weights_source,
                backend=info.backend,
                preprocessing=dict(info.preprocessing),
            )
            for info in left.infos
        ),
        maps=tuple(maps),
        galleries=tuple(shelves),
        attributes=drift.values,
        policy=chosen.canonical(),
        policy_sha256=chosen.sha256(),
        seed=chosen.seed,
        alpha=chosen.alpha,
        command=command or _command(real, synthetic, policy, seed),
        versions=_versions(),
        times={
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "seconds": {**clock.seconds, "total": clock.total()},
            "real": dict(left.timings),
            "synthetic": dict(right.timings),
        },
    )
    return Run(result=result, thumbnails=thumbnails)


def _check_metrics(policy: Policy) -> None:
    for rule in policy.rules:
        if rule.metric not in SPECS and rule.on_missing == "error":
            close = difflib.get_close_matches(rule.metric, SPECS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(SPECS)}"
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


def _command(real: object, synthetic: object, policy: object, seed: int | None) -> str:
    parts = ["evalsuite", "gate", str(real), str(synthetic)]
    if policy is not None and not isinstance(policy, Policy):
        parts += ["--policy", str(policy)]
    if seed is not None:
        parts += ["--seed", str(seed)]
    return shlex.join(parts)


def _versions() -> dict[str, str]:
    found = {"evalsuite": __version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "scikit-learn", "torch", "timm", "onnxruntime", "pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _summary(role: Any, data: Dataset, part: Encoded, real: Encoded | None) -> DatasetSummary:
    problems = [
        Problem(sample=p.sample, kind=p.kind, detail=p.detail)
        for p in (*data.problems, *part.problems)
    ]
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.kind] = counts.get(problem.kind, 0) + 1
    labels: dict[str, int] = {}
    groups: set[str] = set()
    for sample in part.samples:
        if sample.label is not None:
            labels[sample.label] = labels.get(sample.label, 0) + 1
        if sample.group is not None:
            groups.add(sample.group)
    originals = set(real.hashes) if real is not None else set()
    return DatasetSummary(
        role=role,
        name=data.name,
        format=data.format,
        fingerprint=part.fingerprint,
        n_found=data.n_found,
        n_used=len(part.samples),
        problems=dict(sorted(counts.items())),
        problem_examples=tuple(problems[:PROBLEM_EXAMPLES]),
        ignored=dict(sorted(data.ignored.items())),
        n_duplicates=len(part.hashes) - len(set(part.hashes)),
        n_exact_copies=sum(h in originals for h in part.hashes),
        labels=dict(sorted(labels.items())),
        groups=len(groups) or None,
        notes=dict(sorted(part.notes.items())),
    )


def _groups(left: Encoded, right: Encoded) -> _Groups:
    """Group of each sample, where any sample has one; a sample without is a group of its own."""
    if all(s.group is None for part in (left, right) for s in part.samples):
        return None, None
    first, second = (
        [s.group if s.group is not None else f"\0{side} alone {s.id}" for s in part.samples]
        for side, part in (("real", left), ("synthetic", right))
    )
    return first, second


def _code_digest() -> str:
    """Hash over the code that a stored measurement depends on: a new version computes anew."""
    here = Path(__file__).parent
    metrics = Path(metrics_package.__file__).parent
    digest = hashlib.sha256()
    for path in (here / "calibrate.py", here / "explain.py", *sorted(metrics.rglob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Memory:
    """Measurements that an earlier run on the very same input made."""

    def __init__(
        self,
        cache: FeatureCache | None,
        left: Encoded,
        right: Encoded,
        groups: _Groups,
        policy: Policy,
    ) -> None:
        self._cache = cache
        if cache is None:
            return
        lines = [
            _code_digest(),
            *sorted(f"{name} {version}" for name, version in _versions().items()),
            str(policy.seed),
            str(policy.alpha),
            policy.calibration.model_dump_json(),
        ]
        for side, part, names in (("real", left, groups[0]), ("synthetic", right, groups[1])):
            lines += [f"\1{side}", *part.hashes, "\1groups", *(names or ())]
        self._key = hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def __call__(self, name: str, key: str, compute: Callable[[], bytes]) -> bytes:
        if self._cache is None:
            return compute()
        return self._cache.memo(name, f"{self._key} {key}", compute)


def _too_few(policy: Policy, left: Encoded, right: Encoded, encoder: str) -> list[Finding]:
    """One finding for each metric that the policy asks for and that n is too small for."""
    return [
        Finding(
            kind="distribution",
            modality="image",
            metric=name,
            encoder=encoder,
            value=None,
            n_real=len(left.samples),
            n_synthetic=len(right.samples),
            n_required=policy.min_samples,
        )
        for name in dict.fromkeys(rule.metric for rule in policy.rules if rule.slice == "all")
    ]


def adjusted(findings: Sequence[Finding], policy: Policy) -> list[Finding]:
    """Add Holm-adjusted p-values over the findings that a rule judges."""
    from ..metrics.drift.multiplicity import adjust_pvalues

    judged = {rule.metric for rule in policy.rules}
    index = [i for i, f in enumerate(findings) if f.p_value is not None and f.metric in judged]
    result = list(findings)
    if index:
        raw = [float(findings[i].p_value or 0.0) for i in index]
        for i, p in zip(index, adjust_pvalues(raw, "holm"), strict=True):
            result[i] = findings[i].model_copy(
                update={"p_adjusted": float(p), "detected": bool(p <= policy.alpha)}
            )
    return result
