"""Drift of every column of a table, adjusted for their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from .._result import Interval
from ..distribution.copying import newcombe_interval
from ..inference import effective_rows
from .categorical import CategoricalDrift, categorical_drift, is_missing
from .multiplicity import Adjustment, adjust_pvalues
from .univariate import NumericDrift, numeric_drift

if TYPE_CHECKING:
    from ..inference import Groups

Kind: TypeAlias = Literal["numeric", "categorical", "datetime", "text", "skip"]
"""How a column is compared; ``"skip"`` leaves it out, and the report names it."""

Status: TypeAlias = Literal["tested", "constant", "no_data", "skipped"]

_MANY_LABELS = 50
"""Strings with more different values than this, each seldom repeated, are text."""

_SECONDS = 1e9


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """What changed in one column, or in one readable property of a text column.

    Attributes
    ----------
    column : str
        Name; for text ``column.characters``, ``column.words``, ``column.mean_word_length``,
        ``column.non_ascii_share`` and ``column.digit_share``; for datetimes ``column`` (seconds
        since 1970 UTC) and ``column.hour``, ``column.weekday`` (categories).
    source : str
        The table's column it comes from.
    kind : str
        How it was compared.
    status : {"tested", "constant", "no_data", "skipped"}
        ``constant``: one value, the same on both sides, and nothing missing: there is nothing to
        test. ``no_data``: missing throughout both sides. ``skipped``: see ``note``.
    effect : float or None
        Wasserstein distance in real standard deviations (numeric) or total variation
        (categorical). 0 is best.
    effect_unit : str
        ``"real sd"``, ``"pooled sd"`` or ``"total variation"``.
    p_value : float or None
        Of the values and of the missing share together (the smaller of the two, times 2).
    p_adjusted : float or None
        Over all tested columns of the report.
    drifted : bool or None
        ``p_adjusted <= alpha``.
    missing_real, missing_synthetic : float
        Share of missing values, 0 to 1.
    missing_p_value : float or None
        p-value for a change of that share; None where nothing is missing.
    missing_ci : Interval or None
        Confidence interval of the synthetic share less the real one (Newcombe's hybrid score, with
        groups for their effective number); None where nothing is missing.
    numeric, categorical : NumericDrift or CategoricalDrift or None
        All measures of the values that are not missing (for categories: of all values, with the
        missing ones as a label of their own).
    note : str
        Why a column was skipped, or what was done to it.
    """

    column: str
    source: str
    kind: str
    status: Status
    effect: float | None
    effect_unit: str
    p_value: float | None
    p_adjusted: float | None
    drifted: bool | None
    missing_real: float
    missing_synthetic: float
    missing_p_value: float | None
    missing_ci: Interval | None
    numeric: NumericDrift | None
    categorical: CategoricalDrift | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The drift of a table.

    Attributes
    ----------
    columns : tuple of ColumnDrift
        In the table's order; nothing is left out.
    alpha : float
        Level that ``drifted`` is judged at.
    adjust : str
        Correction for the number of tests.
    n_real, n_synthetic : int
        Rows.
    """

    columns: tuple[ColumnDrift, ...]
    alpha: float
    adjust: str
    n_real: int
    n_synthetic: int

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the columns whose drift is more than chance, strongest evidence first."""
        hits = [c for c in self.columns if c.drifted]
        return tuple(c.column for c in sorted(hits, key=lambda c: c.p_adjusted or 0.0))

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the columns that were not tested."""
        return tuple(c.column for c in self.columns if c.status == "skipped")

    def __getitem__(self, name: str) -> ColumnDrift:
        for c in self.columns:
            if c.column == name:
                return c
        known = ", ".join(c.column for c in self.columns)
        raise KeyError(f"no column {name!r} in the report; there are: {known}")


def drift_tests(
    real: Any,
    synthetic: Any,
    *,
    columns: Sequence[str] | None = None,
    kinds: Mapping[str, Kind] | None = None,
    alpha: float = 0.05,
    adjust: Adjustment = "bh",
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> DriftReport:
    """Compare two tables column by column.

    The kind of a column is inferred from both sides together: booleans, pandas categories and Arrow
    dictionaries are categorical; numbers numeric; dates and times datetime; strings categorical,
    unless there are more than 50 different ones that make up more than half of the values, which
    is text, compared by readable properties. Anything else (lists, structs, bytes, mixed types) is
    skipped, with a note. A number that is really a label (a class index) must be named in
    ``kinds``.

    Parameters
    ----------
    real, synthetic : pandas.DataFrame or pyarrow.Table or mapping of name to sequence
        The tables.
    columns : sequence of str, optional
        Columns to compare; by default all. Both tables must have the same ones.
    kinds : mapping of str to kind, optional
        Kinds that overrule the inference: ``"numeric"``, ``"categorical"``, ``"datetime"``,
        ``"text"``, ``"skip"``.
    alpha : float
        Level at which ``drifted`` is judged, after adjustment.
    adjust : {"bh", "holm", "by", "bonferroni", "hochberg"}
        Correction; see :func:`adjust_pvalues`.
    groups_real, groups_synthetic : sequence, optional
        Group of each row; rows of a group are permuted and resampled whole.
    permutations, level, seed
        As :func:`numeric_drift`.

    Returns
    -------
    DriftReport
        One entry a column, several for text and datetimes. Each column is seen alone: a change of
        the dependence between columns is invisible here.

    Raises
    ------
    TypeError
        If a table is of another type, or a column cannot be read as the kind asked for.
    ValueError
        If a table is empty, the columns differ or repeat, a value is infinite, or a setting is out
        of range.
    """
    tables = [_Table.of(real, "real"), _Table.of(synthetic, "synthetic")]
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    names = _shared_names(tables, columns)
    asked = dict(kinds or {})
    unknown = sorted(set(asked) - set(names))
    if unknown:
        raise ValueError(f"kinds names columns that are not compared: {unknown}")
    for name, kind in asked.items():
        if kind not in get_args(Kind):
            raise ValueError(
                f"kind of column {name!r} must be one of {', '.join(get_args(Kind))}, got {kind!r}"
            )
    compare = _Comparison(groups_real, groups_synthetic, permutations, level, seed)
    found: list[ColumnDrift] = []
    for name in names:
        left, right = (t.columns[name] for t in tables)
        found.extend(compare.column(name, left, right, asked.get(name)))
    p = [np.nan if c.p_value is None else c.p_value for c in found]
    adjusted = adjust_pvalues(p, adjust)
    judged = tuple(
        c if c.p_value is None else replace(c, p_adjusted=float(q), drifted=bool(q <= alpha))
        for c, q in zip(found, adjusted, strict=True)
    )
    return DriftReport(judged, alpha, adjust, tables[0].rows, tables[1].rows)


@dataclass(frozen=True, slots=True)
class _Column:
    """One column as Python values, with missing ones as None; ``hint`` is what its type says."""

    values: list[Any]
    hint: str

    @property
    def present(self) -> list[Any]:
        return [v for v in self.values if v is not None]

    @property
    def missing(self) -> np.ndarray:
        return np.array([v is None for v in self.values])


@dataclass(frozen=True, slots=True)
class _Table:
    columns: dict[str, _Column]
    rows: int

    @classmethod
    def of(cls, table: Any, side: str) -> _Table:
        names: list[str]
        if hasattr(table, "column_names") and hasattr(table, "schema"):  # pyarrow
            names = [str(n) for n in table.column_names]
            raw = [
                (table.column(i).to_pylist(), _arrow_hint(str(table.schema.field(i).type)))
                for i in range(len(names))
            ]
        elif hasattr(table, "iloc") and hasattr(table, "dtypes"):  # pandas
            names = [str(n) for n in table.columns]
            raw = [
                (_pandas_values(table.iloc[:, i]), _pandas_hint(str(table.iloc[:, i].dtype)))
                for i in range(len(names))
            ]
        elif isinstance(table, Mapping):
            names = [str(n) for n in table]
            # An array of datetime64 must not become the integers behind it: no tolist.
            raw = [(list(v.numpy() if hasattr(v, "numpy") else v), "") for v in table.values()]
        else:
            raise TypeError(
                f"{side} must be a pandas DataFrame, a pyarrow Table or a mapping of columns, got "
                f"{type(table).__name__}"
            )
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"{side} has columns that share a name: {repeated}; rename them")
        if not names:
            raise ValueError(f"{side} has no columns")
        lengths = {len(v) for v, _ in raw}
        if len(lengths) > 1:
            raise ValueError(f"{side} has columns of different lengths: {sorted(lengths)}")
        rows = lengths.pop()
        if rows == 0:
            raise ValueError(f"{side} has no rows")
        columns = {
            name: _Column([None if is_missing(v) else v for v in values], hint)
            for name, (values, hint) in zip(names, raw, strict=True)
        }
        return cls(columns, rows)


def _pandas_values(series: Any) -> list[Any]:
    if str(series.dtype).startswith("datetime64"):
        # Whole nanoseconds, past any time zone or unit of the column.
        stamps = np.asarray(series.to_numpy(dtype="datetime64[ns]"))
        return [None if np.isnat(t) else _Stamp(int(t.astype(np.int64))) for t in stamps]
    return list(series.astype(object))


def _pandas_hint(dtype: str) -> str:
    return "categorical" if dtype == "category" else ""


def _arrow_hint(dtype: str) -> str:
    return "categorical" if dtype.startswith("dictionary") else ""


@dataclass(frozen=True, slots=True, order=True)
class _Stamp:
    """A point in time, in nanoseconds since 1970 UTC (wall clock where there is no time zone)."""

    nanoseconds: int

    @property
    def seconds(self) -> float:
        return self.nanoseconds / _SECONDS

    @property
    def hour(self) -> int:
        return int(self.nanoseconds // int(3600 * _SECONDS) % 24)

    @property
    def weekday(self) -> int:
        return int((self.nanoseconds // int(86400 * _SECONDS) + 3) % 7)  # 1970-01-01: Thursday


def _stamp(value: Any, name: str) -> _Stamp:
    if isinstance(value, _Stamp):
        return value
    if not _is_time(value):
        raise TypeError(f"column {name!r} has a value that is no date or time: {value!r}")
    if getattr(value, "tzinfo", None) is not None:
        from datetime import UTC

        value = value.astimezone(UTC).replace(tzinfo=None)
    return _Stamp(int(np.datetime64(value).astype("datetime64[ns]").astype(np.int64)))


def _shared_names(tables: list[_Table], columns: Sequence[str] | None) -> list[str]:
    have = [set(t.columns) for t in tables]
    if columns is not None:
        if isinstance(columns, str) or not len(columns):
            raise ValueError(f"columns must be a list of names, got {columns!r}")
        for side, names in zip(("real", "synthetic"), have, strict=True):
            absent = [c for c in columns if c not in names]
            if absent:
                raise ValueError(f"{side} has no columns {absent}; it has {sorted(names)}")
        return list(dict.fromkeys(columns))
    if have[0] != have[1]:
        raise ValueError(
            f"the tables have different columns: only real has {sorted(have[0] - have[1])}, only "
            f"synthetic has {sorted(have[1] - have[0])}; name those to compare in columns="
        )
    return list(tables[0].columns)


def _is_number(value: object) -> bool:
    # Decimal, Fraction and numpy's scalars, but no flag, and no time that numpy can count.
    other = bool | np.bool_ | complex | str | bytes | np.datetime64 | np.timedelta64
    return (
        hasattr(value, "__float__")
        and not hasattr(value, "__len__")
        and not isinstance(value, other)
    )


def infer_kind(values: Sequence[Any], hint: str = "") -> tuple[Kind, str]:
    """Infer how a column is compared, from the values of both sides that are not missing.

    Returns
    -------
    kind, note
        ``("skip", reason)`` for what cannot be compared. The rule is that of :func:`drift_tests`.
    """
    if hint == "categorical":
        return "categorical", ""
    if all(isinstance(v, bool | np.bool_) for v in values):
        return "categorical", ""
    if all(_is_number(v) for v in values):
        return "numeric", ""
    if all(isinstance(v, str) for v in values):
        different = len(set(values))
        if different > _MANY_LABELS and different > len(values) / 2:
            return "text", ""
        return "categorical", ""
    if all(_is_time(v) for v in values):
        return "datetime", ""
    types = sorted({type(v).__name__ for v in values})
    return "skip", f"values of type {', '.join(types)} cannot be compared"


def _is_time(value: object) -> bool:
    import datetime

    return isinstance(value, _Stamp | datetime.date | np.datetime64)


def text_properties(texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Give the readable properties that texts are compared by, each of shape (n,).

    ``characters`` and ``words`` (runs between white space) are counts; ``mean_word_length`` is 0
    for a text without words; ``non_ascii_share`` and ``digit_share`` are shares of characters, 0
    for the empty text.
    """
    characters = np.array([len(t) for t in texts], dtype=np.float64)
    words = [t.split() for t in texts]
    counts = np.array([len(w) for w in words], dtype=np.float64)
    letters = np.array([sum(map(len, w)) for w in words], dtype=np.float64)
    some = np.maximum(characters, 1)
    return {
        "characters": characters,
        "words": counts,
        "mean_word_length": letters / np.maximum(counts, 1),
        "non_ascii_share": np.array([sum(ord(c) > 127 for c in t) for t in texts]) / some,
        "digit_share": np.array([sum(map(str.isdigit, t)) for t in texts]) / some,
    }


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One setting, applied to column after column."""

    groups_real: Groups
    groups_synthetic: Groups
    permutations: int
    level: float
    seed: int

    def column(
        self, name: str, real: _Column, synthetic: _Column, asked: Kind | None
    ) -> list[ColumnDrift]:
        present = [*real.present, *synthetic.present]
        blank = ColumnDrift(
            column=name,
            source=name,
            kind=asked or "unknown",
            status="no_data",
            effect=None,
            effect_unit="",
            p_value=None,
            p_adjusted=None,
            drifted=None,
            missing_real=float(real.missing.mean()),
            missing_synthetic=float(synthetic.missing.mean()),
            missing_p_value=None,
            missing_ci=self.missing_interval(real, synthetic),
            numeric=None,
            categorical=None,
        )
        if asked == "skip":
            return [replace(blank, status="skipped", note="skipped on request")]
        if not present:
            return [replace(blank, note="missing throughout both sides")]
        hint = "categorical" if "categorical" in (real.hint, synthetic.hint) else ""
        kind, note = (asked, "") if asked else infer_kind(present, hint)
        blank = replace(blank, kind=kind, note=note)
        match kind:
            case "skip":
                return [replace(blank, status="skipped")]
            case "categorical":
                return [self.labels(blank, real.values, synthetic.values)]
            case "numeric":
                numbers = [_numbers(c, name) for c in (real, synthetic)]
                return [self.numbers(blank, real, synthetic, *numbers)]
            case "datetime":
                stamps = [[_stamp(v, name) for v in c.present] for c in (real, synthetic)]
                seconds = [np.array([s.seconds for s in side]) for side in stamps]
                out = [self.numbers(blank, real, synthetic, *seconds)]
                for part in ("hour", "weekday"):
                    cells = [[getattr(s, part) for s in side] for side in stamps]
                    out.extend(self.part(blank, part, real, synthetic, cells))
                return out
            case "text":
                texts = [[_text(v, name) for v in c.present] for c in (real, synthetic)]
                properties = [text_properties(side) for side in texts]
                return [
                    self.numbers(
                        replace(blank, column=f"{name}.{key}"),
                        real,
                        synthetic,
                        properties[0][key],
                        properties[1][key],
                    )
                    for key in properties[0]
                ]

    def part(
        self, blank: ColumnDrift, part: str, real: _Column, synthetic: _Column, cells: list[Any]
    ) -> list[ColumnDrift]:
        """Compare a part of a datetime, over the rows that have one."""
        if not all(cells):
            return []
        drift = categorical_drift(*cells, **self.options(real, synthetic))
        entry = replace(
            blank,
            column=f"{blank.source}.{part}",
            kind="categorical",
            status="tested",
            effect=drift.total_variation,
            effect_unit="total variation",
            p_value=drift.p_value,
            categorical=drift,
        )
        if drift.categories == 1:
            entry = replace(entry, status="constant", effect=0.0, p_value=None)
        return [entry]

    def labels(self, blank: ColumnDrift, real: list[Any], synthetic: list[Any]) -> ColumnDrift:
        """Compare categories; a missing value is one of them."""
        sides = [
            [_Missing if v is None else _label(v, blank.source) for v in s]
            for s in (real, synthetic)
        ]
        drift = categorical_drift(
            *sides,
            groups_real=self.groups_real,
            groups_synthetic=self.groups_synthetic,
            permutations=self.permutations,
            level=self.level,
            seed=self.seed,
        )
        entry = replace(
            blank,
            effect=drift.total_variation,
            effect_unit="total variation",
            categorical=drift,
            missing_p_value=self.missing(blank, sides),
        )
        if drift.categories == 1:
            return replace(entry, status="constant", note="one value on both sides")
        return replace(entry, status="tested", p_value=drift.p_value)

    def numbers(
        self,
        blank: ColumnDrift,
        real: _Column,
        synthetic: _Column,
        x: np.ndarray,
        y: np.ndarray,
    ) -> ColumnDrift:
        """Compare the values that are there, and the share that is not."""
        holes = [[_Missing if v is None else True for v in c.values] for c in (real, synthetic)]
        missing_p = self.missing(blank, holes)
        entry = replace(blank, missing_p_value=missing_p)
        if min(x.size, y.size) < 2:
            side = "real" if x.size < 2 else "synthetic"
            note = f"{side} has {min(x.size, y.size)} values: only the missing share is tested"
            if missing_p is None:
                return replace(entry, status="skipped", note=f"{side} has fewer than 2 rows")
            return replace(entry, status="tested", p_value=missing_p, note=note)
        drift = numeric_drift(x, y, **self.options(real, synthetic))
        unit = {"real": "real sd", "pooled": "pooled sd", "none": "real sd"}[drift.scale_of]
        entry = replace(entry, numeric=drift, effect=drift.wasserstein, effect_unit=unit)
        if drift.scale_of == "none" and missing_p is None:
            return replace(entry, status="constant", note="one value on both sides")
        p = drift.p_value if missing_p is None else min(1.0, 2 * min(drift.p_value, missing_p))
        return replace(entry, status="tested", p_value=p)

    def missing(self, blank: ColumnDrift, sides: list[list[Any]]) -> float | None:
        """Test whether the missing share changed."""
        if blank.missing_real == blank.missing_synthetic == 0:
            return None
        flags = [[v is _Missing for v in side] for side in sides]
        if self.groups_real is None:
            from scipy import stats

            table = [[sum(f), len(f) - sum(f)] for f in flags]
            return float(stats.fisher_exact(table).pvalue)
        return categorical_drift(
            *flags,
            groups_real=self.groups_real,
            groups_synthetic=self.groups_synthetic,
            permutations=self.permutations,
            seed=self.seed,
        ).p_value

    def missing_interval(self, real: _Column, synthetic: _Column) -> Interval | None:
        """Interval for the change of the missing share."""
        q, p = (float(side.missing.mean()) for side in (real, synthetic))
        if p == q == 0:
            return None
        m, n = (
            effective_rows(groups, len(side.values))
            for groups, side in ((self.groups_real, real), (self.groups_synthetic, synthetic))
        )
        return newcombe_interval(p, n, q, m, self.level)

    def options(self, real: _Column, synthetic: _Column) -> dict[str, Any]:
        """Give the settings, with the groups of the rows that have a value."""
        kept = []
        for groups, side in ((self.groups_real, real), (self.groups_synthetic, synthetic)):
            if groups is not None and len(groups) != len(side.values):
                raise ValueError(
                    f"groups must name one for each of {len(side.values)} rows, got {len(groups)}"
                )
            kept.append(
                None
                if groups is None
                else [g for g, v in zip(groups, side.values, strict=True) if v is not None]
            )
        return {
            "groups_real": kept[0],
            "groups_synthetic": kept[1],
            "permutations": self.permutations,
            "level": self.level,
            "seed": self.seed,
        }


class _MissingLabel:
    """The label of a missing value: equal to nothing that the data can hold."""

    def __str__(self) -> str:
        return "(missing)"


_Missing = _MissingLabel()


def _label(value: Any, name: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    try:
        hash(value)
    except TypeError as error:
        raise TypeError(
            f"column {name!r} has values of type {type(value).__name__}, which cannot be labels"
        ) from error
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"column {name!r} is to be compared as text, but has {value!r}")
    return value


def _numbers(column: _Column, name: str) -> np.ndarray:
    try:
        x = np.array([float(v) for v in column.present], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"column {name!r} is to be compared as numbers: {error}") from error
    bad = int(np.isinf(x).sum())
    if bad:
        raise ValueError(
            f"column {name!r} has {bad} infinite values; drop them, or mark them as missing"
        )
    return x
