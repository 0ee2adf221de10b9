"""Several synthetic sets against one real set: who is nearer, beyond chance.

Every candidate is gated as by itself. The order is then resampled: in each of many draws a random
half of the real data, the same for all candidates, is compared with a random half of each. The
spread of a metric over random halves is that over whole sets (delete-half jackknife), and what
the candidates share, the real half, cancels in their differences.
"""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..data.dataset import BadSample, Limits
from ..data.files import open_table
from ..data.remote import is_address, parse
from ..encoders import FeatureCache
from ..errors import UsageError
from ..gate.comparison import Candidate, Column, Comparison, Score
from ..gate.findings import Interval, Status
from ..gate.policy import Policy, load_policy
from .calibrate import (
    NEIGHBOURS,
    SPECS,
    SPLIT_SIZE_FRECHET,
    SPLITS_FRECHET,
    Spec,
    drawn_by,
    spec_of,
)
from .external import plugins_of
from .run import JUDGED, Run, run_gate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..gate.findings import Finding, GateResult
    from ..metrics.pair import PairMetric

log = logging.getLogger("evalsuite")

REPLICATES = 200
LEVEL = 0.95
_METRICS = ("frechet_distance", "kid", "mmd_rbf", "precision", "recall", "density", "coverage")

Floats = npt.NDArray[np.float64]


def compare(
    real: str | os.PathLike[str],
    candidates: Sequence[str | os.PathLike[str]],
    *,
    names: Sequence[str] | None = None,
    doses: Sequence[float] | None = None,
    knobs: Sequence[str] = (),
    policy: Policy | str | os.PathLike[str] | None = None,
    cache: FeatureCache | bool | None = True,
    seed: int | None = None,
    device: str = "auto",
    allow_hosts: Sequence[str] = (),
    progress: bool | None = None,
    command: str = "",
) -> tuple[Comparison, dict[str, Run]]:
    """Rank synthetic sets by how near they are to the real one.

    Parameters
    ----------
    real : path
        The real set.
    candidates : sequence of path
        At least two synthetic sets.
    names : sequence of str, optional
        What to call them; their folder's names by default.
    doses : sequence of float, optional
        The setting of a generator's knob that each was made with, for a dose-response curve.
    knobs : sequence of str
        In place of ``doses``: the name of a parameter that the generated records state, and
        ``candidate=value`` for each candidate that has none.
    policy, cache, seed, device, allow_hosts, progress
        As :func:`~evalsuite.pipeline.run.run_gate`.
    command : str
        The command line that the outputs show.

    Returns
    -------
    comparison : Comparison
    runs : dict of str to Run
        The gate's run on each candidate, by name.

    Raises
    ------
    UsageError
        If there are fewer than two candidates, or names or doses do not fit them.
    DataError, PolicyError, ModelError
        As :func:`~evalsuite.pipeline.run.run_gate`.
    """
    labels = _names(candidates, names)
    if doses is not None and knobs:
        raise UsageError("give doses or knobs, not both: they say the same thing")
    if doses is not None and len(doses) != len(labels):
        raise UsageError(f"there are {len(labels)} candidates, but {len(doses)} doses")
    knob: str | None = None
    if knobs:
        knob, doses = knob_doses(candidates, labels, knobs, allow_hosts)
    chosen = (
        policy
        if isinstance(policy, Policy)
        else load_policy(None if policy is None else Path(policy))
    )
    if seed is not None:
        chosen = chosen.model_copy(update={"seed": seed})
    store = FeatureCache() if cache is True else cache or None
    runs = {
        name: run_gate(
            real,
            path,
            policy=chosen,
            cache=store,
            device=device,
            allow_hosts=allow_hosts,
            progress=progress,
        )
        for name, path in zip(labels, candidates, strict=True)
    }
    plugged = plugins_of(chosen, JUDGED).metrics
    columns, tables, orders, copied = _columns(runs, chosen, plugged)
    if not columns:
        raise UsageError(
            "the candidates have no metric in common that could be measured: see the report of "
            "each with `evalsuite gate`"
        )
    overall = np.mean(orders, axis=0)  # (candidates, replicates)
    mean_rank = overall.mean(axis=1)
    ranks, low, high = _ranking(overall, mean_rank)
    shapes = {name: _shape(runs[name].result, columns) for name in labels}
    front = _front({n: (*shapes[n], copied.get(n)) for n in labels})
    found = [
        Candidate(
            name=name,
            verdict=runs[name].result.verdict,
            data=runs[name].result.synthetic,
            dose=None if doses is None else float(doses[i]),
            mean_rank=float(mean_rank[i]),
            rank=int(ranks[i]),
            rank_low=int(low[i]),
            rank_high=int(high[i]),
            fidelity=shapes[name][0],
            coverage=shapes[name][1],
            copied=copied.get(name),
            on_front=name in front,
        )
        for i, name in enumerate(labels)
    ]
    found.sort(key=lambda c: (c.rank, c.mean_rank, c.name))
    if doses is not None:
        columns = [_with_dose(c, doses, tables[c.key]) for c in columns]
    comparison = Comparison(
        evalsuite_version=__version__,
        real=next(iter(runs.values())).result.real,
        candidates=tuple(found),
        columns=tuple(columns),
        knob=knob,
        agreement=_agreement(columns, labels) if len(labels) > 2 else {},
        replicates=REPLICATES,
        level=LEVEL,
        policy_sha256=chosen.sha256(),
        seed=chosen.seed,
        command=command,
    )
    return comparison, runs


def _names(candidates: Sequence[str | os.PathLike[str]], names: Sequence[str] | None) -> list[str]:
    if len(candidates) < 2:
        raise UsageError(
            f"a comparison needs at least two synthetic sets, got {len(candidates)}: for one, use "
            "`evalsuite gate`"
        )
    if names is not None:
        if len(names) != len(candidates):
            raise UsageError(f"there are {len(candidates)} candidates, but {len(names)} names")
        labels = list(names)
    else:
        labels = [Path(c).name or str(Path(c)) for c in candidates]
        if len(set(labels)) < len(labels):
            labels = [os.fspath(c) if is_address(c) else str(Path(c)) for c in candidates]
    if len(set(labels)) < len(labels):
        raise UsageError(f"each candidate needs a name of its own, got {', '.join(labels)}")
    return labels


def _halves(n: int, size: int, groups: Sequence[str] | None, seed: int) -> npt.NDArray[np.bool_]:
    """Draw the same random halves whenever asked with the same arguments: (n, REPLICATES).

    Where a set is larger than twice the common size, these are less than halves, and the spread
    is larger than that of the whole set: the ranks are then the more cautious.
    """
    from ..metrics.inference import split_masks

    drawn = split_masks(n, n, size, REPLICATES, groups_real=groups, seed=seed)["floor"]
    return np.ascontiguousarray(drawn[0][:n])


def _columns(
    runs: Mapping[str, Run], policy: Policy, plugged: Sequence[PairMetric]
) -> tuple[list[Column], dict[str, Floats], list[Floats], dict[str, float]]:
    """Give the columns, their draws, the orders in those judged, and each candidate's copies.

    Metrics of plugins get a column like evalsuite's own, from the same random halves.
    """
    import torch

    from ..metrics.distribution.frechet import frechet_splits
    from ..metrics.distribution.kernel import kernel_splits
    from ..metrics.distribution.manifold import manifold_splits

    labels = list(runs)
    judged = {rule.metric for rule in policy.rules}
    specs = {name: SPECS[name] for name in _METRICS}
    specs |= {metric.info.name: spec_of(metric) for metric in plugged}
    columns: list[Column] = []
    tables: dict[str, Floats] = {}
    orders: list[Floats] = []
    copied: dict[str, float] = {}
    encoders = [
        (part.modality, info.id)
        for part in next(iter(runs.values())).parts.values()
        for info in part.left.infos
    ]
    for modality, encoder in encoders:
        parts = [run.parts.get(modality) for run in runs.values()]
        if any(p is None or encoder not in p.right.features for p in parts):
            continue
        if min(p.smallest for p in parts if p is not None) < policy.min_samples:
            continue
        draws: dict[str, list[Floats]] = {}
        size = min(p.smallest for p in parts if p is not None) // 2
        size = min(size, policy.calibration.max_samples // 2)
        for k, (name, part) in enumerate(zip(labels, parts, strict=True)):
            if part is None:
                raise AssertionError
            a, b = part.left.features[encoder], part.right.features[encoder]
            z = torch.from_numpy(np.concatenate([a, b]).astype(np.float64))
            first = np.zeros((len(z), REPLICATES), dtype=bool)
            second = first.copy()
            first[: len(a)] = _halves(len(a), size, part.groups[0], policy.seed)
            second[len(a) :] = _halves(len(b), size, part.groups[1], policy.seed + 1 + k)
            kernels = kernel_splits(z, first, second, ("polynomial", "rbf"))
            values = {"kid": kernels["polynomial"], "mmd_rbf": kernels["rbf"]}
            values |= manifold_splits(z, first, second, k=NEIGHBOURS)
            values["frechet_distance"] = _frechet(z, first, second, frechet_splits, policy.seed)
            pooled = z.numpy()
            values |= {m.info.name: drawn_by(m, pooled, (first, second)) for m in plugged}
            for metric in specs:
                draws.setdefault(metric, []).append(np.asarray(values[metric], dtype=np.float64))
            copied.setdefault(name, _copied(a, b))
        for metric, spec in specs.items():
            findings = {
                name: _finding(run.result, modality, encoder, metric) for name, run in runs.items()
            }
            if any(f is None for f in findings.values()):
                continue
            sign = -1.0 if spec.higher_is_better else 1.0
            table = sign * np.stack(draws[metric])
            column = _column(spec, encoder, modality, findings, table, labels)
            columns.append(column)
            tables[column.key] = table
            if metric in judged:
                order = table.argsort(axis=0, kind="stable").argsort(axis=0).astype(float) + 1
                if order.shape[1] < REPLICATES:  # the Fréchet distance, on fewer draws
                    order = order[:, np.arange(REPLICATES) % order.shape[1]]
                orders.append(order)
    return columns, tables, orders, copied


def _frechet(
    z: Any,
    first: npt.NDArray[np.bool_],
    second: npt.NDArray[np.bool_],
    splits: Any,
    seed: int,
) -> Floats:
    """Take the Fréchet distance on fewer and smaller draws, for each costs size³."""
    keep = np.random.default_rng(seed).random(len(z))

    def thinned(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        some = masks[:, :SPLITS_FRECHET].copy()
        for column in some.T:
            rows = np.flatnonzero(column)
            if rows.size > SPLIT_SIZE_FRECHET:
                column[rows[np.argsort(keep[rows])[SPLIT_SIZE_FRECHET:]]] = False
        return some

    return np.asarray(splits(z, thinned(first), thinned(second)), dtype=np.float64)


def _finding(result: GateResult, modality: str, encoder: str, metric: str) -> Finding | None:
    for f in result.findings:
        if (f.modality, f.encoder, f.metric, f.slice) == (modality, encoder, metric, "all"):
            return f if f.gap is not None else None
    return None


def _ranking(
    table: Floats, centre: Floats
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give ranks, and the ends of 95 % of the resampled ones, of rows where lower is better.

    A candidate is better than another where the interval of their difference lies on one side of
    0; the rank is 1 + the number of better candidates.
    """
    from scipy.stats import norm

    k = len(table)
    # Over the pairs of one column, so that the whole order is wrong with at most 5 %.
    quantile = float(norm.ppf(1 - (1 - LEVEL) / max(1, k * (k - 1))))
    ranks = np.ones(k, dtype=np.int64)
    for i in range(k):
        for j in range(k):
            difference = table[i] - table[j]
            spread = float(difference.std(ddof=1))
            if i != j and centre[i] - centre[j] > quantile * spread:
                ranks[i] += 1
    order = table.argsort(axis=0, kind="stable").argsort(axis=0) + 1
    tail = (1 - LEVEL) / 2
    low = np.quantile(order, tail, axis=1, method="lower").astype(np.int64)
    high = np.quantile(order, 1 - tail, axis=1, method="higher").astype(np.int64)
    return ranks, np.minimum(low, ranks), high


def _column(
    spec: Spec,
    encoder: str,
    modality: str,
    findings: Mapping[str, Finding | None],
    table: Floats,
    labels: Sequence[str],
) -> Column:
    ranks, low, high = _ranking(table, table.mean(axis=1))
    scores = {}
    for i, name in enumerate(labels):
        f = findings[name]
        if f is None:
            raise AssertionError
        scores[name] = Score(
            value=f.value,
            gap=f.gap,
            gap_ci=f.gap_ci,
            tolerance=f.tolerance,
            status=f.status,
            rank=int(ranks[i]),
            rank_low=int(low[i]),
            rank_high=int(high[i]),
        )
    return Column(
        metric=spec.name,
        encoder=encoder,
        modality=modality,
        higher_is_better=spec.higher_is_better,
        gap_unit=spec.gap_unit,
        scores=scores,
    )


def _copied(real: npt.NDArray[np.float32], synthetic: npt.NDArray[np.float32]) -> float:
    """Share of synthetic samples nearer to a real one than 99 % of the real ones are."""
    from sklearn.neighbors import NearestNeighbors

    tree = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(real)
    own = tree.kneighbors(real)[0][:, 1]
    near = tree.kneighbors(synthetic, n_neighbors=1)[0][:, 0]
    return float((near < np.quantile(own, 0.01)).mean())


def _shape(result: GateResult, columns: Sequence[Column]) -> tuple[float | None, float | None]:
    found: dict[str, float | None] = {"precision": None, "coverage": None}
    first = columns[0]
    for metric in found:
        f = _finding(result, first.modality, first.encoder or "", metric)
        found[metric] = None if f is None else f.value
    return found["precision"], found["coverage"]


def _front(points: Mapping[str, tuple[float | None, float | None, float | None]]) -> set[str]:
    """Give those that no other one beats in fidelity, coverage and copying at once."""
    full = {
        name: (p, c, -k)
        for name, (p, c, k) in points.items()
        if p is not None and c is not None and k is not None
    }
    return {
        name
        for name, mine in full.items()
        if not any(
            all(o >= m for o, m in zip(other, mine, strict=True)) and other != mine
            for other in full.values()
        )
    }


def _agreement(
    columns: Sequence[Column], labels: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    from scipy.stats import kendalltau

    gaps = {c.key: [c.scores[name].gap for name in labels] for c in columns}
    found: dict[str, dict[str, float | None]] = {}
    for one, a in gaps.items():
        found[one] = {}
        for other, b in gaps.items():
            tau = float(kendalltau(a, b).statistic)
            found[one][other] = tau if np.isfinite(tau) else None
    return found


def _with_dose(column: Column, doses: Sequence[float], table: Floats) -> Column:
    """Add how steadily the gap follows the dose, over the candidates and over the draws of each."""
    from scipy.stats import kendalltau

    result = kendalltau(doses, [score.gap for score in column.scores.values()])
    if not np.isfinite(result.statistic):
        return column
    drawn = np.array([kendalltau(doses, draw).statistic for draw in table.T])
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if drawn.size else (-1, 1)
    return column.model_copy(
        update={
            "monotone": float(result.statistic),
            # The draws are of halves, whose order is the noisier; the whole sets' is within.
            "monotone_ci": Interval(
                low=min(float(low), float(result.statistic)),
                high=max(float(high), float(result.statistic)),
                level=LEVEL,
                method="percentiles over random halves",
            ),
            "monotone_p": float(result.pvalue),
        }
    )


def knob_doses(
    candidates: Sequence[str | os.PathLike[str]],
    labels: Sequence[str],
    knobs: Sequence[str],
    allow_hosts: Sequence[str] = (),
) -> tuple[str | None, list[float]]:
    """Find the setting of a generator's knob that each candidate was made with.

    Parameters
    ----------
    candidates : sequence of path
    labels : sequence of str
        Their names.
    knobs : sequence of str
        ``name``: a parameter in the records of ``evalsuite generate`` (``metadata.jsonl``); of one
        that was drawn anew for each sample, the mean. ``candidate=value``: said by hand.
    allow_hosts : sequence of str
        As :func:`compare`.

    Returns
    -------
    knob : str or None
        The name that was given.
    doses : list of float

    Raises
    ------
    UsageError
        If there are two names, a candidate that is none, or no value for a candidate.
    """
    said: dict[str, float] = {}
    names = []
    for knob in knobs:
        label, equals, value = knob.rpartition("=")
        if not equals:
            names.append(knob)
            continue
        if label not in labels:
            raise UsageError(f"--knob {knob}: no candidate is called {label!r}")
        try:
            said[label] = float(value)
        except ValueError:
            raise UsageError(f"--knob {knob}: {value!r} is no number") from None
        if not np.isfinite(said[label]):
            raise UsageError(f"--knob {knob}: the value must be finite")
    if len(names) > 1:
        raise UsageError(f"one knob at a time, got {', '.join(names)}")
    doses = []
    for label, path in zip(labels, candidates, strict=True):
        found = said.get(label)
        if found is None and names:
            found = _recorded(path, names[0], allow_hosts)
        if found is None:
            raise UsageError(
                f"nothing says the dose of {label!r}"
                + (f": its records have no number {names[0]!r}" if names else "")
                + f"; give it as --knob {shlex.quote(label)}=VALUE"
            )
        doses.append(found)
    return (names[0] if names else None), doses


def _recorded(
    folder: str | os.PathLike[str], knob: str, allow_hosts: Sequence[str]
) -> float | None:
    """Give the mean of a parameter over the records of a generated set; None without any."""
    limit = Limits().max_line
    values: list[float] = []
    try:
        records = (
            parse(folder, allow_hosts).child("metadata.jsonl")
            if is_address(folder)
            else str(Path(folder) / "metadata.jsonl")
        )
        with io.TextIOWrapper(open_table(records), encoding="utf-8") as lines:
            while line := lines.readline(limit):
                values += _stated(line, knob)
    except (OSError, BadSample, UnicodeDecodeError):
        return None
    return float(np.mean(values)) if values else None


def _stated(line: str, knob: str) -> list[float]:
    """Give a parameter out of one record: what was drawn, else what the operation was given."""
    try:
        row = json.loads(line)
        for column in ("params", "operation"):
            found = _numbers(json.loads(row[column]), knob)
            if found:
                return found[:1]
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # a row that is no record of a generator
    return []


def _numbers(value: Any, knob: str) -> list[float]:
    """Find the finite numbers under a key, however deep; a list of one is that one."""
    if isinstance(value, list):
        return [x for item in value for x in _numbers(item, knob)]
    if not isinstance(value, dict):
        return []
    found = value.get(knob)
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    own: list[float] = []
    if isinstance(found, int | float) and not isinstance(found, bool) and np.isfinite(found):
        own = [float(found)]
    return [*own, *_numbers(list(value.values()), knob)]


def best_verdict(comparison: Comparison) -> Status:
    """Give the best verdict among the candidates: a comparison passes where one of them may do."""
    order = (Status.PASS, Status.WARN, Status.INCONCLUSIVE, Status.FAIL, Status.ERROR)
    return min((c.verdict for c in comparison.candidates), key=order.index)
