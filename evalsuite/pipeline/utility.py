"""What synthetic samples are worth in training: a learning curve, where both sides have labels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..gate.findings import Finding, Interval
from .slices import LABELLED, MOST_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..encoders import Encoded
    from ..gate.policy import Policy
    from .plan import Part

TRAINED = 400
"""At most so many samples of each side train the probe: a fit on more takes seconds each."""
TESTED = 400
TEST_SHARE = 0.4
"""Share of the real samples that the probe is tested on and never trained on."""
FEWEST = 40
"""Labelled samples a side, and tested ones, under which no curve is drawn."""
BOOTSTRAP = 1000


def utility_findings(
    part: Part, policy: Policy, remember: Callable[[str, str, Callable[[], bytes]], bytes]
) -> list[Finding]:
    """Train a linear probe on the first encoder's features, with and without synthetic samples.

    The real samples are split in two by their groups; the probe is tested on the one part alone.
    Synthetic samples of a class that the real data do not have, and exact repeats of a tested
    sample, are left out and counted.

    Parameters
    ----------
    part : Part
    policy : Policy
    remember : callable
        Keeps what an earlier run on the same input found.

    Returns
    -------
    list of Finding
        One, or none where fewer than 80 % of either side have labels, or there are too few samples
        or classes to train on.
    """
    known = [
        [i for i, s in enumerate(side.samples) if s.label is not None]
        for side in (part.left, part.right)
    ]
    enough = all(
        len(rows) >= max(LABELLED * len(side.samples), FEWEST)
        for rows, side in zip(known, (part.left, part.right), strict=True)
    )
    if not enough:
        return []
    encoder = part.left.infos[0].id

    def compute() -> bytes:
        found = _measured(part, encoder, known[0], known[1], policy)
        return json.dumps([f.model_dump(mode="json") for f in found]).encode()

    return [Finding.model_validate(f) for f in json.loads(remember("utility", encoder, compute))]


def _measured(
    part: Part, encoder: str, real_rows: list[int], synthetic_rows: list[int], policy: Policy
) -> list[Finding]:
    from ..metrics.utility.probes import utility_tests

    real, synthetic = part.left.features[encoder], part.right.features[encoder]
    labels = {side: _labels(side_of) for side, side_of in (("r", part.left), ("s", part.right))}
    rng = np.random.default_rng(policy.seed)
    train, test = _split(real_rows, labels["r"], part.groups[0], rng)
    classes = {labels["r"][i] for i in train} & {labels["r"][i] for i in test}
    if not 2 <= len(classes) <= MOST_CLASSES:
        return []
    train = [i for i in train if labels["r"][i] in classes][:TRAINED]
    test = [i for i in test if labels["r"][i] in classes][:TESTED]
    tested = {real[i].tobytes() for i in test}
    train = [i for i in train if real[i].tobytes() not in tested]
    # In a random order, of which the curve's points are the beginnings.
    added = [int(i) for i in rng.permutation(synthetic_rows) if labels["s"][i] in classes]
    foreign = len(synthetic_rows) - len(added)
    clean = [i for i in added if synthetic[i].tobytes() not in tested]
    copies = len(added) - len(clean)
    added = clean[:TRAINED]
    if min(len(train), len(test), len(added)) < FEWEST:
        return []
    groups = part.groups[0]
    try:
        report = utility_tests(
            (real[train], [labels["r"][i] for i in train]),
            (synthetic[added], [labels["s"][i] for i in added]),
            (real[test], [labels["r"][i] for i in test]),
            groups_test=None if groups is None else [groups[i] for i in test],
            probes=("linear",),
            repeats=1,
            bootstrap=BOOTSTRAP,
            level=policy.calibration.confidence,
            seed=policy.seed,
        )
    except ValueError:  # a probe that gets nothing right on the real data: there is no scale
        return []
    found = report.probes["linear"]
    curve = [
        {
            "added": point.n_added,
            "score": point.score,
            "gain": point.gain,
            "low": point.interval.low,
            "high": point.interval.high,
        }
        for point in found.curve
    ]
    return [
        Finding(
            kind="distribution",
            modality=part.modality,
            metric="utility",
            encoder=encoder,
            value=found.value,
            unit="accuracy for accuracy",
            higher_is_better=True,
            best=1.0,
            n_real=len(train) + len(test),
            n_synthetic=len(added),
            gap=1.0 - found.value,
            gap_ci=Interval(
                low=1.0 - found.interval.high,
                high=1.0 - found.interval.low,
                level=found.interval.level,
                method=found.interval.method,
            ),
            gap_unit="share of accuracy lost",
            details={
                "classes": len(classes),
                "chance": report.chance,
                "missing_classes": len(report.missing),
                "trained_on": len(train),
                "tested_on": len(test),
                "synthetic_to_real": found.tstr.value,
                "real_to_real": found.trtr.value,
                "left_out_other_classes": foreign,
                "left_out_copies": copies,
                "next": found.next_gain.step,
                "next_gain": found.next_gain.value,
                "next_low": found.next_gain.interval.low,
                "next_high": found.next_gain.interval.high,
                "curve": curve,
            },
        )
    ]


def _labels(side: Encoded) -> list[str]:
    return [s.label or "" for s in side.samples]


def _split(
    rows: list[int],
    labels: Sequence[str],
    groups: Sequence[str] | None,
    rng: np.random.Generator,
) -> tuple[list[int], list[int]]:
    """Split rows into training and test, groups whole and classes evenly, both in random order."""
    shuffled: npt.NDArray[np.int64] = rng.permutation(rows)
    units: dict[str, list[int]] = {}
    for i in shuffled.tolist():
        units.setdefault(groups[i] if groups is not None else f"\0{i}", []).append(i)
    train: list[int] = []
    test: list[int] = []
    seen: dict[str, list[int]] = {}
    for unit in units.values():
        # A group goes where its first sample's class is short of its share.
        trained, tested = seen.setdefault(labels[unit[0]], [0, 0])
        to_test = tested < TEST_SHARE * (trained + tested + len(unit) / 2)
        (test if to_test else train).extend(unit)
        seen[labels[unit[0]]][int(to_test)] += len(unit)
    return train, test
