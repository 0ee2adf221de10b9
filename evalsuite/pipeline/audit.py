"""The run behind ``evalsuite audit``: one set in, every check that is possible out."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..data import open_dataset
from ..data.dataset import Limits
from ..encoders import FeatureCache
from ..gate.audit import (
    EXAMPLES,
    AuditResult,
    Check,
    Claims,
    GateSummary,
    Limit,
    Suspect,
    load_audit_policy,
    load_claims,
)
from ..gate.findings import Status, worst
from ..gate.judge import exit_code
from .audit_book import Book, say
from .audit_claims import Croissant, check_claims, check_provenance
from .audit_copies import near_copies
from .audit_labels import SMALLEST_CLASS, suspicious_labels
from .audit_media import Places, scan
from .plan import Part, make_plan, sample_groups
from .run import Run, dataset_summary, encoder_summaries, library_versions, run_gate

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from ..data import Dataset
    from ..encoders import Encoded
    from ..gate.findings import DatasetSummary
    from .audit_media import Medium

log = logging.getLogger("evalsuite")

_PICTURES = 24
"""At most so many samples of a check are shown as pictures."""
_SUBGROUP = 30


@dataclass(frozen=True, slots=True)
class Audit:
    """A result, the pictures that its page shows, and the gate's run where there was one."""

    result: AuditResult
    thumbnails: Mapping[tuple[str, str], bytes]
    """``(role, sample id)`` to a small JPEG."""
    gate: Run | None


def audit(
    vendor: str | os.PathLike[str],
    *,
    real: str | os.PathLike[str] | None = None,
    holdout: str | os.PathLike[str] | None = None,
    claims: Claims | str | os.PathLike[str] | None = None,
    policy: str | os.PathLike[str] | None = None,
    cache: FeatureCache | bool | None = True,
    seed: int | None = None,
    device: str = "auto",
    allow_download: bool = False,
    allow_hosts: Sequence[str] = (),
    progress: bool | None = None,
    command: str = "",
) -> Audit:
    """Look at a set that somebody delivers, before it is accepted.

    Parameters
    ----------
    vendor : path
        The set.
    real : path, optional
        Real data that it is to be like. Without it, only checks that need none are made.
    holdout : path, optional
        Data that it must not hold: the test set.
    claims : Claims or path, optional
        What was promised.
    policy : path, optional
        A gate's policy with a section ``audit`` (:class:`~evalsuite.gate.audit.AuditPolicy`).
    cache, seed, device, allow_download, allow_hosts, progress
        As :func:`~evalsuite.pipeline.run.run_gate`.
    command : str
        The command line that the outputs show.

    Returns
    -------
    Audit

    Raises
    ------
    PolicyError
        If the policy or the claims are not valid.
    DataError
        If a set is missing, or has no sample that can be read.
    """
    began, start = time.time(), time.perf_counter()
    limits, gate_policy = load_audit_policy(None if policy is None else Path(policy))
    promised = claims if claims is None or isinstance(claims, Claims) else load_claims(Path(claims))
    if seed is not None:
        gate_policy = gate_policy.model_copy(update={"seed": seed})
    store = FeatureCache() if cache is True else cache or None
    data = open_dataset(vendor, allow_hosts=allow_hosts)
    beside = None if holdout is None else open_dataset(holdout, allow_hosts=allow_hosts)

    gated = None
    if real is not None:
        gated = run_gate(
            real,
            vendor,
            policy=gate_policy,
            cache=store,
            progress=progress,
            device=device,
            allow_download=allow_download,
            allow_hosts=allow_hosts,
        )
    book = Book(
        data=data,
        places=Places(data, vendor),
        limits=limits,
        policy=gate_policy,
        gate=gated,
    )
    bare = gate_policy.model_copy(
        update={
            "ties": gate_policy.ties.model_copy(update={"image_text": None, "audio_text": None})
        }
    )
    reference = data if real is None else open_dataset(real, allow_hosts=allow_hosts)
    if real is None and beside is not None and set(beside.modalities) & set(data.modalities):
        reference = beside
    encoded = {name: part.right for name, part in (gated.parts if gated else {}).items()}
    alone = make_plan(
        bare,
        {"real": data, "synthetic": data},
        device=device,
        allow_download=allow_download,
        cache=store,
    )
    both = (
        make_plan(
            bare,
            {"real": reference, "synthetic": data},
            device=device,
            allow_download=allow_download,
            cache=store,
        )
        if reference is not data
        else alone
    )
    for plan in (both, alone):
        for modality in plan.modalities:
            if modality not in encoded:
                encoded[modality] = plan.encode(
                    modality, data, "vendor", cache=store, progress=progress
                )
    book.vendor = encoded
    if beside is not None:
        book.holdout = {
            modality: both.encode(modality, beside, "holdout", cache=store, progress=progress)
            for modality in both.modalities
            if modality in beside.modalities
        }
    if gated is not None:
        book.real = {name: part.left for name, part in gated.parts.items()}

    summaries = {
        "vendor": gated.result.synthetic if gated else _described(data, book.vendor, "synthetic")
    }
    media = scan(data)
    croissant = Croissant.read(data)
    _integrity(book, media, summaries["vendor"])
    suspects = _labels(book)
    _balance(book, real is not None)
    _privacy(book, media)
    _copies(book, real is not None, beside is not None)
    _quality(book)
    _diversity(book)
    check_provenance(book, croissant)
    if promised is None:
        book.skip("claims", "claims", "needs_claims")
    else:
        check_claims(book, promised, media, summaries["vendor"], croissant)

    verdict = worst(check.status for check in book.checks)
    infos = [info for part in book.vendor.values() for info in part.infos]
    result = AuditResult(
        evalsuite_version=__version__,
        verdict=verdict,
        exit_code=exit_code(verdict),
        checks=tuple(book.checks),
        not_done=tuple(book.not_done),
        suspects=suspects,
        vendor=summaries["vendor"],
        real=gated.result.real if gated else None,
        holdout=None if beside is None else _described(beside, book.holdout, "holdout"),
        gate=None
        if gated is None
        else GateSummary(
            verdict=gated.result.verdict,
            reasons=gated.result.reasons,
            explanations=gated.result.explanations,
            findings=len(gated.result.findings),
        ),
        croissant=croissant.shown(),
        claims=None if promised is None else promised.canonical(),
        claims_sha256=None if promised is None else promised.sha256(),
        policy=limits.model_dump(mode="json"),
        gate_policy_sha256=gate_policy.sha256(),
        encoders=encoder_summaries(infos),
        seed=gate_policy.seed,
        command=command,
        versions=library_versions(),
        times={
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "seconds": round(time.perf_counter() - start, 3),
        },
    )
    return Audit(result=result, thumbnails=_pictures(book, result), gate=gated)


def _described(data: Dataset, encoded: Mapping[str, Encoded], role: str) -> DatasetSummary:
    parts = {
        name: Part(name, part, part, sample_groups(part, part)) for name, part in encoded.items()
    }
    return dataset_summary("real", data, parts).model_copy(update={"role": role})


# ---- integrity ---------------------------------------------------------------------------------


def _integrity(book: Book, media: Mapping[str, list[Medium]], summary: DatasetSummary) -> None:
    problems = [*book.data.problems, *(p for part in book.vendor.values() for p in part.problems)]
    lost = summary.n_found - summary.n_used
    book.share(
        "unreadable",
        "integrity",
        book.limits.unreadable,
        [
            book.example(p.sample, say("problem", kind=f"problem.{p.kind}", detail=p.detail))
            for p in sorted(problems, key=lambda p: not p.lost)
        ],
        summary.n_found,
        count=lost,
        details={"problems": summary.problems},
    )
    wrong = [
        book.example(sample, say("wrong_ending", format=m.format, ending=m.ending))
        for sample, held in media.items()
        for m in held
        if m.ending
    ]
    files = sum(len(held) for held in media.values())
    if files:
        book.share("mislabelled_type", "integrity", book.limits.mislabelled_type, wrong, files)
    contents = _contents(book.vendor)
    first: dict[tuple[str, ...], str] = {}
    repeats = []
    for sample, content in contents.items():
        if (original := first.setdefault(content, sample)) != sample:
            repeats.append(
                book.example(
                    sample, say("repeats", other=original), partner=original, partner_role="vendor"
                )
            )
    book.share("duplicates", "integrity", book.limits.duplicates, repeats, len(contents))
    for modality, part in book.vendor.items():
        if modality == "text":
            continue
        if modality not in book.real:
            book.skip("near_duplicates", "integrity", "needs_real", modality)
            continue
        _near(book, "near_duplicates", "integrity", modality, part, book.real[modality], None,
              book.limits.duplicates, "vendor")  # fmt: skip


def _contents(encoded: Mapping[str, Encoded]) -> dict[str, tuple[str, ...]]:
    """Give what each sample holds: its media, for a caption may well repeat; else its text."""
    chosen = [name for name in encoded if name != "text"] or list(encoded)
    found: dict[str, tuple[str, ...]] = {}
    for name in chosen:
        for sample, digest in zip(encoded[name].samples, encoded[name].hashes, strict=True):
            found[sample.id] = (*found.get(sample.id, ()), digest)
    return found


# ---- labels ------------------------------------------------------------------------------------


def _labels(book: Book) -> tuple[Suspect, ...]:
    labels = {s.id: s.label for s in book.data.samples if s.label is not None}
    if len(set(labels.values())) < 2:
        book.skip("label_suspects", "labels", "no_labels")
        return ()
    contents = _contents(book.vendor)
    named: dict[tuple[str, ...], dict[str, str]] = {}
    for sample, content in contents.items():
        if sample in labels:
            named.setdefault(content, {}).setdefault(labels[sample], sample)
    conflicts = [
        book.example(
            sample,
            say("conflict", label=labels[sample], other=other, other_label=label),
            partner=other,
            partner_role="vendor",
        )
        for sample, content in contents.items()
        if sample in labels
        for label, other in list(named[content].items())[:2]
        if label != labels[sample]
    ]
    book.share(
        "conflicting_labels", "labels", book.limits.conflicting_labels, conflicts, len(labels)
    )
    found: list[Suspect] = []
    for modality, part in book.vendor.items():
        info = part.infos[0]
        try:
            report = suspicious_labels(
                part.features[info.id],
                [s.label for s in part.samples],
                [s.group or h for s, h in zip(part.samples, part.hashes, strict=True)],
                seed=book.policy.seed,
            )
        except ValueError:
            book.skip("label_suspects", "labels", "small_classes", modality, n=SMALLEST_CLASS)
            continue
        if not report.tells:
            book.skip("label_suspects", "labels", "cannot_tell", modality, share=report.accuracy)
            continue
        mine = [
            Suspect(
                sample=part.samples[row].id,
                place=book.places.of(part.samples[row].id),
                modality=modality,
                label=str(part.samples[row].label),
                suggested=suggested,
                p_label=p,
                p_suggested=q,
            )
            for row, suggested, p, q in zip(
                report.rows, report.suggested, report.p_label, report.p_suggested, strict=True
            )
        ]
        found += mine
        book.share(
            "label_suspects",
            "labels",
            book.limits.label_suspects,
            [
                book.example(
                    s.sample,
                    say("suspect", label=s.label, suggested=s.suggested, p=s.p_label,
                        q=s.p_suggested),
                )
                for s in mine
            ],
            report.judged,
            modality=modality,
            details={
                "encoder": info.id,
                "accuracy": report.accuracy,
                "left_out": report.left_out,
            },
        )  # fmt: skip
    return tuple(sorted(found, key=lambda s: (s.p_label, s.sample)))


def _balance(book: Book, has_real: bool) -> None:
    if not has_real or book.gate is None:
        book.skip("class_balance", "balance", "needs_real")
        return
    mine, theirs = book.gate.result.synthetic.labels, book.gate.result.real.labels
    if not mine or not theirs:
        book.skip("class_balance", "balance", "no_labels")
        return
    from scipy.stats import chi2_contingency

    names = sorted({*mine, *theirs})
    n, m = sum(mine.values()), sum(theirs.values())
    table = [[counts.get(name, 0) for name in names] for counts in (mine, theirs)]
    p = float(chi2_contingency(table).pvalue) if len(names) > 1 else 1.0
    value = sum(abs(a / n - b / m) for a, b in zip(*table, strict=True)) / 2
    missing, unknown = ([x for x in names if x not in counts] for counts in (mine, theirs))
    limit = book.limits.class_shift
    status = limit.status(value) if p <= book.limits.alpha else Status.PASS
    if (missing or unknown) and status is Status.PASS:
        status = Status.WARN
    book.checks.append(
        Check(
            id="class_balance",
            area="balance",
            status=status,
            value=value,
            warn=limit.warn,
            fail=limit.fail,
            p_value=p,
            message=say(
                "class_balance", share=value, p=p, missing=len(missing), unknown=len(unknown)
            ),
            details={"missing": missing[:EXAMPLES], "unknown": unknown[:EXAMPLES]},
        )
    )


# ---- privacy -----------------------------------------------------------------------------------


def _privacy(book: Book, media: Mapping[str, list[Medium]]) -> None:
    files = sum(len(held) for held in media.values())
    if files:
        book.share(
            "metadata_leaks",
            "privacy",
            book.limits.metadata_leaks,
            [
                book.example(sample, say("leak", kind=f"leak.{kind}"))
                for sample, held in media.items()
                for m in held
                for kind in m.leaks
            ],
            files,
        )
    from ..generators.privacy.text import find_pii

    examples = []
    texts = 0
    for sample in book.data.samples:
        said = [t for t in (sample.text, sample.label) if t]
        texts += bool(said)
        kinds = dict.fromkeys(
            span.kind
            for text in said
            for span in find_pii(text[: Limits().max_text], book.limits.personal_kinds)
        )
        # What it is is said, and never what it says: the page must not spread it.
        examples += [
            book.example(sample.id, say("personal", kind=f"personal.{kind}")) for kind in kinds
        ]
    if texts:
        book.share("personal_text", "privacy", book.limits.personal_text, examples, texts)


# ---- copies ------------------------------------------------------------------------------------


def _copies(book: Book, has_real: bool, has_holdout: bool) -> None:
    for role, given, limit in (
        ("real", has_real, book.limits.copies_of_real),
        ("holdout", has_holdout, book.limits.copies_of_holdout),
    ):
        names = (f"exact_copies_of_{role}", f"near_copies_of_{role}")
        if not given:
            for name in names:
                book.skip(name, "copies", f"needs_{role}")
            continue
        others = book.real if role == "real" else book.holdout
        for modality, part in book.vendor.items():
            if modality == "text" and len(book.vendor) > 1:
                continue  # captions and transcripts may well be alike
            if modality not in others:
                for name in names:
                    book.skip(name, "copies", "not_there", modality)
                continue
            base = others[modality]
            known = {h: s.id for s, h in zip(reversed(base.samples), reversed(base.hashes),
                                             strict=True)}  # fmt: skip
            exact = [
                book.example(
                    s.id, say("is_copy", other=known[h]), partner=known[h], partner_role=role
                )
                for s, h in zip(part.samples, part.hashes, strict=True)
                if h in known
            ]
            book.share(names[0], "copies", limit, exact, len(part), modality=modality)
            if modality == "text":
                _near_texts(book, names[1], part, base, limit, role)
            else:
                gauge = (book.holdout if role == "real" else book.real).get(modality)
                _near(book, names[1], "copies", modality, part, base, gauge, limit, role)
    if "text" in book.vendor and len(book.vendor) == 1:
        _near_texts(
            book, "near_duplicates", book.vendor["text"], None, book.limits.duplicates, "vendor"
        )
    if has_real and has_holdout:
        both = [
            (name, set(book.real[name].hashes), set(book.holdout[name].hashes))
            for name in book.real
            if name in book.holdout and (name != "text" or len(book.real) == 1)
        ]
        shared = sum(len(a & b) for _, a, b in both)
        of = sum(len(b) for _, _, b in both)
        if of:
            book.share("overlap", "copies", book.limits.copies_of_holdout, [], of, count=shared)


def _near(
    book: Book,
    check: str,
    area: str,
    modality: str,
    part: Encoded,
    base: Encoded,
    gauge: Encoded | None,
    limit: Limit,
    role: str,
) -> None:
    """Look for near copies by features, with real distances as the yardstick."""
    own = role == "vendor"
    try:
        found = near_copies(
            part,
            base,
            part.infos[0].id,
            gauge=gauge,
            quantile=book.limits.near_quantile,
            own=own,
            seed=book.policy.seed,
        )
    except ValueError:
        book.skip(check, area, "too_few", modality)
        return
    others = part if own else base
    status = limit.status(found.certain / found.of)
    if found.p_value is not None and found.p_value <= book.limits.alpha:
        excess = found.unsure / found.of - found.expected
        more = Status.FAIL if excess > book.limits.max_near_excess else Status.WARN
        status = worst((status, more))
    examples = [
        book.example(
            part.samples[row].id,
            say(
                "near_unsure"
                if k >= found.certain
                else "near_certain"
                if distance < found.threshold
                else "near_pixels",
                other=others.samples[other].id,
                distance=distance,
                threshold=found.threshold,
            ),
            partner=others.samples[other].id,
            partner_role=role,
        )
        for k, (row, other, distance) in enumerate(
            zip(found.rows, found.partners, found.distances, strict=True)
        )
    ]
    book.checks.append(
        Check(
            id=check,
            area=area,
            modality=modality,
            status=status,
            count=found.certain,
            of=found.of,
            value=found.certain / found.of,
            warn=limit.warn,
            fail=limit.fail,
            p_value=found.p_value,
            message=say(
                check,
                count=found.certain,
                unsure=found.unsure,
                of=found.of,
                expected=found.expected * found.of,
                p=found.p_value,
            ),
            examples=tuple(examples[:EXAMPLES]),
            details={
                "encoder": part.infos[0].id,
                "threshold": found.threshold,
                "yardstick": "vendor size" if own else "real to real" if gauge is None else "other",
            },
        )
    )


def _near_texts(
    book: Book, check: str, part: Encoded, base: Encoded | None, limit: Limit, role: str
) -> None:
    from ..metrics.text.copies import near_copies as near_text_copies

    texts = [s.text or "" for s in part.samples]
    others = part.samples if base is None else base.samples
    report = near_text_copies(
        texts, real=None if base is None else [s.text or "" for s in others], seed=book.policy.seed
    )
    share = report.inside if base is None else report.of_real
    pairs = [] if share is None else share.pairs
    examples = [
        book.example(
            part.samples[p.synthetic].id,
            say("near_text", other=others[p.other].id, share=p.similarity),
            partner=others[p.other].id,
            partner_role=role,
        )
        for p in pairs
        if part.samples[p.synthetic].text != others[p.other].text
    ]
    area = "integrity" if base is None else "copies"
    count, of = len(examples), len(texts)
    book.checks.append(
        Check(
            id=check,
            area=area,
            modality="text",
            status=limit.status(count / of),
            count=count,
            of=of,
            value=count / of,
            warn=limit.warn,
            fail=limit.fail,
            message=say(f"{check}_text", count=count, of=of, share=report.threshold),
            examples=tuple(examples[:EXAMPLES]),
            details={"threshold": report.threshold, "missed": report.missed},
        )
    )


# ---- quality, diversity ------------------------------------------------------------------------


def _quality(book: Book) -> None:
    if book.gate is None:
        for check in ("gate", "drift", "subgroups"):
            book.skip(check, "quality", "needs_real")
        if len(book.data.modalities) > 1:
            book.skip("consistency", "quality", "needs_real")
        return
    result = book.gate.result
    judged = [f for f in result.findings if f.status is not Status.INFO]
    bad = sum(f.status is not Status.PASS for f in judged)
    book.checks.append(
        Check(
            id="gate",
            area="quality",
            status=result.verdict,
            message=say("gate", status=f"status.{result.verdict.value}", bad=bad, of=len(judged)),
            details={"reasons": [r.message.text for r in result.reasons]},
        )
    )
    drifted = len(result.explanations)
    measured = sum(f.kind == "attribute" for f in result.findings)
    if measured:
        book.checks.append(
            Check(
                id="drift",
                area="quality",
                status=Status.WARN if drifted else Status.PASS,
                message=say("drift", count=drifted, of=measured),
                details={"attributes": [m.text for m in result.explanations]},
            )
        )
    else:
        book.skip("drift", "quality", "too_few")
    for tie in (f for f in result.findings if f.kind == "tie"):
        if tie.status is Status.INFO or tie.message is None:
            continue
        book.checks.append(
            Check(
                id="consistency",
                area="quality",
                modality=tie.modality,
                status=tie.status,
                value=tie.gap,
                p_value=tie.p_adjusted,
                message=tie.message,
            )
        )
    _subgroups(book)


def _subgroups(book: Book) -> None:
    from ..metrics.utility.subgroups import subgroup_tests

    gated = book.gate
    for modality, part in (gated.parts if gated else {}).items():
        encoder = part.left.infos[0].id
        rows = [
            [i for i, s in enumerate(side.samples) if s.label is not None]
            for side in (part.left, part.right)
        ]
        names = [
            [str(side.samples[i].label) for i in index]
            for side, index in zip((part.left, part.right), rows, strict=True)
        ]
        if len(set(names[0]) & set(names[1])) < 2:
            book.skip("subgroups", "quality", "no_labels", modality)
            continue
        groups = [
            None if of is None else [of[i] for i in index]
            for of, index in zip(part.groups, rows, strict=True)
        ]
        report = subgroup_tests(
            part.left.features[encoder][rows[0]],
            part.right.features[encoder][rows[1]],
            names[0],
            names[1],
            groups_real=groups[0],
            groups_synthetic=groups[1],
            kernels=("polynomial",),
            min_n=_SUBGROUP,
            permutations=max(199, int(2 / book.limits.alpha)),
            level=book.policy.calibration.confidence,
            seed=book.policy.seed,
        )
        if report.worst is None:
            book.skip("subgroups", "quality", "small_subgroups", modality, n=_SUBGROUP)
            continue
        table = {}
        status, value, p, label = Status.PASS, 0.0, 1.0, report.worst.label
        for gap in report.gaps:
            kernel = gap.kernels["polynomial"]
            relative = kernel.relative or 0.0
            # The interval is of the value; both have the same scale.
            low = kernel.interval.low * (relative / kernel.value if kernel.value else 0.0)
            table[gap.label] = {
                "gap": relative, "low": low, "n_real": gap.n_real,
                "n_synthetic": gap.n_synthetic, "p_adjusted": gap.p_adjusted,
            }  # fmt: skip
            mine = Status.PASS
            if gap.p_adjusted <= book.limits.alpha:
                mine = book.limits.subgroup_gap.status(min(max(low, 0.0), 1.0))
            if worst((mine, status)) is not status:
                status, value, p, label = mine, relative, gap.p_adjusted, gap.label
        if status is Status.PASS:
            first = table[label]
            value, p = float(first["gap"]), float(first["p_adjusted"])
        book.checks.append(
            Check(
                id="subgroups",
                area="quality",
                modality=modality,
                status=status,
                value=value,
                warn=book.limits.subgroup_gap.warn,
                fail=book.limits.subgroup_gap.fail,
                p_value=p,
                message=say(
                    "subgroups",
                    of=len(report.gaps),
                    label=label,
                    gap=value,
                    p=p,
                    left=len(report.left_out),
                ),
                details={"encoder": encoder, "classes": table, "left_out": report.left_out},
            )
        )


def _diversity(book: Book) -> None:
    if book.gate is None:
        book.skip("mode_collapse", "diversity", "needs_real")
        return
    from ..metrics.distribution.diversity import vendi_ratio
    from ..metrics.distribution.modes import mode_tests

    for modality, part in book.gate.parts.items():
        encoder = part.left.infos[0].id
        x, y = part.left.features[encoder], part.right.features[encoder]
        shared: dict[str, Any] = {
            "groups_real": part.groups[0], "groups_synthetic": part.groups[1],
            "level": book.policy.calibration.confidence, "seed": book.policy.seed,
        }  # fmt: skip
        try:
            ratio = vendi_ratio(x, y, **shared)
            modes = mode_tests(x, y, alpha=book.limits.alpha, **shared)
        except ValueError:
            book.skip("mode_collapse", "diversity", "too_few", modality)
            continue
        high = ratio.value if ratio.ci is None else ratio.ci.high
        limit = book.limits.lost_variety
        status = limit.status(min(max(1 - high, 0.0), 1.0))
        p = min(modes.p_adjusted["hits"], modes.p_adjusted["birthday"])
        if p <= book.limits.alpha:
            status = worst((status, Status.WARN))
        book.checks.append(
            Check(
                id="mode_collapse",
                area="diversity",
                modality=modality,
                status=status,
                value=1 - ratio.value,
                warn=limit.warn,
                fail=limit.fail,
                p_value=p,
                message=say("mode_collapse", ratio=ratio.value, p=p),
                details={
                    "encoder": encoder,
                    "vendi_ratio": ratio.value,
                    "vendi_ratio_low": None if ratio.ci is None else ratio.ci.low,
                    "vendi_ratio_high": None if ratio.ci is None else ratio.ci.high,
                    "p_hits": modes.p_adjusted["hits"],
                    "p_birthday": modes.p_adjusted["birthday"],
                },
            )
        )


# ---- pictures ----------------------------------------------------------------------------------


def _pictures(book: Book, result: AuditResult) -> dict[tuple[str, str], bytes]:
    """Give the thumbnails of the samples that a check names first."""
    wanted: set[tuple[str, str]] = set()
    for check in result.checks:
        for e in check.examples[:_PICTURES]:
            wanted.add(("vendor", e.sample))
            if e.partner is not None and e.partner_role is not None:
                wanted.add((e.partner_role, e.partner))
    sides = {"vendor": book.vendor, "real": book.real, "holdout": book.holdout}
    found = {}
    for role, encoded in sides.items():
        part = encoded.get("image")
        for sample, picture in _shown(part):
            if (role, sample) in wanted:
                found[role, sample] = picture
    return found


def _shown(part: Encoded | None) -> Iterable[tuple[str, bytes]]:
    if part is None or not part.thumbnails:
        return ()
    return ((s.id, t) for s, t in zip(part.samples, part.thumbnails, strict=True))
