"""The policy: what the gate asks of the data, as YAML that people edit and machines check."""

from __future__ import annotations

import difflib
import hashlib
import json
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import PolicyError
from ..strict_yaml import read_mapping, read_text

if TYPE_CHECKING:
    from pathlib import Path


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Rule(_Strict):
    """One requirement: the gap of a metric, with all its uncertainty, stays within a tolerance."""

    metric: Annotated[str, Field(description="Name of a metric; `evalsuite metrics` lists them.")]
    tolerance: Annotated[
        float,
        Field(
            gt=0,
            description="The largest gap that is still fit for use, in the metric's gap unit. "
            "The rule fails when the whole confidence interval lies above it and passes when the "
            "whole interval lies below it.",
        ),
    ]
    warn_from: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="A detected gap whose interval reaches this share of the tolerance warns.",
        ),
    ] = 0.5
    modality: Annotated[str, Field(description="Which modality; '*' for any.")] = "*"
    encoder: Annotated[str, Field(description="Which encoder; '*' for any.")] = "*"
    slice: Annotated[str, Field(description="Which slice; 'all' is the whole set.")] = "all"
    on_missing: Annotated[
        Literal["error", "ignore"],
        Field(description="What a metric that was not measured is worth."),
    ] = "error"
    severity: Annotated[
        Literal["fail", "warn"],
        Field(description="'warn' turns a failure of this rule into a warning."),
    ] = "fail"


class Integrity(_Strict):
    """What the files themselves must be like; shares of the samples found."""

    max_unreadable: Annotated[
        float, Field(ge=0, le=1, description="Samples that could not be used, of either set.")
    ] = 0.01
    max_duplicates: Annotated[
        float, Field(ge=0, le=1, description="Exact repeats within the synthetic set: warns.")
    ] = 0.05
    max_exact_copies: Annotated[
        float,
        Field(
            ge=0, le=1, description="Synthetic samples that are byte for byte a real one: warns."
        ),
    ] = 0.0


class Calibration(_Strict):
    """How much work goes into saying what chance alone would give."""

    splits: Annotated[
        int, Field(ge=20, le=2000, description="Random real-against-real splits for the floor.")
    ] = 100
    permutations: Annotated[
        int, Field(ge=99, le=100_000, description="Permutations for each p-value.")
    ] = 499
    costly_permutations: Annotated[
        int,
        Field(
            ge=99,
            le=100_000,
            description="The same for the Fréchet distance and the classifier, where each is a "
            "decomposition or a refit; never more than `permutations`.",
        ),
    ] = 199
    confidence: Annotated[float, Field(gt=0.5, lt=1, description="Level of the intervals.")] = 0.95
    power: Annotated[
        float, Field(gt=0.5, lt=1, description="Power that 'n required' plans for.")
    ] = 0.8
    max_samples: Annotated[
        int,
        Field(
            ge=100,
            description="At most this many samples a side enter the pairwise statistics of the "
            "calibration; the metric's value itself always uses all of them.",
        ),
    ] = 2500
    exact_up_to: Annotated[
        int,
        Field(
            ge=100,
            description="Up to this many samples a side, values are exact over all pairs; above, "
            "kernel distances and the k-NN metrics are approximated in linear time, and the "
            "finding names how and with which error.",
        ),
    ] = 20_000


class Ties(_Strict):
    """Which models say whether the parts of a record belong together; null leaves a tie out."""

    image_text: Annotated[
        str | None, Field(description="Model whose score says how well a text fits an image.")
    ] = "conse"
    audio_text: Annotated[
        str | None, Field(description="Model that writes down speech, to compare with the text.")
    ] = "whisper_base"
    language: Annotated[
        str | None,
        Field(description="ISO 639-1 code of the speech; null hears it from each recording."),
    ] = None


class Policy(_Strict):
    """A whole policy.

    ``model_json_schema()`` is published as ``policy.schema.json``.
    """

    version: Literal[1] = 1
    name: str = "unnamed"
    alpha: Annotated[
        float,
        Field(
            gt=0,
            lt=0.5,
            description="Chance that a set as good as the real one is met with a detected gap, "
            "over all rules together (Holm).",
        ),
    ] = 0.05
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    encoders: Annotated[
        dict[str, tuple[str, ...]],
        Field(description="Modality to the encoders that measure it."),
    ] = {
        "image": ("efficientnet_lite0",),
        # Whisper's hears words through noise, and does not see it; the spectrum's does.
        "audio": ("whisper_base_encoder", "logmel_stats"),
        "text": ("minilm_l6",),
    }
    scorers: Annotated[
        dict[str, tuple[str, ...]],
        Field(description="Modality to the models that give single samples a score of quality."),
    ] = {"audio": ("dnsmos",)}
    ties: Ties = Ties()
    min_samples: Annotated[
        int, Field(ge=12, description="Fewer usable samples on a side are inconclusive.")
    ] = 30
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    integrity: Integrity = Integrity()
    calibration: Calibration = Calibration()

    @model_validator(mode="after")
    def _enough_permutations(self) -> Policy:
        fewest = min(self.calibration.permutations, self.calibration.costly_permutations)
        if len(self.rules) / (fewest + 1) > self.alpha:
            raise ValueError(
                f"{fewest} permutations can never give a p-value under "
                f"alpha={self.alpha} once adjusted for {len(self.rules)} rules: use at least "
                f"{int(len(self.rules) / self.alpha)}"
            )
        return self

    def canonical(self) -> dict[str, Any]:
        """All settings, defaults included, as plain data."""
        return self.model_dump(mode="json")

    def sha256(self) -> str:
        """Hash over :meth:`canonical`: two policies that mean the same have the same one."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    """Give the keys that are allowed where an unknown one was found."""
    model: type[BaseModel] = Policy
    inner: dict[str, type[BaseModel]] = {
        "rules": Rule,
        "integrity": Integrity,
        "calibration": Calibration,
        "ties": Ties,
    }
    for part in location[:-1]:
        if isinstance(part, str) and part in inner:
            model = inner[part]
    return list(model.model_fields)


def _explain(error: ValidationError, where: str) -> str:
    lines = []
    inner = {item["loc"][0] for item in error.errors() if len(item["loc"]) > 1}
    for item in error.errors():
        if item["type"] == "too_short" and item["loc"] and item["loc"][0] in inner:
            continue  # only because the entries themselves are wrong, which is said already
        path = ".".join(str(part) for part in item["loc"]) or "policy"
        if item["type"] == "extra_forbidden":
            name = str(item["loc"][-1])
            known = _known_keys(item["loc"])
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
            lines.append(f"  {path}: unknown key; {hint}")
        else:
            lines.append(f"  {path}: {item['msg']} (got {str(item['input'])[:80]!r})")
    return f"{where} is not a valid policy:\n" + "\n".join(lines)


def parse_policy(text: str, where: str = "the policy") -> Policy:
    """Read a policy from YAML text.

    Raises
    ------
    PolicyError
        Naming each wrong key or value, with the key that was probably meant.
    """
    data = read_mapping(text, where, PolicyError)
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        raise PolicyError(_explain(error, where)) from None


def load_policy(path: str | Path | None = None) -> Policy:
    """Read a policy file; None gives the default policy, which needs no editing.

    Raises
    ------
    PolicyError
        If the file is missing, too large, not UTF-8, or not a valid policy.
    """
    if path is None:
        text = resources.files(__package__).joinpath("default.yaml").read_text("utf-8")
        return parse_policy(text, "the default policy")
    return parse_policy(read_text(path, "policy", PolicyError), str(path))


def policy_schema() -> dict[str, Any]:
    """JSON Schema of a policy, for editors that complete and check YAML."""
    schema = Policy.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "evalsuite policy"
    return schema
