"""The run behind ``evalsuite tune``: search a recipe's knobs for the smallest gap.

The real data is dealt into three parts, whole groups at a time: what is generated from, what the
search measures against, and what judges the recipe that it found. A search that sees its judge
finds the recipe that flatters it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .correct import Looks, halved, halves, in_real_units, write_part
from .data import open_dataset
from .encoders import FeatureCache
from .errors import DataError, ModelError, UsageError
from .gate.policy import Policy, load_policy
from .generators import items_of, parse_recipe
from .generators.protocol import RecipeError
from .report.render import write_atomically
from .strict_yaml import read_mapping, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .data import Dataset
    from .generators import Recipe


@dataclass(frozen=True, slots=True)
class Knob:
    """An argument of a recipe that the search may set.

    Attributes
    ----------
    path : str
        Where it is: ``steps.0.corrupt.severity``.
    range : (float, float) or None
        Its ends; whole numbers make a whole range, ``1.0:5.0`` a continuous one.
    choices : tuple
        In place of a range: its values.
    """

    path: str
    range: tuple[float, float] | None = None
    choices: tuple[Any, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Knob:
        """Read ``path=low:high`` or ``path=a,b,c``.

        Raises
        ------
        UsageError
            If it is neither.
        """
        path, equals, values = (part.strip() for part in text.partition("="))
        if not path or not equals or not values:
            raise UsageError(
                f"a knob is an argument and its range, as in steps.0.corrupt.severity=1.0:5.0, or "
                f"its choices, as in steps.0.corrupt.kind=fog,snow; got {text!r}"
            )
        try:
            if ":" not in values:
                return cls(path, choices=tuple(yaml.safe_load(v) for v in values.split(",")))
            ends = [yaml.safe_load(v) for v in values.split(":")]
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UsageError(f"{text!r}: a value is not YAML: {error}") from None
        numbers = [e for e in ends if isinstance(e, int | float) and not isinstance(e, bool)]
        if len(ends) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
            raise UsageError(
                f"{text!r}: a range is two numbers, the lower one first, as in 1.0:5.0"
            )
        return cls(path, range=(numbers[0], numbers[1]))

    def suggest(self, trial: Any) -> Any:
        """Let a trial of optuna choose a value."""
        if self.range is None:
            return trial.suggest_categorical(self.path, list(self.choices))
        low, high = self.range
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(self.path, low, high)
        return trial.suggest_float(self.path, low, high)


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting of the knobs, and what it gave against the part that the search measures by."""

    number: int
    knobs: dict[str, Any]
    gap: float
    """KID as a share of the real data's variance; 0 is best, under 0 by chance."""
    coverage: float
    """Of the real data, as a share of what another real sample would cover; about 1 is best."""


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What the search found."""

    trials: tuple[Trial, ...]
    best: Trial | None
    """The smallest gap among the trials that reach the coverage; None if none does."""
    judged_gap: float | None
    judged_coverage: float | None
    second_gap: float | None
    """By the second look, which the search did not use."""
    recipe: Path | None
    """The recipe with the best knobs."""


def tune(
    recipe: str | Path,
    real: str | Path,
    *,
    out: str | Path,
    knobs: Sequence[str],
    trials: int = 20,
    n: int = 100,
    coverage: float = 0.8,
    policy: Policy | str | Path | None = None,
    seed: int | None = None,
    cache: FeatureCache | bool = True,
    allow_hosts: Sequence[str] = (),
    progress: bool | None = None,
) -> TuneResult:
    """Search the knobs of a recipe for the smallest gap at a stated coverage.

    Parameters
    ----------
    recipe : path
        A recipe that is valid as it is.
    real : path
        Real data, of one modality.
    out : path
        Gets ``study.db`` (SQLite, optuna's), ``recipe.yaml`` and ``tune.json``. A search that was
        stopped goes on when it is started again with the same recipe, data and knobs.
    knobs : sequence of str
        ``path=low:high`` or ``path=a,b,c``; see :class:`Knob`.
    trials : int
        In all, with those of earlier runs.
    n : int
        Samples in each trial.
    coverage : float
        The least coverage, as a share of what a real sample of that size covers.
    policy : Policy or path, optional
        Its first encoder measures.
    seed : int, optional
        In place of the recipe's.
    cache, allow_hosts, progress
        As :func:`~evalsuite.pipeline.run.run_gate`.

    Returns
    -------
    TuneResult

    Raises
    ------
    UsageError
        If a knob is not in the recipe, or the folder holds another search.
    DataError
        If the real data is too small for three parts.
    ModelError
        If optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ModelError("the search needs optuna: pip install 'evalsuite[tune]'") from error
    if not 0 <= coverage <= 1:
        raise UsageError(f"coverage must be within [0, 1], got {coverage:g}")
    if trials < 1 or n < 10:
        raise UsageError(f"need trials of 1 or more and n of 10 or more, got {trials} and {n}")
    rules = policy if isinstance(policy, Policy) else load_policy(Path(policy) if policy else None)
    text = read_text(recipe, "recipe", RecipeError)
    wanted = [Knob.parse(k) for k in knobs]
    if not wanted:
        raise UsageError("name at least one knob")
    base = read_mapping(text, str(recipe), RecipeError)
    if seed is not None:
        base["seed"] = seed
    parse_recipe(yaml.safe_dump(base), str(recipe))
    for knob in wanted:
        _set(base, knob.path, None, check=True)

    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    data = open_dataset(real, allow_hosts=allow_hosts)
    job = {"recipe": base, "knobs": list(knobs), "n": n, "real": data.name, "samples": len(data)}
    _same_job(target / "job.json", job)
    parts = halves(data, rules)
    source, reference = halved(parts["calibration"], rules.seed, "tune")
    if min(len(source), len(reference)) < rules.min_samples:
        raise DataError(
            f"{len(data)} real samples are dealt into {len(source)} to generate from, "
            f"{len(reference)} to search by and {len(parts['judge'])} to judge by, and the policy "
            f"asks for {rules.min_samples} in each part: give more, or lower its min_samples"
        )
    homes = {}
    for name, samples in (("source", source), ("reference", reference), ("judge", parts["judge"])):
        homes[name] = target / "real" / name
        if not homes[name].exists():
            write_part(data, samples, homes[name])
    modality = _modality(data)
    store = FeatureCache() if cache is True else cache or None
    looks = Looks(modality, rules, store, progress=progress)
    origin = open_dataset(homes["source"])
    features = {
        name: looks.at(open_dataset(homes[name]), name).features for name in ("reference", "judge")
    }

    def made(changed: Recipe, where: Path) -> dict[str, Any]:
        """Generate a set and give its features; the set itself is not kept."""
        shutil.rmtree(where, ignore_errors=True)
        changed.run(items_of(origin), where, n=n)
        found = looks.at(open_dataset(where), where.name).features
        shutil.rmtree(where)
        return found

    def objective(trial: Any) -> float:
        values = {knob.path: knob.suggest(trial) for knob in wanted}
        found = made(_with(base, values, str(recipe)), target / "trial")[looks.own[0]]
        gap, share = _measured(features["reference"][looks.own[0]], found)
        trial.set_user_attr("coverage", share)
        trial.set_constraint("coverage", coverage - share)
        return gap

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{(target / 'study.db').resolve()}"
    study = optuna.create_study(storage=storage, study_name="tune", load_if_exists=True)
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        # Left by a run that was killed: nobody will end it.
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    complete = (optuna.trial.TrialState.COMPLETE,)
    done = len(study.get_trials(states=complete))
    for k in range(done, trials):
        # A sampler's stream is not kept: with one for each trial, a resumed search is the same.
        study.sampler = optuna.samplers.TPESampler(seed=(base["seed"] + k) % 2**32)
        study.optimize(objective, n_trials=1)
    found = tuple(  # numbered without those that were stopped
        Trial(k, dict(t.params), float(t.values[0]), float(t.user_attrs["coverage"]))
        for k, t in enumerate(study.get_trials(states=complete))
    )
    enough = [t for t in found if t.coverage >= coverage]
    if not enough:
        return _written(TuneResult(found, None, None, None, None, None), target)
    best = min(enough, key=lambda t: (t.gap, t.number))
    chosen = _with(base, best.knobs, str(recipe))
    path = target / "recipe.yaml"
    write_atomically(path, yaml.safe_dump(chosen.model_dump(), sort_keys=False).encode())
    last = made(chosen, target / "best")
    gap, share = _measured(features["judge"][looks.own[0]], last[looks.own[0]])
    sets = (features["reference"], features["judge"], last)
    second, _ = _measured(*in_real_units(*(x[looks.second] for x in sets)))
    return _written(TuneResult(found, best, gap, share, second, path), target)


def _modality(data: Dataset) -> str:
    media = [m for m in data.modalities if m != "text"] or list(data.modalities)
    if len(media) > 1:
        raise UsageError(
            f"tune takes data of one medium; {data.name!r} holds {' and '.join(media)}"
        )
    return media[0]


def _same_job(path: Path, job: dict[str, Any]) -> None:
    if not path.exists():
        write_atomically(path, (json.dumps(job, indent=1, default=str) + "\n").encode())
        return
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is damaged: name a new folder") from None
    if found != json.loads(json.dumps(job, default=str)):
        raise UsageError(f"{path.parent} holds another search: name a new folder")


def _with(base: dict[str, Any], values: dict[str, Any], where: str) -> Recipe:
    changed = json.loads(json.dumps(base))
    for path, value in values.items():
        _set(changed, path, value)
    return parse_recipe(yaml.safe_dump(changed), where)


def _set(recipe: Any, path: str, value: Any, *, check: bool = False) -> None:
    """Set an argument in the recipe's tree; with ``check``, only see that it can be set."""
    *way, last = path.split(".")
    here = recipe
    for part in way:
        try:
            here = here[int(part)] if isinstance(here, list) else here[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise UsageError(
                f"the recipe has no {path!r}: {part!r} is not there; a knob is named from the "
                "recipe's top, as in steps.0.corrupt.severity"
            ) from None
    if not isinstance(here, dict):
        raise UsageError(f"the recipe has no arguments at {'.'.join(way)!r}: write them out")
    if not check:
        here[last] = value


def _measured(real: Any, synthetic: Any) -> tuple[float, float]:
    """Give the gap, and the coverage as a share of what chance lets real data reach."""
    from .metrics.distribution.kernel import kernel_distance
    from .metrics.distribution.manifold import (
        expected_coverage,
        precision_recall_density_coverage,
    )

    distance = kernel_distance(real, synthetic, "polynomial")
    shape = precision_recall_density_coverage(real, synthetic, level=None)
    share = shape.coverage / expected_coverage(len(real), len(synthetic))
    return distance.value / distance.spread, share


def _written(result: TuneResult, out: Path) -> TuneResult:
    from dataclasses import asdict

    text = json.dumps(asdict(result), indent=1, default=str)
    write_atomically(out / "tune.json", (text + "\n").encode())
    return result
