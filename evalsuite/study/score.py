"""``evalsuite study score``: from ratings and the key to what people said, and how surely."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import __version__
from ..errors import DataError, UsageError
from ..gate.findings import Interval, Value
from ..metrics.human.agreement import krippendorff_alpha
from ..metrics.human.correlation import FEWEST, rank_correlation
from ..metrics.human.opinion import (
    Components,
    items_for_precision,
    mean_opinion_score,
    opinion_difference,
)
from ..metrics.human.preference import bradley_terry
from ..metrics.human.screening import screen_raters
from ..report.text import clean
from .design import CHOICES, Kind, SetInfo, read_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from ..gate.findings import GateResult
    from ..metrics._result import Interval as MetricInterval
    from .design import Key

SCHEMA_VERSION = "1.0"
MAX_FILE = 20_000_000
SUSPECTS = 200


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Vote(_Strict):
    """One answer, as the page saves it."""

    trial: Annotated[str, Field(max_length=32)]
    choice: Annotated[int, Field(ge=0, le=9)]
    seconds: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
    position: Annotated[int, Field(ge=0, le=100_000)]
    turned: bool


class Ratings(_Strict):
    """One rater's file."""

    format: Literal["evalsuite-ratings"]
    schema_version: Literal["1.0"]
    study: Annotated[str, Field(max_length=64)]
    rater: Annotated[str, Field(min_length=1, max_length=200)]
    started: Annotated[str, Field(max_length=64)]
    saved: Annotated[str, Field(max_length=64)]
    complete: bool
    votes: Annotated[list[Vote], Field(max_length=10_000)]


class Estimate(Value):
    """A number with its interval; where there is none, why not."""

    value: float | None
    interval: Interval | None = None
    standard_error: float | None = None
    raters: int = 0
    items: int = 0
    votes: int = 0
    why: str | None = None


class SetScore(Value):
    """What people said of one set, or of one label in it."""

    set: str
    label: str | None = None
    estimate: Estimate


class Contrast(Value):
    """One set against another: a difference, or for ``ab`` the share of wins of the first."""

    first: str
    second: str
    estimate: Estimate
    ties: int = 0


class StrengthScore(Value):
    """A set's win rate against all others, by the Bradley–Terry model."""

    set: str
    strength: float
    win_rate: float
    interval: Interval


class RaterScore(Value):
    """One rater, and whether the votes count."""

    rater: str
    file: str
    votes: int
    complete: bool
    catch_passed: int
    catch_shown: int
    seconds: float | None
    correlation: float | None
    reasons: tuple[str, ...]


class Refused(Value):
    """A file that is not used."""

    file: str
    why: str


class MetricScore(Value):
    """How an automatic metric goes with people."""

    metric: str
    level: Literal["item", "set"]
    kind: Literal["spearman", "kendall"]
    estimate: Estimate


class Suspect(Value):
    """An item whose label most raters call wrong."""

    set: str
    sample: str
    label: str | None
    wrong: int
    votes: int


class StudyResult(Value):
    """All that a study found."""

    schema_version: str = SCHEMA_VERSION
    evalsuite_version: str = __version__
    study: str
    kind: Kind
    level: float
    sets: tuple[SetInfo, ...]
    raters: tuple[RaterScore, ...]
    refused: tuple[Refused, ...] = ()
    screened: bool
    """Whether raters with reasons against them were left out."""
    scores: tuple[SetScore, ...] = ()
    by_label: tuple[SetScore, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    strengths: tuple[StrengthScore, ...] = ()
    strengths_why: str | None = None
    first_shown: Estimate | None = None
    """``ab``: the share of votes, ties left out, for the item that was shown first."""
    abstained: int = 0
    agreement: Estimate
    agreement_level: str
    metrics: tuple[MetricScore, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    suspects_total: int = 0
    items_needed: int | None = None
    """Items of each set that would give the precision that was planned, by what was measured."""
    precision: float | None = None

    @property
    def kept(self) -> int:
        """Raters whose votes count."""
        return sum(not (self.screened and r.reasons) for r in self.raters)


@dataclass(frozen=True, slots=True)
class _Votes:
    """The votes as a table: a row for each rater, a column for each ordinary trial."""

    raters: list[Ratings]
    trials: list[str]
    values: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    passed: list[int]
    shown: list[int]


def score_study(
    folder: str | Path,
    ratings: Iterable[str | Path],
    *,
    results: Sequence[GateResult] = (),
    scores: str | Path | None = None,
    keep_all: bool = False,
    level: float = 0.95,
) -> StudyResult:
    """Score a study.

    Parameters
    ----------
    folder : path
        That ``evalsuite study new`` wrote; only its ``key.json`` is read.
    ratings : iterable of path
        The raters' files. One that is damaged, of another study, or a rater's second one, is left
        out and named in the result.
    results : sequence of GateResult
        Of the study's sets against the real one, to compare their metrics with the votes.
    scores : path, optional
        CSV with a column ``sample``, if need be ``set``, and a column for each metric of samples.
    keep_all : bool
        Use the votes of raters who failed the screening too.
    level : float
        Nominal coverage of the intervals.

    Returns
    -------
    StudyResult

    Raises
    ------
    DataError
        If no file can be used, or the screening leaves no rater.
    UsageError
        If a result or the CSV is of no set of the study.
    """
    if not 0.5 < level < 1:
        raise UsageError(f"the level must lie between 0.5 and 1, got {level}")
    key = read_key(folder)
    read, refused = _read_all(key, ratings)
    if not read:
        told = "; ".join(f"{r.file}: {r.why}" for r in refused[:3]) or "none was given"
        raise DataError(f"no ratings can be used: {told}")
    votes = _tabulate(key, [r for r, _ in read])
    checks = screen_raters(
        votes.values,
        catch_passed=votes.passed,
        catch_shown=votes.shown,
        seconds=votes.seconds,
        # Where sets do not differ, honest raters agree no more than chance: only a scale of marks
        # can be used against the others' or not at all.
        min_correlation=0.0 if key.kind == "mos" else None,
        refuse_constant=key.kind == "mos",
    )
    raters = tuple(
        RaterScore(
            rater=clean(r.rater, 80),
            file=file,
            votes=check.votes,
            complete=check.votes == len(votes.trials),
            catch_passed=check.catch_passed,
            catch_shown=check.catch_shown,
            seconds=check.seconds,
            correlation=check.correlation,
            reasons=check.reasons,
        )
        for (r, file), check in zip(read, checks, strict=True)
    )
    rows = [k for k, r in enumerate(raters) if keep_all or not r.reasons]
    if not rows:
        raise DataError(
            "the screening leaves no rater: look at the catch trials and times, or use --keep-all"
        )
    table = votes.values[rows]
    found: dict[str, Any] = {}
    if key.kind == "ab":
        found |= _preferences(key, votes, rows, level)
    else:
        found |= _opinions(key, votes.trials, table, level)
    scale = "ordinal" if key.kind == "mos" else "nominal"
    if results or scores is not None:
        found["metrics"] = _metric_scores(key, votes.trials, table, found, results, scores, level)
    return StudyResult(
        study=key.study,
        kind=key.kind,
        level=level,
        sets=key.sets,
        raters=raters,
        refused=tuple(refused),
        screened=not keep_all,
        agreement=_agreement(table, scale, level),
        agreement_level=scale,
        precision=key.precision,
        **found,
    )


def _read_all(
    key: Key, files: Iterable[str | Path]
) -> tuple[list[tuple[Ratings, str]], list[Refused]]:
    best: dict[str, tuple[Ratings, str]] = {}
    refused: list[Refused] = []
    for path in files:
        name = clean(str(path), 200)
        try:
            new = _read(key, Path(path))
        except DataError as error:
            refused.append(Refused(file=name, why=str(error)))
            continue
        old = best.get(new.rater)
        if old is None:
            best[new.rater] = (new, name)
        elif old[0].started != new.started:
            why = f"rater {clean(new.rater, 60)!r} is in {old[1]} already: are these two people?"
            refused.append(Refused(file=name, why=why))
        else:
            less = name if len(new.votes) <= len(old[0].votes) else old[1]
            why = f"rater {clean(new.rater, 60)!r} saved again, with at least as many votes"
            refused.append(Refused(file=less, why=why))
            if less != name:
                best[new.rater] = (new, name)
    return list(best.values()), refused


def _read(key: Key, file: Path) -> Ratings:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE:
        raise DataError(f"is larger than {MAX_FILE:,} bytes: no rating is")
    try:
        plain = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):  # a number of thousands of digits is a bare ValueError
        raise DataError("is not JSON") from None
    try:
        ratings = Ratings.model_validate(plain, strict=None)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise DataError(f"is no file of ratings: {clean(where, 60)}: {first['msg']}") from None
    if ratings.study != key.study:
        raise DataError(f"is of another study ({clean(ratings.study, 20)!r}, not {key.study!r})")
    seen: set[str] = set()
    for vote in ratings.votes:
        if vote.trial not in key.trials:
            raise DataError(f"has a vote on the unknown trial {clean(vote.trial, 32)!r}")
        if vote.trial in seen:
            raise DataError(f"has two votes on the trial {vote.trial!r}")
        if vote.choice not in CHOICES[key.kind]:
            raise DataError(f"has the impossible vote {vote.choice} on the trial {vote.trial!r}")
        seen.add(vote.trial)
    if not seen & set(key.ordinary()):
        raise DataError("holds no vote")
    return ratings


def _tabulate(key: Key, raters: list[Ratings]) -> _Votes:
    trials = sorted(key.ordinary())
    columns = {name: k for k, name in enumerate(trials)}
    values = np.full((len(raters), len(trials)), np.nan)
    seconds = np.full_like(values, np.nan)
    passed, shown = [0] * len(raters), [0] * len(raters)
    for r, ratings in enumerate(raters):
        for vote in ratings.votes:
            trial = key.trials[vote.trial]
            choice = _meaning(key.kind, vote.choice, trial.items)
            if trial.passes is not None:
                shown[r] += 1
                passed[r] += choice in trial.passes
                continue
            values[r, columns[vote.trial]] = _value(key.kind, choice)
            seconds[r, columns[vote.trial]] = vote.seconds
    return _Votes(raters, trials, values, seconds, passed, shown)


def _meaning(kind: Kind, choice: int, items: tuple[str, ...]) -> int:
    """Give a vote in the key's order: the page has the items of a pair in the order of names."""
    if kind == "ab" and choice and list(items) != sorted(items):
        return 3 - choice
    return choice


def _value(kind: Kind, choice: int) -> float:
    if kind == "ab":
        return {1: 1.0, 2: 0.0, 0: 0.5}[choice]
    if kind == "real-or-synthetic":
        return float(choice == 1)
    if kind == "label":
        return {1: 0.0, 0: 1.0, 2: math.nan}[choice]
    return float(choice)


def _interval(found: MetricInterval, low: float = -math.inf, high: float = math.inf) -> Interval:
    return Interval(
        low=max(found.low, low),
        high=min(found.high, high),
        level=found.level,
        method=found.method,
    )


_ENDS: dict[Kind, tuple[float, float]] = {
    "mos": (1.0, 5.0),
    "ab": (0.0, 1.0),
    "real-or-synthetic": (0.0, 1.0),
    "label": (0.0, 1.0),
}


def _mean(table: npt.NDArray[np.float64], kind: Kind, level: float) -> Estimate:
    there = ~np.isnan(table)
    votes = int(there.sum())
    raters, items = int(there.any(axis=1).sum()), int(there.any(axis=0).sum())
    try:
        found = mean_opinion_score(table, level=level)
    except ValueError as error:
        mean = float(np.nanmean(table)) if votes else None
        return Estimate(value=mean, raters=raters, items=items, votes=votes, why=str(error))
    return Estimate(
        value=found.value,
        interval=_interval(found.interval, *_ENDS[kind]),
        standard_error=found.standard_error,
        raters=raters,
        items=items,
        votes=votes,
    )


def _columns(key: Key, trials: list[str]) -> dict[str, list[int]]:
    by_set: dict[str, list[int]] = {info.name: [] for info in key.sets}
    for k, name in enumerate(trials):
        by_set[key.items[key.trials[name].items[0]].set].append(k)
    return by_set


def _opinions(
    key: Key, trials: list[str], table: npt.NDArray[np.float64], level: float
) -> dict[str, Any]:
    by_set = _columns(key, trials)
    scores, labels, contrasts = [], [], []
    for name, columns in by_set.items():
        scores.append(SetScore(set=name, estimate=_mean(table[:, columns], key.kind, level)))
        by_label: dict[str, list[int]] = defaultdict(list)
        for k in columns:
            label = key.items[key.trials[trials[k]].items[0]].label
            if label is not None:
                by_label[label].append(k)
        if len(by_label) > 1:
            labels += [
                SetScore(set=name, label=label, estimate=_mean(table[:, own], key.kind, level))
                for label, own in sorted(by_label.items())
            ]
    first, *others = by_set
    for name in others:
        try:
            found = opinion_difference(table[:, by_set[name]], table[:, by_set[first]], level=level)
            estimate = Estimate(
                value=found.value,
                interval=_interval(found.interval),
                standard_error=found.standard_error,
                raters=found.raters,
            )
        except ValueError as error:
            estimate = Estimate(value=None, why=str(error))
        contrasts.append(Contrast(first=name, second=first, estimate=estimate))
    found_all: dict[str, Any] = {
        "scores": tuple(scores),
        "by_label": tuple(labels),
        "contrasts": tuple(contrasts),
        "items_needed": _items_needed(key, table, by_set),
    }
    if key.kind == "label":
        wrong, seen = np.nansum(table, axis=0), (~np.isnan(table)).sum(axis=0)
        order = sorted(np.flatnonzero(2 * wrong > seen), key=lambda k: (-wrong[k] / seen[k], k))
        items = [key.items[key.trials[trials[k]].items[0]] for k in order]
        found_all["suspects"] = tuple(
            Suspect(
                set=item.set,
                sample=item.sample,
                label=item.label,
                wrong=int(wrong[k]),
                votes=int(seen[k]),
            )
            for item, k in list(zip(items, order, strict=True))[:SUSPECTS]
        )
        found_all["suspects_total"] = len(order)
        found_all["abstained"] = int(np.isnan(table).sum())
    return found_all


def _items_needed(
    key: Key, table: npt.NDArray[np.float64], by_set: Mapping[str, list[int]]
) -> int | None:
    """Count the items that the planned precision needs, by the largest spread of any set."""
    if key.precision is None:
        return None
    needed = 0
    for columns in by_set.values():
        try:
            parts = mean_opinion_score(table[:, columns]).components
            if not isinstance(parts, Components):
                return None
            n = items_for_precision(key.precision, raters=len(table), components=parts)
        except ValueError:  # too few votes, or raters who differ too much: no n is known to do
            return None
        needed = max(needed, n)
    return needed


def _preferences(key: Key, votes: _Votes, rows: list[int], level: float) -> dict[str, Any]:
    table = votes.values[rows]
    names = [info.name for info in key.sets]
    ends = [
        tuple(key.items[token].set for token in key.trials[name].items) for name in votes.trials
    ]
    contrasts = []
    for a, b in combinations(names, 2):
        columns = [k for k, pair in enumerate(ends) if set(pair) == {a, b}]
        if not columns:
            continue
        part = table[:, columns].copy()
        turned = [i for i, k in enumerate(columns) if ends[k][0] != a]
        part[:, turned] = 1 - part[:, turned]
        contrasts.append(
            Contrast(
                first=a,
                second=b,
                estimate=_mean(part, "ab", level),
                ties=int((part == 0.5).sum()),
            )
        )
    rater, column = np.nonzero(~np.isnan(table))
    index = {name: k for k, name in enumerate(names)}
    first = [index[ends[k][0]] for k in column]
    second = [index[ends[k][1]] for k in column]
    outcome = (2 * table[rater, column] - 1).astype(int)
    strengths: tuple[StrengthScore, ...] = ()
    why = None
    try:
        fitted = bradley_terry(first, second, outcome, names, raters=rater.tolist(), level=level)
        strengths = tuple(
            StrengthScore(
                set=s.name,
                strength=s.strength,
                win_rate=s.win_rate,
                interval=_interval(s.win_rate_interval),
            )
            for s in fitted.strengths
        )
    except ValueError as error:
        why = str(error)
    return {
        "contrasts": tuple(contrasts),
        "strengths": strengths,
        "strengths_why": why,
        "first_shown": _first_shown(key, votes, rows, level),
    }


def _first_shown(key: Key, votes: _Votes, rows: list[int], level: float) -> Estimate:
    """Give how often the item that stood first was chosen: ½ where the side did not matter."""
    columns = {name: k for k, name in enumerate(votes.trials)}
    chosen = np.full((len(rows), len(columns)), np.nan)
    for i, r in enumerate(rows):
        for vote in votes.raters[r].votes:
            if vote.choice and vote.trial in columns:
                chosen[i, columns[vote.trial]] = float((vote.choice == 2) == vote.turned)
    if np.isnan(chosen).all():
        return Estimate(value=None, why="all votes are ties")
    return _mean(chosen, key.kind, level)


def _agreement(table: npt.NDArray[np.float64], scale: str, level: float) -> Estimate:
    try:
        found = krippendorff_alpha(table, scale, confidence=level)  # type: ignore[arg-type]
    except ValueError as error:
        return Estimate(value=None, why=str(error))
    return Estimate(
        value=found.value,
        interval=_interval(found.interval, high=1.0),
        raters=len(table),
        items=found.units,
        votes=found.pairable,
    )


def _metric_scores(
    key: Key,
    trials: list[str],
    table: npt.NDArray[np.float64],
    found: Mapping[str, Any],
    results: Sequence[GateResult],
    scores: str | Path | None,
    level: float,
) -> tuple[MetricScore, ...]:
    """Compare metrics of samples with the items' marks, and metrics of sets with the sets'."""
    rows: list[MetricScore] = []
    columns: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    if scores is not None:
        _read_scores(key, Path(scores), columns)
    for result in results:
        name = match_set(key.sets, result)
        for embedding in result.maps:
            for point in embedding.points:
                if point.score is not None and point.side == "synthetic":
                    metric = f"c2st score · {embedding.encoder}"
                    columns[metric][name, point.sample] = point.score
    if columns and key.kind != "ab":
        opinion = _item_opinions(key, trials, table)
        for metric, values in sorted(columns.items()):
            shared = sorted(set(values) & set(opinion))
            x, y = [values[k] for k in shared], [opinion[k] for k in shared]
            rows += [
                MetricScore(
                    metric=metric, level="item", kind=kind, estimate=_rank(x, y, kind, level)
                )
                for kind in _KINDS
            ]
    said = _set_opinions(found)
    gaps: dict[str, dict[str, float]] = defaultdict(dict)
    for result in results:
        name = match_set(key.sets, result)
        for finding in result.findings:
            if finding.gap is not None and finding.kind in ("distribution", "tie"):
                gaps[finding.key][name] = finding.gap
    for metric, by_set in sorted(gaps.items()):
        shared_sets = [name for name in by_set if name in said]
        x, y = [by_set[n] for n in shared_sets], [said[n] for n in shared_sets]
        rows += [
            MetricScore(metric=metric, level="set", kind=kind, estimate=_rank(x, y, kind, level))
            for kind in _KINDS
        ]
    return tuple(rows)


_KINDS: tuple[Literal["spearman", "kendall"], ...] = ("spearman", "kendall")


def match_set(sets: Sequence[SetInfo], result: GateResult) -> str:
    """Give the study's set that a result is about.

    Raises
    ------
    UsageError
        If there is none.
    """
    for info in sets:
        if result.synthetic.name in (info.source, info.name):
            return info.name
    known = ", ".join(repr(info.source) for info in sets)
    raise UsageError(
        f"the result is about {result.synthetic.name!r}, which is no set of the study ({known})"
    )


def _set_opinions(found: Mapping[str, Any]) -> dict[str, float]:
    said = {s.set: s.estimate.value for s in found.get("scores", ())}
    said |= {s.set: s.strength for s in found.get("strengths", ())}
    return {name: value for name, value in said.items() if value is not None}


def _item_opinions(
    key: Key, trials: list[str], table: npt.NDArray[np.float64]
) -> dict[tuple[str, str], float]:
    """Give each item's mean mark; how strict those are who saw it is taken off."""
    table = table[~np.isnan(table).all(axis=1)]
    if not table.size:
        return {}
    own = np.nanmean(table, axis=1, keepdims=True)
    centred = table - own + float(np.nanmean(table))
    opinions = {}
    for k, name in enumerate(trials):
        item = key.items[key.trials[name].items[0]]
        if not np.isnan(centred[:, k]).all():
            opinions[item.set, item.sample] = float(np.nanmean(centred[:, k]))
    return opinions


def _rank(
    x: list[float], y: list[float], kind: Literal["spearman", "kendall"], level: float
) -> Estimate:
    if len(x) < FEWEST:
        return Estimate(
            value=None, items=len(x), why=f"{len(x)} in common; at least {FEWEST} are needed"
        )
    try:
        found = rank_correlation(x, y, kind, level=level)
    except ValueError as error:
        return Estimate(value=None, items=len(x), why=str(error))
    return Estimate(value=found.value, interval=_interval(found.interval, -1, 1), items=found.n)


def _read_scores(key: Key, file: Path, columns: dict[str, dict[tuple[str, str], float]]) -> None:
    """Read scores of samples from CSV."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for item in key.items.values():
        if not item.spoiled:
            wanted[item.sample].append(item.set)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            names = list(rows.fieldnames or ())
            if "sample" not in names:
                raise UsageError(f"{file} has no column 'sample'; it has {', '.join(names)[:200]}")
            metrics = [n for n in names if n not in ("sample", "set")]
            for number, row in enumerate(rows, 2):
                sets = set(wanted.get(row["sample"] or "", ()))
                if "set" in names:
                    sets &= {row["set"] or ""}
                if len(sets) > 1:
                    raise UsageError(
                        f"{file}, line {number}: several sets have {row['sample']!r}: add a "
                        "column 'set'"
                    )
                for name in sets:
                    for metric in metrics:
                        if row[metric]:
                            value = _finite(row[metric], f"{file}, line {number}, {metric}")
                            columns[clean(metric, 80)][name, row["sample"]] = value
    except OSError as error:
        raise DataError(f"cannot read the scores {file}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is no CSV in UTF-8: {error}") from None
    if not columns:
        raise UsageError(f"{file} has no score of any sample of the study")


def _finite(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{where}: {text[:40]!r} is no number") from None
    if not math.isfinite(value):
        raise DataError(f"{where}: {text[:40]!r} is not finite; leave the cell empty")
    return value
