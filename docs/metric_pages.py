"""A page for each metric of the catalogue: what it is, its curves, what it misses.

Made when the site is built, from evalsuite.metrics.catalogue, the docstrings and the study of
record (results/record/curves.csv and summary.csv), so that nothing is copied by hand.
"""

from __future__ import annotations

import ast
import csv
import html
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evalsuite.metrics
from evalsuite.metrics.catalogue import METRICS, MetricInfo
from evalsuite.report.i18n import Translator

FOLDER = "each-metric"
RECORD = Path(__file__).parents[1] / "results" / "record"
FOUND = 0.8
"""Share of the draws in which a level must be seen to count as found, as in the study."""
RANKED = 0.3
"""Least tau of a damage that is ranked rightly."""
TURNED = -0.7
"""From here down the order is turned round: chance gives one ladder of six levels as low a tau in
3 % of cases."""
ALARMS = 0.125
"""Most alarms on 40 real sets that chance explains (the 97.5 % point of a binomial of 5 %)."""
FAMILIES = {
    "image corruptions": "severity",
    "sound damages": "strength, by level",
    "caption swaps": "captions swapped, %",
    "dropped classes": "classes dropped",
    "copied samples": "copies of real samples, %",
}
"""Family of damages to what its levels are."""
TICKS = {
    "caption swaps": ("0", "5", "10", "25", "50"),
    "copied samples": ("0", "10", "20", "30", "40", "50"),
}
GROUPS = {
    "Distances": ("frechet", "kernel", "classifier", "transport", "mauve", "likelihood"),
    "Fidelity and diversity": ("manifold", "diversity"),
    "Copies and modes": ("copying", "modes"),
    "Training and subgroups": ("probes", "subgroups"),
    "Drift of columns": ("table",),
    "Speech": ("wer", "naturalness", "speakers"),
    "Pairs and chains": ("alignment", "retrieval", "triangle", "chain"),
    "Text": ("text_diversity", "copies", "leakage"),
}
"""Section of the navigation to the modules, or functions, of its metrics."""
TITLES = {
    "frechet_distance_infinity": "Fréchet distance without bias",
    "tstr_ratio": "Train on synthetic, test on real (TSTR)",
    "wer": "Word error rate (WER)",
}
"""Of metrics that no report names."""
UNMEASURED = {
    "frechet_distance_infinity": "It needs more than twice as many samples as features, and the "
    "study's sets have 200 at most, with 1,280 features.",
    "tstr_ratio": "It was measured, but in more than half of the real-vs-real sets of 30 or 50 a "
    "class was missing on one side, so that there is no yardstick to judge it by.",
    "speaker_similarity": "All of the study's recordings are by one speaker.",
    "broken_records": "The study has records of two parts, not of three.",
    "chain_loss": "The study has no chains of generators.",
}
"""Why the study of record has no figures of a metric."""
NOTES = {
    "drift_tests": "Of several columns (the readable properties) the study takes the one that "
    "drifted most: one that hardly varies in real data, as the mean offset of a recording, drifts "
    "by many of its standard deviations at a touch. Of categories it takes the class labels.",
    "utility_tests": "The study uses the nearest-neighbour probe.",
    "feature_likelihood_divergence": "With as few samples as here the baseline that is taken off "
    "can be enormous, where half of the training data leaves a sample far from all others.",
    "ndb": "Sets of 50 have two bins; larger ones have one for each 40 samples, and see more.",
    "birthday_support": "Sets in which no two samples collide are left out: they are worth more "
    "samples than can be told.",
    "dcr_share": "A set that is far from all real data lies nearer to one part of them by "
    "accident, which moves the value. The function's own p-value allows for that, and is the one "
    "to go by; it is not what is drawn here.",
    "subgroup_tests": "The study takes groups of 10 samples and more.",
    "retrieval_recall": "The study takes k = 1.",
    "recall_gap": "The study takes k = 1.",
    "text_diversity": "It looks at one set alone: what is drawn is the damaged set's own value.",
    "vendi_score": "It looks at one set alone: what is drawn is the damaged set's own value.",
    "clip_score": "It looks at one set alone: what is drawn is the damaged set's own value.",
    "ref_clip_score": "It looks at one set alone: what is drawn is the damaged set's own value.",
    "word_errors": "It looks at one set alone: what is drawn is the damaged set's own value.",
}
"""What a reader of a function's curves must know, beside what holds for all."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class Curve:
    """One metric on one damage, level by level."""

    damage: str
    family: str
    source: str
    encoder: str
    n: int
    points: tuple[tuple[int, float, float, float], ...]
    """Level, mean, least and most over the draws."""
    draws: int
    null: tuple[float, float, float]
    """5 %, 50 % and 95 % point of real-vs-real sets."""
    found: Mapping[int, float]
    """Share of the draws in which a level was seen."""
    tau: float
    alarms: float

    @property
    def label(self) -> str:
        """The damage in words."""
        return self.damage.replace("_", " ")

    @property
    def strongest(self) -> float:
        """Share of the draws in which the strongest level was seen."""
        return self.found[max(self.found)] if self.found else 0.0


# ---- what the study has --------------------------------------------------------------------------


def read(name: str) -> list[dict[str, str]]:
    """Read one of the study's tables."""
    with (RECORD / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[k] for k in ("family", "source", "encoder", "metric", "damage", "n"))


def curves_of(curves: Iterable[Row], judged: Iterable[Row]) -> dict[str, list[Curve]]:
    """Join the values by level with how they were judged, by metric."""
    verdicts = {_key(row): row for row in judged}
    lines: dict[tuple[str, ...], list[Row]] = {}
    for row in curves:
        lines.setdefault(_key(row), []).append(row)
    found: dict[str, list[Curve]] = {}
    for key, rows in lines.items():
        family, source, encoder, metric, damage, n = key
        verdict = verdicts.get(key)
        if verdict is None:
            continue  # fewer than three levels have a number: there is no rank to judge
        first = rows[0]
        curve = Curve(
            damage, family, source, encoder, int(n),
            tuple(
                (int(r["level"]), float(r["mean"]), float(r["least"]), float(r["most"]))
                for r in sorted(rows, key=lambda r: int(r["level"]))
            ),
            max(int(r["draws"]) for r in rows),
            (float(first["null_5"]), float(first["null_50"]), float(first["null_95"])),
            {x: float(verdict[f"found_at_{x}"]) for x in range(1, 6) if verdict[f"found_at_{x}"]},
            float(verdict["tau"]), float(verdict["false_alarms"]),
        )  # fmt: skip
        found.setdefault(metric, []).append(curve)
    return found


# ---- text ----------------------------------------------------------------------------------------

_MARKUP = re.compile(r"[\\`*_{}\[\]#!|<>&\"]")


def safe(text: str) -> str:
    """Give text that neither Markdown nor HTML reads as anything else, in a table or outside."""
    return _MARKUP.sub(lambda c: f"&#{ord(c[0])};", text)


def prose(text: str) -> str:
    """Give a sentence of ours safely, too; its `code` stays code."""
    parts = [safe(part) for part in text.split("`")]
    # A docstring's *stress*.
    parts[::2] = [re.sub(r"&#42;(\w+)&#42;", r"<em>\1</em>", part) for part in parts[::2]]
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def short(value: float) -> str:
    """Give a number in at most seven characters, for an axis."""
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.3g}{unit}".replace("-", "−")
    if size and size < 0.001:
        return f"{value:.0e}".replace("e-0", "e-").replace("-", "−")
    return f"{value:.{2 if size < 1 else 3}g}".replace("-", "−")


def percent(share: float) -> str:
    """Give a share in whole per cent."""
    return f"{100 * share:.0f} %"


def title(name: str) -> str:
    """Give what people call a metric."""
    return TITLES.get(name) or Translator("en").metric(name)


def _sections(function: Any) -> dict[str, str]:
    """Part a docstring: the summary under "", then what stands under each underlined heading."""
    parts = re.split(r"(?m)^(\w+)\n-{3,}\n", inspect.getdoc(function) or "")
    return {"": parts[0].strip()} | {
        head: body.strip() for head, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def _said(function: Any) -> str:
    """Give what the docstring says of limits: its notes, else what it returns."""
    parts = _sections(function)
    text = parts.get("Notes")
    if text is None:
        # numpydoc: the type on a line of its own, what it is indented below.
        text = inspect.cleandoc(parts.get("Returns", "").partition("\n")[2])
    text = re.sub(r":\w+:`[~.]*(?:[\w.]*\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    items = [block for block in re.split(r"\n\s*\n", text) if block.strip()]
    return "\n>\n".join("> " + prose(" ".join(item.split())) for item in items)


def _takes(function: Any) -> str:
    """Give the arguments that must be given, with their types."""
    needed = {
        name for name, p in inspect.signature(function).parameters.items() if p.default is p.empty
    }
    found = re.findall(r"(?m)^(\w[\w, ]*?) : (.+)$", _sections(function).get("Parameters", ""))
    listed = [(names, kind) for names, kind in found if needed & set(re.split(r",\s*", names))]
    return "; ".join(
        "{}: {}".format(", ".join(f"`{name}`" for name in re.split(r",\s*", names)), kind)
        for names, kind in listed
    )


def _imports(call: str) -> list[str]:
    names = {node.id for node in ast.walk(ast.parse(call)) if isinstance(node, ast.Name)}
    return sorted(names & set(evalsuite.metrics.__all__))


def _code(call: str) -> list[str]:
    """Give the lines of Python that make the number: short enough to be read without scrolling."""
    node: Any = ast.parse(call, mode="eval").body
    while not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        node = node.func if isinstance(node, ast.Call) else node.value
    if len(call) <= 60:
        return [f"value = float({call})"]
    arguments = [*node.args, *node.keywords]
    parts = [f"    {ast.get_source_segment(call, argument)}," for argument in arguments]
    rest = call[node.end_col_offset :]
    return [f"found = {node.func.id}(", *parts, ")", f"value = float(found{rest})"]


def _range(info: MetricInfo) -> str:
    low = "−∞" if info.low is None else f"{info.low:g}".replace("-", "−")
    high = "∞" if info.high is None else f"{info.high:g}"
    return f"{low} … {high}" + (f" ({info.unit})" if info.unit else "")


def _better(info: MetricInfo) -> str:
    best = "" if info.best is None else f", best {info.best:g}"
    if info.direction == "near best":
        return f"near {info.best:g}" if info.best is not None else "near that of the real data"
    return info.direction + best


def group(info: MetricInfo) -> str:
    """Give the section of the navigation that a metric belongs to."""
    module = getattr(evalsuite.metrics, info.function).__module__.rpartition(".")[2]
    for heading, modules in GROUPS.items():
        if info.function in modules:
            return heading
    for heading, modules in GROUPS.items():
        if module in modules:
            return heading
    raise ValueError(f"{info.name}: put the module {module!r} into GROUPS of {__file__}")


# ---- curves --------------------------------------------------------------------------------------

LEFT, TOP, WIDTH, HEIGHT = 54.0, 8.0, 144.0, 84.0
"""Where the plot stands in a panel, and its size, in units of the drawing."""


def panel(curve: Curve, name: str) -> str:
    """Draw one curve: the band of real sets, the range of the draws, their mean, what was found."""
    values = [v for _, *three in curve.points for v in three] + [curve.null[0], curve.null[2]]
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    low, high = (low, high) if high > low else (low - span / 2, high + span / 2)
    last = max(level for level, *_ in curve.points) or 1

    def x(level: float) -> float:
        return LEFT + WIDTH * level / last

    def y(value: float) -> float:
        return TOP + HEIGHT * (high - value) / (high - low)

    bottom, right = TOP + HEIGHT, LEFT + WIDTH
    top_of_band, band = y(curve.null[2]), max(y(curve.null[0]) - y(curve.null[2]), 1.5)
    parts = [
        f'<rect class="chance" x="{LEFT:g}" y="{top_of_band:.1f}" width="{WIDTH:g}" '
        f'height="{band:.1f}"/>',
        f'<path class="axis" d="M{LEFT:g} {TOP:g}V{bottom:g}H{right:g}"/>',
    ]
    if len(curve.points) > 1:
        around = [(x(p[0]), y(p[3])) for p in curve.points]
        around += [(x(p[0]), y(p[2])) for p in reversed(curve.points)]
        parts.append(f'<polygon class="range" points="{_points(around)}"/>')
        means = [(x(p[0]), y(p[1])) for p in curve.points]
        parts.append(f'<polyline class="mean" points="{_points(means)}"/>')
    dots = [
        ("found" if curve.found.get(level, 0.0) >= FOUND else "missed", x(level), y(mean))
        for level, mean, *_ in curve.points
    ]
    parts += [f'<circle class="{kind}" cx="{a:.1f}" cy="{b:.1f}" r="3.2"/>' for kind, a, b in dots]
    for value, where in ((high, TOP + 9), (low, bottom)):
        parts.append(f'<text x="{LEFT - 4:g}" y="{where:g}" class="end">{short(value)}</text>')
    ticks = TICKS.get(curve.family, tuple(str(i) for i in range(last + 1)))
    parts += [
        f'<text x="{x(level):.1f}" y="{bottom + 15:g}" class="middle">{ticks[level]}</text>'
        for level in range(last + 1)
    ]
    seen_at = [level for level in sorted(curve.found) if curve.found[level] >= FOUND]
    told = (
        f"{name}: from {short(curve.points[0][1])} to {short(curve.points[-1][1])}; real sets "
        f"{short(curve.null[0])} to {short(curve.null[2])}; "
        + (f"found at level {', '.join(map(str, seen_at))}" if seen_at else "found at no level")
    )
    words = html.escape(told)
    return (
        f"<figure><figcaption>{html.escape(name)}</figcaption>"
        f'<svg role="img" viewBox="0 0 206 112" aria-label="{words}"><title>{words}</title>'
        f"{''.join(parts)}</svg></figure>"
    )


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _grid(curves: Sequence[Curve], *, name_sets: bool) -> str:
    # "n = 50" stays on one line.
    named = [_set(c).replace(" = ", "\u00a0=\u00a0") if name_sets else c.label for c in curves]
    drawn = [panel(c, name) for c, name in zip(curves, named, strict=True)]
    return '<div class="metric-curves" data-search-exclude>' + "".join(drawn) + "</div>"


def _set(curve: Curve) -> str:
    by = "" if curve.encoder == "none" else f", {curve.encoder}"
    # A source that has its encoder in its name says it once.
    source = curve.source.removesuffix(f" {curve.encoder}")
    return f"{source}{by}, n = {curve.n}"


def _by_family(curves: Iterable[Curve]) -> dict[str, list[Curve]]:
    """Part by family, that first of which most is found: what the metric is for."""
    found: dict[str, list[Curve]] = {family: [] for family in FAMILIES}
    for c in curves:
        found[c.family].append(c)
    parts = [(len(missed(mine)) / len(mine), family) for family, mine in found.items() if mine]
    order = sorted(parts, key=lambda part: part[0])
    return {family: found[family] for _, family in order}


def _by_set(curves: Iterable[Curve]) -> dict[tuple[str, str, int], list[Curve]]:
    found: dict[tuple[str, str, int], list[Curve]] = {}
    for c in curves:
        found.setdefault((c.source, c.encoder, c.n), []).append(c)
    # The larger sets first: they say more.
    return dict(sorted(found.items(), key=lambda item: (-item[0][2], item[0])))


def _single(curves: Sequence[Curve]) -> bool:
    """Whether the family has one damage, so that the sets are what differs."""
    return all(c.damage == c.family for c in curves)


def _drawn(curves: Sequence[Curve]) -> list[str]:
    """Give the section of the curves: a drawing for each family of damages."""
    lines: list[str] = []
    for family, mine in _by_family(curves).items():
        lines += [f"### {family.capitalize()}", "", f"Across: {FAMILIES[family]}.", ""]
        sets = _by_set(mine)
        if _single(mine):
            lines += [_grid([c for damages in sets.values() for c in damages], name_sets=True), ""]
            continue
        for i, damages in enumerate(sets.values()):
            head = f"{_set(damages[0])}, {_draws(damages)}"
            drawing = _grid(damages, name_sets=False)
            if i:
                lines += [
                    f'<details class="metric-more"><summary>{html.escape(head)}</summary>{drawing}'
                    "</details>", "",
                ]  # fmt: skip
            else:
                lines += [f"{safe(head)}:", "", drawing, ""]
    return lines


def _draws(curves: Sequence[Curve]) -> str:
    counts = sorted({c.draws for c in curves})
    if counts == [1]:
        return "1 draw"
    return (f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}") + " draws"


# ---- blind spots ---------------------------------------------------------------------------------


def _listed(some: Sequence[Curve], of: int, name: Any, value: Any, show: Any) -> str:
    """Name curves with a number each, or all of them with the span of their numbers."""
    if len(some) == of > 1:
        numbers = [value(c) for c in some]
        least, most = show(min(numbers)), show(max(numbers))
        return f"all ({least})" if least == most else f"all ({least} to {most})"
    return "; ".join(f"{safe(name(c))} ({show(value(c))})" for c in some) or "–"


def missed(curves: Iterable[Curve]) -> list[Curve]:
    """Give the damages whose strongest level is not found."""
    return [c for c in curves if c.strongest < FOUND]


def misranked(curves: Iterable[Curve]) -> list[Curve]:
    """Give the damages that are not ranked by their severity."""
    return [c for c in curves if c.tau < RANKED]


def _tau(tau: float) -> str:
    return f"{tau:.2f}".replace("-", "−")


def _blind(curves: Sequence[Curve]) -> list[str]:
    """Say what the study shows that a metric misses, turns round, and alarms on."""
    lines = [
        "| damages | set | strongest level found | not found (share of draws) | ranked wrongly "
        "(tau) |",
        "|---|---|--:|---|---|",
    ]
    for family, mine in _by_family(curves).items():
        sets, single = _by_set(mine), _single(mine)
        rows = [[c for damages in sets.values() for c in damages]] if single else sets.values()
        for damages in (row for row in rows if row):
            # Where there is one damage its name says nothing: the set does.
            name = _set if single else _label
            lost, places = missed(damages), len(damages)
            where = f"{places} sets" if single and places > 1 else safe(_set(damages[0]))
            lines.append(
                f"| {family} | {where} | {places - len(lost)} of {places} | "
                f"{_listed(lost, places, name, lambda c: c.strongest, percent)} | "
                f"{_listed(misranked(damages), places, name, lambda c: c.tau, _tau)} |"
            )
    turned = [c for c in curves if c.tau <= TURNED]
    if turned:
        told = ", ".join(f"{safe(c.label)} ({safe(_set(c))}: {_tau(c.tau)})" for c in turned)
        lines += [
            "",
            f"**Worse sets look better to it** (tau at or under {TURNED:g}): {told}. A gate needs "
            "another metric beside it.".replace("-", "−"),
        ]
    alarms = ", ".join(
        f"{percent(damages[0].alarms)} ({safe(_set(damages[0]))}"
        f"{', **more than chance**' if damages[0].alarms > ALARMS else ''})"
        for damages in _by_set(curves).values()
    )
    return [*lines, "", f"Alarms on other real sets, of which 5 % are nominal: {alarms}.", ""]


def _label(curve: Curve) -> str:
    return curve.label


def _needs(judged: Sequence[Row]) -> str:
    """Say how what is found grows with the number of samples, where several were measured."""
    counts: dict[tuple[str, str, str], dict[int, dict[str, bool]]] = {}
    for row in judged:
        rates = [row[f"found_at_{x}"] for x in range(5, 0, -1) if row[f"found_at_{x}"]]
        sizes = counts.setdefault((row["family"], row["source"], row["encoder"]), {})
        sizes.setdefault(int(row["n"]), {})[row["damage"]] = float((rates or ["0"])[0]) >= FOUND
    said = []
    for (family, source, encoder), sizes in counts.items():
        # Only damages that every size has: otherwise the sizes compare different things.
        common = set.intersection(*(set(damages) for damages in sizes.values()))
        if len(sizes) > 1 and len(common) > 1:
            told = ", ".join(
                f"{sum(damages[d] for d in common)} at n = {n}"
                for n, damages in sorted(sizes.items())
            )
            said.append(f"of {len(common)} {family} ({source}, {encoder}) {told}")
    return f"Found at the strongest level: {'; '.join(said)}." if said else ""


# ---- pages ---------------------------------------------------------------------------------------


def page(info: MetricInfo, curves: Sequence[Curve], judged: Sequence[Row]) -> str:
    """Give the Markdown of one metric's page."""
    function = getattr(evalsuite.metrics, info.function)
    anchor = f"{function.__module__}.{info.function}"
    found = f" {_needs(judged)}" if judged else ""
    facts = {
        "Formula": prose(info.formula),
        "Better": safe(_better(info)),
        "Range": safe(_range(info)),
        "Interval": prose(info.interval),
        "p-value": prose(info.p_value),
        "Samples": f"accepts {info.min_n} a side; hundreds are needed to see much.{safe(found)}",
        "Streams": "yes: shards merge without the samples" if info.streaming
        else "no: it needs all of the samples, or their features",
        "Takes": prose(_takes(function)),
        "Reference": safe(info.reference),
    }  # fmt: skip
    lines = [
        f"# {safe(title(info.name))}",
        "",
        prose(info.question),
        "",
        f"| Name | `{info.name}` |",
        "|---|---|",
        *(f"| {head} | {text} |" for head, text in facts.items()),
        "",
        "```python",
        f"from evalsuite.metrics import {', '.join(_imports(info.call))}",
        "",
        *_code(info.call),
        "```",
        "",
        f"All arguments: [`{info.function}`](../reference.md#{anchor}).",
        "",
        "## Curves",
        "",
    ]
    if curves:
        lines += [
            "Real data that was damaged in known steps, from the [study of record]"
            "(../../results/record/README.md). Line: mean of the draws; shade around it: least "
            "and most; grey: the middle 90 % of 40 pairs of real sets of the same size; filled "
            f"dot: worse than 39 of the 40 in {percent(FOUND)} of the draws (p < 0.05). Each "
            "drawing has its own scale; the values are in "
            "[curves.csv](../../results/record/curves.csv).",
            "",
        ]
        notes = [NOTES[k] for k in (info.function, info.name) if k in NOTES]
        lines += [*dict.fromkeys(notes), ""] if notes else []
        lines += _drawn(curves)
    else:
        lines += [f"The study of record has no figures of it. {UNMEASURED.get(info.name, '')}", ""]
    lines += ["## Blind spots", "", f"It cannot see: {prose(info.blind_to)}.", ""]
    if said := _said(function):
        lines += [f"`{info.function}` says of itself:", "", said, ""]
    if curves:
        lines += ["What the study of record shows:", "", *_blind(curves)]
    return "\n".join(lines)


def _shares_found(curves: Sequence[Curve]) -> tuple[list[str], list[str]]:
    """Give the families of which at least half is found, and the others, with how many are."""
    sees: list[str] = []
    misses: list[str] = []
    for family, mine in _by_family(curves).items():
        count = len(mine) - len(missed(mine))
        told = f"{family} {count} of {len(mine)}"
        (sees if 2 * count >= len(mine) else misses).append(told)
    return sees, misses


def index(metrics: Sequence[MetricInfo], curves: Mapping[str, Sequence[Curve]]) -> str:
    """Give the Markdown of the table of all metrics."""
    lines = [
        "# Each metric",
        "",
        "What each metric sees and misses. *15 of 15*: of how many known damages, over all sets "
        "and encoders of the [study of record](../../results/record/README.md), it tells the "
        f"strongest level from real sets (p < 0.05 in {percent(FOUND)} of the draws); most sets "
        "are of 30 to 200 samples, and larger ones show more. To find everything is no aim: what "
        "is made to see copies should not answer to noise. How metrics are chosen and called: "
        "[metrics](../metrics.md).",
        "",
    ]
    for heading in GROUPS:
        mine = [info for info in metrics if group(info) == heading]
        if not mine:
            continue
        lines += [f"## {heading}", "", "| metric | sees | misses |", "|---|---|---|"]
        for info in mine:
            own = curves.get(info.name, ())
            sees, misses = _shares_found(own)
            shown = "; ".join(sees) or ("–" if own else "not in the study")
            lines.append(
                f"| [{safe(title(info.name))}]({slug(info)}.md)<br>{prose(info.question)} | "
                f"{shown} | {'; '.join([*misses, prose(info.blind_to)])} |"
            )
        lines.append("")
    return "\n".join(lines)


def slug(info: MetricInfo) -> str:
    """Give the name of a metric's page."""
    return re.sub(r"[^a-z0-9_]", "-", info.name.lower())


def pages(
    metrics: Sequence[MetricInfo] = METRICS,
    curves: Iterable[Row] | None = None,
    judged: Sequence[Row] | None = None,
) -> dict[str, str]:
    """Give all pages: path in the site's sources to Markdown."""
    judged = read("summary.csv") if judged is None else judged
    drawn = curves_of(read("curves.csv") if curves is None else curves, judged)
    made = {f"{FOLDER}/index.md": index(metrics, drawn)}
    for info in metrics:
        mine = [row for row in judged if row["metric"] == info.name]
        made[f"{FOLDER}/{slug(info)}.md"] = page(info, drawn.get(info.name, []), mine)
    return made


def navigation(metrics: Sequence[MetricInfo] = METRICS) -> list[Any]:
    """Give the section of the navigation."""
    listed: list[Any] = [f"{FOLDER}/index.md"]
    for heading in GROUPS:
        mine = [f"{FOLDER}/{slug(info)}.md" for info in metrics if group(info) == heading]
        if mine:
            listed.append({heading: mine})
    return listed


def linked(markdown: str, metrics: Sequence[MetricInfo] = METRICS) -> str:
    """Link the names in the table of metrics.md to their pages: these are in the site alone."""
    for info in metrics:
        name = f"| `{info.name}` |"
        markdown = markdown.replace(name, f"| [`{info.name}`]({FOLDER}/{slug(info)}.md) |", 1)
    return markdown
