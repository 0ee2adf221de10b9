"""``evalsuite study new``: a stratified, blinded, randomised sample, and the key to it.

Two files come of it. ``study.html`` goes to the raters: it holds media and questions under random
names, and nothing that says which set a sample is from. ``key.json`` stays here.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from pydantic import Field, ValidationError

from ..data.dataset import BadSample, open_dataset
from ..errors import DataError, UsageError
from ..gate.findings import Value
from ..metrics.human.opinion import Components, items_for_precision
from ..report.render import write_atomically
from ..report.text import clean
from .media import Shown, embed, lossy, show, size_of, spoil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..data import Dataset, Sample

Kind: TypeAlias = Literal["mos", "ab", "real-or-synthetic", "label"]
KEY_VERSION = "1.0"
MAX_BYTES = 40_000_000
"""No page of a study is larger."""
MAX_TRIALS = 2000
DEFAULT_N = 30
DEFAULT_RATERS = 8

_ENDING = re.compile(r"\.[A-Za-z0-9]{2,5}$")

CHOICES: dict[Kind, tuple[int, ...]] = {
    "mos": (5, 4, 3, 2, 1),
    "ab": (1, 2, 0),
    "real-or-synthetic": (1, 2),
    "label": (1, 0, 2),
}
"""What a vote may be, in the order in which it is offered. ``ab``: the first or the second item of
the trial, or no difference. ``real-or-synthetic``: real, synthetic. ``label``: right, wrong,
cannot say."""

ASSUMED: dict[Kind, Components] = {
    "mos": Components(rater=0.4**2, item=0.6**2, residual=0.7**2),
    "ab": Components(rater=0.1**2, item=0.25**2, residual=0.42**2),
    "real-or-synthetic": Components(rater=0.1**2, item=0.25**2, residual=0.42**2),
    "label": Components(rater=0.05**2, item=0.25**2, residual=0.15**2),
}
"""What ``--precision`` plans by before there are votes: a standard deviation of a vote of 1 on the
five-point scale, and of ½ (the largest there is) for a share, split as rating studies split."""


class SetInfo(Value):
    """One of the sets."""

    name: str
    source: str
    samples: int


class Item(Value):
    """A sample that is shown."""

    set: str
    sample: str
    label: str | None = None
    spoiled: bool = False


class Trial(Value):
    """One question: an item, or two to choose between."""

    items: tuple[str, ...] = Field(min_length=1, max_length=2)
    passes: tuple[int, ...] | None = None
    """Of a catch trial: the votes of somebody who pays attention. None for all others."""


class Key(Value):
    """What the raters must not see; with it the votes can be scored."""

    schema_version: str = KEY_VERSION
    study: str
    kind: Kind
    lang: str
    seed: int
    modalities: tuple[str, ...]
    sets: tuple[SetInfo, ...]
    n: int
    """Items of each set; of ``ab`` the pairs of each two sets."""
    raters: int
    precision: float | None = None
    paired_by: Literal["id", "label", "chance"] | None = None
    items: dict[str, Item]
    trials: dict[str, Trial]
    strata: dict[str, int] = Field(default_factory=dict)
    left_out: dict[str, int] = Field(default_factory=dict)
    """Why samples could not be drawn, to how many."""
    encoding: Literal["lossless", "lossy"] = "lossless"
    bytes: int = 0

    def ordinary(self) -> dict[str, Trial]:
        """Give the trials that are no catch."""
        return {name: trial for name, trial in self.trials.items() if trial.passes is None}


def plan_items(kind: Kind, precision: float, raters: int) -> int:
    """Count the items of each set that a precision needs, before there are any votes.

    Parameters
    ----------
    kind : str
    precision : float
        Half the width of the interval: in points for ``mos``, as a share for the others.
    raters : int

    Raises
    ------
    UsageError
        If so few raters cannot give it.
    """
    try:
        return items_for_precision(precision, raters=raters, components=ASSUMED[kind])
    except ValueError as error:
        raise UsageError(f"--precision {precision:g}: {error}") from None


def new_study(
    sets: Sequence[str | Path],
    out: str | Path,
    *,
    kind: Kind,
    n: int | None = None,
    precision: float | None = None,
    raters: int = DEFAULT_RATERS,
    names: Sequence[str] | None = None,
    catch: int | None = None,
    lang: str = "en",
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
    allow_hosts: Sequence[str] = (),
) -> Key:
    """Draw a study and write ``study.html`` and ``key.json``.

    The sample of each set has the same labels in the same numbers, as far as all sets have them;
    each is drawn at random. All raters see all items, each in an order of his own, with the sides
    of a pair at random.

    Parameters
    ----------
    sets : sequence of path
        Data sets. ``ab`` takes two or more, ``real-or-synthetic`` the real one and then the
        synthetic ones.
    out : path
        Folder.
    kind : {"mos", "ab", "real-or-synthetic", "label"}
    n : int, optional
        Items of each set; of ``ab``, pairs of each two sets. 30 by default.
    precision : float, optional
        In place of ``n``: half the width that the intervals shall have.
    raters : int
        How many people will rate, for ``precision``.
    names : sequence of str, optional
        Of the sets; only the report shows them.
    catch : int, optional
        Trials with a known answer; by default a tenth of the others, at least 3.
    lang : {"en", "ja"}
        Of the page.
    seed : int
    max_bytes : int
        Of the page. Where media are too large for it, all of them are encoded with loss; where that
        is not enough, it is refused.
    allow_hosts : sequence of str
        Servers of object stores that are not on premise and may be asked.

    Returns
    -------
    Key

    Raises
    ------
    UsageError
        If the request does not fit together.
    DataError
        If there are too few samples, or the page would be too large.
    """
    from .page import render_study

    if kind not in get_args(Kind):
        raise UsageError(f"no study of kind {kind!r}: use one of {', '.join(get_args(Kind))}")
    fewest = 1 if kind in ("mos", "label") else 2
    if len(sets) < fewest:
        raise UsageError(f"a study of kind {kind} needs at least {fewest} sets, got {len(sets)}")
    if n is not None and precision is not None:
        raise UsageError("give either --n or --precision, not both")
    if raters < 2:
        raise UsageError(f"--raters must be at least 2, got {raters}")
    if precision is not None:
        n = plan_items(kind, precision, raters)
    n = DEFAULT_N if n is None else n
    if n < 2:
        raise UsageError(f"--n must be at least 2, got {n}")
    opened = [open_dataset(path, allow_hosts=allow_hosts) for path in sets]
    infos = _describe(sets, opened, names)
    modalities = tuple(
        m for m in ("image", "audio", "text") if all(m in d.modalities for d in opened)
    )
    if not modalities:
        raise DataError("the sets have no modality in common: there is nothing to compare")

    draw = _Draw(opened, infos, modalities, kind, random.Random(f"evalsuite study {seed}"))
    twos = list(combinations(range(len(sets)), 2))
    asked = n * (len(twos) if kind == "ab" else len(sets))
    few = max(3, round(asked / 10)) if catch is None else catch
    if few < 0 or asked + few > MAX_TRIALS:
        raise UsageError(
            f"{asked} trials and {few} catch trials are more than a person can do "
            f"({MAX_TRIALS}): ask for a smaller n, or fewer sets"
        )
    if kind == "ab":
        for i, j in twos:
            draw.pairs(i, j, n)
    else:
        draw.singles(n)
    draw.catch(few, lang)
    shown, encoding = _fit(draw.shown, max_bytes)

    key = Key(
        study="",
        kind=kind,
        lang=lang,
        seed=seed,
        modalities=modalities,
        sets=infos,
        n=n,
        raters=raters,
        precision=precision,
        paired_by=draw.paired_by,
        items=draw.items,
        trials=draw.trials,
        strata=draw.strata,
        left_out=dict(draw.left_out),
        encoding=encoding,
    )
    digest = hashlib.sha256(key.model_dump_json().encode())
    for token in sorted(shown):
        for part in embed(shown[token]).values():
            digest.update(hashlib.sha256(part.encode()).digest())
    key = key.model_copy(update={"study": digest.hexdigest()[:16]})
    page = render_study(key, shown, draw.prompts).encode()
    key = key.model_copy(update={"bytes": len(page)})
    folder = Path(out)
    if (folder / "key.json").exists() and read_key(folder).study != key.study:
        raise UsageError(f"{folder} holds another study already: choose a new folder for --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "key.json", (key.model_dump_json(indent=1) + "\n").encode())
        write_atomically(folder / "study.html", page)
    except OSError as error:
        raise DataError(f"cannot write the study to {folder}: {error.strerror}") from None
    return key


def read_key(folder: str | Path) -> Key:
    """Read the key of a study.

    Raises
    ------
    DataError
        If it is missing, or no key.
    """
    file = Path(folder)
    file = file / "key.json" if file.is_dir() else file
    try:
        plain = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise DataError(
            f"cannot read the key {file}: {error.strerror}; give the folder that "
            "`evalsuite study new` wrote"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON: {' '.join(str(error).split())[:200]}") from None
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if (
        not isinstance(version, str)
        or version.split(".")[0] != KEY_VERSION.split(".", maxsplit=1)[0]
    ):
        raise DataError(
            f"{file} has key version {str(version)[:20]!r}; this evalsuite reads {KEY_VERSION}"
        )
    try:
        key = Key.model_validate(plain)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{file} is not a key of a study: {where}: {first['msg']}") from None
    unknown = {t for trial in key.trials.values() for t in trial.items} - set(key.items)
    if unknown:
        raise DataError(f"{file} is damaged: it has no item {min(unknown)!r}")
    if others := {item.set for item in key.items.values()} - {info.name for info in key.sets}:
        raise DataError(f"{file} is damaged: it has no set {min(others)!r}")
    shown = 2 if key.kind == "ab" else 1
    for name, trial in key.trials.items():
        if len(trial.items) != shown:
            raise DataError(
                f"{file} is damaged: the trial {name!r} shows {len(trial.items)} items, not {shown}"
            )
    return key


def _describe(
    sets: Sequence[str | Path], opened: Sequence[Dataset], names: Sequence[str] | None
) -> tuple[SetInfo, ...]:
    chosen = list(names or ())
    if chosen and len(chosen) != len(sets):
        raise UsageError(f"{len(chosen)} names for {len(sets)} sets: give one for each, or none")
    if not chosen:
        chosen = [Path(path).name or str(path) for path in sets]
        if len(set(chosen)) < len(chosen):
            chosen = [str(path) for path in sets]
    if len(set(chosen)) < len(chosen):
        raise UsageError("two sets have the same name: give each its own with --name")
    return tuple(
        SetInfo(name=clean(name, 100), source=data.name, samples=len(data))
        for name, data in zip(chosen, opened, strict=True)
    )


class _Draw:
    """Trials, items and what is shown of them, as they are drawn."""

    def __init__(
        self,
        opened: Sequence[Dataset],
        infos: Sequence[SetInfo],
        modalities: tuple[str, ...],
        kind: Kind,
        rng: random.Random,
    ) -> None:
        self.opened, self.infos, self.modalities, self.kind = opened, infos, modalities, kind
        self.rng = rng
        self.items: dict[str, Item] = {}
        self.trials: dict[str, Trial] = {}
        self.prompts: dict[str, str] = {}
        self.shown: dict[str, Shown] = {}
        self.strata: dict[str, int] = {}
        self.left_out: Counter[str] = Counter()
        self.paired_by: Literal["id", "label", "chance"] | None = None
        self._tokens: dict[tuple[int, str], str] = {}
        self._refused: set[tuple[int, str]] = set()
        usable = []
        for data in opened:
            whole = [s for s in data.samples if set(modalities) <= set(s.modalities)]
            if kind == "label":
                whole = [s for s in whole if s.label is not None]
                if not whole:
                    raise DataError(f"{data.name!r} has no labels: there is none to check")
            usable.append(whole)
        self.usable: list[list[Sample]] = usable

    def singles(self, n: int) -> None:
        """Draw n items of each set, with the same labels in each."""
        pools = [self._pools(k) for k in range(len(self.opened))]
        shares = self._allocate(pools, n)
        self.strata = {str(label): count for label, count in shares.items() if label is not None}
        for k, pool in enumerate(pools):
            for label, count in shares.items():
                taken = 0
                for sample in pool[label]:
                    if taken == count:
                        break
                    token = self._show(k, sample)
                    if token is not None:
                        self._trial((token,))
                        taken += 1
                if taken < count:
                    raise DataError(
                        f"{self.infos[k].name!r} has only {taken} readable samples of "
                        f"{'label ' + repr(label) if label is not None else 'all'}, "
                        f"{count} are needed: ask for a smaller --n"
                    )

    def pairs(self, i: int, j: int, n: int) -> None:
        """Draw n pairs of two sets: of the same id where both have it, else of the same label."""
        left, right = self.usable[i], self.usable[j]
        there, here = _by_stem(right), _by_stem(left)
        same = [(s, there[stem]) for stem, s in here.items() if stem in there]
        if len(same) >= n:
            self._paired("id")
            self.rng.shuffle(same)
            self._take_pairs(i, j, same, n)
            return
        pools = [self._pools(i), self._pools(j)]
        shares = self._allocate(pools, n)
        self._paired("label" if None not in shares else "chance")
        for label, count in shares.items():
            pairs = list(zip(pools[0][label], pools[1][label], strict=False))
            self._take_pairs(i, j, pairs, count)
            if label is not None:
                self.strata[label] = self.strata.get(label, 0) + count

    def _paired(self, how: Literal["id", "label", "chance"]) -> None:
        # Of several pairs of sets the weakest way is what may be said of all.
        order = ("id", "label", "chance")
        if self.paired_by is None or order.index(how) > order.index(self.paired_by):
            self.paired_by = how

    def _take_pairs(self, i: int, j: int, pairs: list[tuple[Sample, Sample]], count: int) -> None:
        taken = 0
        for a, b in pairs:
            if taken == count:
                return
            one, two = self._show(i, a), self._show(j, b)
            if one is not None and two is not None:
                self._trial((one, two))
                taken += 1
        if taken < count:
            raise DataError(
                f"{self.infos[i].name!r} and {self.infos[j].name!r} have only {taken} readable "
                f"pairs, {count} are needed: ask for a smaller --n"
            )

    def _pools(self, k: int) -> dict[str | None, list[Sample]]:
        """Give the samples of a set by label, each label's in random order."""
        labels = [{s.label for s in samples} for samples in self.usable]
        shared = set.intersection(*labels)
        pools: dict[str | None, list[Sample]] = {}
        for sample in self.usable[k]:
            label = sample.label if None not in shared and shared else None
            if label is None or label in shared:
                pools.setdefault(label, []).append(sample)
        for pool in pools.values():
            self.rng.shuffle(pool)
        return dict(sorted(pools.items(), key=lambda item: str(item[0])))

    def _allocate(
        self, pools: list[dict[str | None, list[Sample]]], n: int
    ) -> dict[str | None, int]:
        """Share n among labels as the first set does, within what every set has."""
        room = {label: min(len(pool[label]) for pool in pools) for label in pools[0]}
        if sum(room.values()) < n:
            smallest = min(self.infos, key=lambda info: info.samples)
            raise DataError(
                f"{n} items of each set are needed; of the labels that the sets share there are "
                f"only {sum(room.values())} (the smallest set is {smallest.name!r} with "
                f"{smallest.samples} samples): ask for a smaller --n or less --precision"
            )
        total = sum(len(pool) for pool in pools[0].values())
        shares = dict.fromkeys(room, 0)
        for _ in range(n):
            open_ = [label for label in room if shares[label] < room[label]]
            lacking = max(
                open_,
                key=lambda label: (
                    shares[label] == 0,
                    n * len(pools[0][label]) / total - shares[label],
                ),
            )
            shares[lacking] += 1
        return shares

    def catch(self, count: int, lang: str) -> None:
        """Add trials with a known answer: a spoiled item, or one that says what to choose."""
        from ..report.i18n import Translator

        tr = Translator(lang)
        tokens = list(self.items)
        for k in range(count):
            token = self.rng.choice(tokens)
            if self.kind in ("mos", "ab"):
                bad = self._token()
                self.items[bad] = self.items[token].model_copy(update={"spoiled": True})
                self.shown[bad] = spoil(self.shown[token], self.rng.getrandbits(32))
                if self.kind == "mos":
                    self._trial((bad,), passes=(1, 2))
                else:
                    self._trial((token, bad), passes=(1,))
                continue
            # Which of the two is asked for goes in turns: always choosing one fails half of them.
            wanted = CHOICES[self.kind][k % 2]
            trial = self._trial((token,), passes=(wanted,))
            answer = tr.t(f"study.choice.{self.kind}.{wanted}")
            self.prompts[trial] = tr.t("study.page.instructed", {"answer": answer})

    def _show(self, k: int, sample: Sample) -> str | None:
        """Give the token of a sample; None if it cannot be read, which is counted."""
        place = (k, sample.id)
        if place in self._tokens or place in self._refused:
            return self._tokens.get(place)
        try:
            shown = show(self.opened[k], sample, self.modalities)
        except BadSample as bad:
            self._refused.add(place)
            self.left_out[bad.kind] += 1
            return None
        token = self._tokens[place] = self._token()
        self.items[token] = Item(set=self.infos[k].name, sample=sample.id, label=sample.label)
        self.shown[token] = shown
        return token

    def _trial(self, tokens: tuple[str, ...], passes: tuple[int, ...] | None = None) -> str:
        name = self._token()
        self.trials[name] = Trial(items=tokens, passes=passes)
        return name

    def _token(self) -> str:
        return f"{self.rng.getrandbits(64):016x}"


def _by_stem(samples: Sequence[Sample]) -> dict[str, Sample]:
    """Give samples by id without a file's ending, so that u1.wav meets u1.mp3.

    Two of one set that differ in their ending alone are left out: which is meant is not known.
    """
    stems = [_ENDING.sub("", s.id) for s in samples]
    counts = Counter(stems)
    return {stem: s for stem, s in zip(stems, samples, strict=True) if counts[stem] == 1}


def _fit(
    shown: dict[str, Shown], max_bytes: int
) -> tuple[dict[str, Shown], Literal["lossless", "lossy"]]:
    """Encode all media alike, so that they fit into a page."""
    if sum(map(size_of, shown.values())) <= max_bytes:
        return shown, "lossless"
    smaller = {token: lossy(part) for token, part in shown.items()}
    size = sum(map(size_of, smaller.values()))
    if size > max_bytes:
        raise DataError(
            f"the media take {size / 1e6:,.0f} MB, a page holds {max_bytes / 1e6:,.0f} MB: "
            f"ask for a smaller --n; about {max(2, int(len(shown) * max_bytes / size)):,} items fit"
        )
    return smaller, "lossy"
