"""Personal data in text by Presidio: rules of many countries, and names where a model is given.

Presidio is Microsoft's library of recognisers. Its rules work without a model, on spaCy's blank
tokenizer; its default model would be downloaded, and never is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from ...errors import ModelError
from ..registry import register, suggestion
from ..values import Modality, Params
from .text import Stream, key_of_environment, long_enough

# Their checks fetch the list of top-level domains: replace_pii finds both without.
_FETCHING = {"EMAIL_ADDRESS", "URL"}
_BY_MODEL = {"PERSON", "LOCATION", "ORGANIZATION", "NRP"}
_AT_ONCE = Lock()


@register
class ReplaceEntities:
    """Replace what Presidio's recognisers find by keyed names such as ``US_SSN_3f9a0c21d4``.

    The same value has the same name in all texts as long as the key is the same (HMAC-SHA256); the
    key is that of :class:`~evalsuite.generators.privacy.text.ReplacePII`. Names of people, places
    and organisations are found only with a spaCy model of yours, and as well as that model does it.
    E-mail addresses and URLs are left to ``replace_pii``, because Presidio's check of them fetches
    a list.

    Parameters
    ----------
    entities : list of str, optional
        What to replace, by Presidio's names; by default all that its rules for the language know,
        and with a model ``PERSON``, ``LOCATION``, ``ORGANIZATION`` and ``NRP``.
    language : str
        ISO 639-1 code of the texts.
    least_score : float
        Presidio's confidence from which something is replaced. Its rules without a checksum or a
        word beside them that confirms them give less than 0.4.
    model : str, optional
        Folder of a spaCy pipeline with an entity recogniser, as ``nlp.to_disk`` writes it.

    Raises
    ------
    ModelError
        If Presidio is not installed, or the folder holds no spaCy pipeline.
    ValueError
        If an entity is unknown for the language, or the score is not within [0, 1].
    """

    name: ClassVar[str] = "replace_entities"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.TEXT
    libraries: ClassVar[tuple[str, ...]] = ("presidio-analyzer", "spacy", "phonenumbers")

    def __init__(
        self,
        entities: list[str] | None = None,
        language: str = "en",
        least_score: float = 0.4,
        model: str | None = None,
    ) -> None:
        if not 0 <= least_score <= 1:
            raise ValueError(f"least_score must be within [0, 1], got {least_score}")
        _, known = _analyzer(language, model)
        self.entities = sorted(known if entities is None else entities)
        for entity in self.entities:
            if entity not in known:
                raise ValueError(
                    f"no rule for {entity!r} in the language {language!r}"
                    f"{suggestion(entity, sorted(known))}"
                )
        self.language, self.least_score, self.model = language, float(least_score), model
        self._key: bytes | None = None

    @property
    def params(self) -> Params:
        """The arguments."""
        return {
            "entities": self.entities,
            "language": self.language,
            "least_score": self.least_score,
            "model": self.model,
        }

    def with_key(self, key: bytes) -> ReplaceEntities:
        """Give the same with a key of its own.

        Raises
        ------
        UsageError
            If it is shorter than 16 bytes.
        """
        bound = copy(self)
        bound._key = long_enough(key)
        return bound

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Draw nothing."""
        return {}

    def find(self, text: str) -> list[tuple[int, int, str]]:
        """Find what is to be replaced: start, end and entity, in order; none overlaps another."""
        analyzer, _ = _analyzer(self.language, self.model)
        with _AT_ONCE:
            found = analyzer.analyze(
                text,
                language=self.language,
                entities=self.entities,
                score_threshold=self.least_score,
            )
        kept: list[tuple[int, int, str]] = []
        # The surest first; of equals the longer.
        for one in sorted(found, key=lambda r: (-r.score, r.start - r.end, r.start)):
            if all(one.end <= start or end <= one.start for start, end, _ in kept):
                kept.append((one.start, one.end, one.entity_type))
        return sorted(kept)

    def apply(self, value: str, params: Params) -> str:  # noqa: ARG002 - the protocol's
        """Replace what is found.

        Raises
        ------
        UsageError
            If there is no key.
        """
        key = self._key if self._key is not None else key_of_environment()
        parts: list[str] = []
        last = 0
        for start, end, entity in self.find(value):
            shown = " ".join(value[start:end].split()).casefold()
            parts += [value[last:start], f"{entity}_{Stream(key, entity, shown).word()}"]
            last = end
        return "".join([*parts, value[last:]])


@lru_cache(maxsize=4)
def _analyzer(language: str, model: str | None) -> tuple[Any, frozenset[str]]:
    """Make Presidio's analyser of a language, and list what it finds."""
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer
    except ImportError as error:
        raise ModelError(
            "replace_entities needs presidio: pip install 'evalsuite[presidio]'"
        ) from error
    try:
        nlp = spacy.blank(language) if model is None else _pipeline(model)
    except ImportError as error:
        raise ValueError(f"spaCy knows no language {language!r}: {error}") from error
    engine: Any = SpacyNlpEngine(models=[{"lang_code": language, "model_name": str(model)}])
    engine.nlp = {language: nlp}
    registry = RecognizerRegistry(supported_languages=[language])
    said = logging.getLogger("presidio-analyzer")
    level = said.level
    said.setLevel(logging.ERROR)  # it warns of every rule of another language
    registry.load_predefined_recognizers(languages=[language], nlp_engine=engine)
    said.setLevel(level)
    of_model = [r for r in registry.recognizers if isinstance(r, SpacyRecognizer)]
    rules = [r for r in registry.recognizers if not isinstance(r, SpacyRecognizer)]
    rules = [r for r in rules if not _FETCHING & set(r.supported_entities)]
    registry.recognizers = rules if model is None else [*rules, *of_model]
    known = _named(rules) | (_BY_MODEL & _named(of_model) if model is not None else set())
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])
    return analyzer, frozenset(known)


def _named(recognizers: Sequence[Any]) -> set[str]:
    return {entity for one in recognizers for entity in one.supported_entities}


def _pipeline(model: str) -> Any:
    from spacy.util import load_model_from_path

    folder = Path(model)
    if not (folder / "config.cfg").is_file():
        raise ModelError(
            f"{model} is not a folder of a spaCy pipeline (it has no config.cfg): give one that "
            "nlp.to_disk wrote; nothing is downloaded"
        )
    try:
        return load_model_from_path(folder)
    except (ImportError, OSError, ValueError) as error:
        raise ModelError(f"cannot load the spaCy pipeline in {model}: {error}") from error
