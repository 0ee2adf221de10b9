"""Word and character error rates of transcripts, and how much of them the recogniser itself makes.

Alignment is jiwer's. What is added: a normaliser that is named in the result, characters where a
language has no spaces, intervals over utterances or speakers, and the gap to real speech. A word
error rate of synthetic speech alone says as much about the recogniser as about the speech.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from .._check import groups_of
from .._result import Interval, Scalar
from ..inference import Groups, p_value, permutation_masks, pool_groups

if TYPE_CHECKING:
    from jiwer import WordOutput

NormaliserName: TypeAlias = Literal[
    "auto", "whisper_english", "whisper_basic", "characters", "none"
]
Operation: TypeAlias = Literal["equal", "substitute", "delete", "insert"]
_Floats: TypeAlias = npt.NDArray[np.float64]

WITHOUT_SPACES = frozenset({"ja", "zh", "yue", "th", "lo", "my", "km", "bo"})
"""Languages that write no spaces between words: every character counts as a word."""

_MIN_GROUPS = 5
"""Fewer give Student's t so few degrees of freedom that an interval says nothing."""
_RESAMPLES = 2000
_PERMUTATIONS = 1999
_CELLS = 2_000_000  # of the resampling weights held at once


@dataclass(frozen=True, slots=True)
class Normaliser:
    """What is done to both texts before they are compared.

    Attributes
    ----------
    id : str
        Name and version: two error rates compare only if these are equal.
    unit : {"word", "character"}
        What is aligned.
    apply : callable
        Text to normalised text.
    """

    id: str
    unit: Literal["word", "character"]
    apply: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One reference and what was heard.

    Attributes
    ----------
    rate : float
        Errors over the units of the reference; NaN where the reference is empty.
    substitutions, deletions, insertions, units : int
        Counts; ``units`` are those of the reference.
    alignment : tuple of (operation, reference, hypothesis)
        Unit by unit; the missing side of a deletion or insertion is empty.
    """

    rate: float
    substitutions: int
    deletions: int
    insertions: int
    units: int
    alignment: tuple[tuple[Operation, str, str], ...]


@dataclass(frozen=True, slots=True)
class WordErrors(Scalar):
    """Error rates of a set of transcripts; ``value`` is the WER, or the CER without spaces.

    Attributes
    ----------
    value : float
        The rate over the whole set: all errors over all units of the references. At least 0, best
        0; it exceeds 1 where more is inserted than was said.
    metric : {"wer", "cer"}
        Which one ``value`` is.
    interval : Interval or None
        None with fewer than 5 groups.
    wer, cer, mer, wil : float
        Word and character error rate, match error rate and word information lost (Morris et al.
        2004). In a language without spaces every character is a word, so ``wer`` equals ``cer``.
    substitutions, deletions, insertions, hits : int
        Of words, or of characters in a language without spaces.
    units : int
        Words (or characters) in the references.
    n, groups : int
        Utterances, and independent groups of them.
    empty_references : int
        Utterances with nothing to hear, before or after normalising. Words heard in them count as
        insertions.
    normaliser : str
        Name and version.
    utterances : tuple of Utterance
        In the given order.
    """

    metric: Literal["wer", "cer"]
    interval: Interval | None
    wer: float
    cer: float
    mer: float
    wil: float
    substitutions: int
    deletions: int
    insertions: int
    hits: int
    units: int
    n: int
    groups: int
    empty_references: int
    normaliser: str
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, slots=True)
class WerGap(Scalar):
    """How much more often synthetic speech is misheard than real speech is.

    Attributes
    ----------
    value : float
        Rate of the synthetic side less that of the real side; best 0, negative where synthetic
        speech is easier to recognise than real speech, which is a difference too.
    interval : Interval or None
        None with fewer than 5 groups on a side.
    p_value : float
        That the labels real and synthetic say nothing about the errors: permutation test, exact,
        two-sided.
    real, synthetic : WordErrors
        The two sides; the real one is the floor, the recogniser's own error.
    paired : int
        Groups with utterances on both sides, compared within themselves.
    """

    interval: Interval | None
    p_value: float
    real: WordErrors
    synthetic: WordErrors
    paired: int


@dataclass(frozen=True, slots=True)
class FloorArtefact(Scalar):
    """Whether a faint noise changes what a recogniser hears: then its errors are its own.

    Attributes
    ----------
    value : float
        Error rate with the noise less that without it.
    interval : Interval or None
        None with fewer than 5 groups.
    p_value : float
        That the noise changes nothing: exact, two-sided, paired by utterance.
    changed : bool
        Whether ``p_value`` is at most ``1 - level``.
    plain, with_floor : WordErrors
    """

    interval: Interval | None
    p_value: float
    changed: bool
    plain: WordErrors
    with_floor: WordErrors


def normaliser(language: str, name: NormaliserName = "auto") -> Normaliser:
    """Give the normaliser for a language.

    Parameters
    ----------
    language : str
        ISO 639-1 code; a region after it (``en-GB``) is ignored.
    name : str
        ``auto``: Whisper's English normaliser for English (numbers, spelling, contractions,
        fillers), ``characters`` for the languages of :data:`WITHOUT_SPACES`, Whisper's basic
        normaliser (case, punctuation, brackets) for the rest. ``characters``: NFKC, case folded,
        without punctuation, symbols, spaces and controls. ``none``: white space only.

    Raises
    ------
    ValueError
        If there is no such normaliser.
    ImportError
        If whisper-normalizer is needed and not installed.

    Notes
    -----
    Whisper's basic normaliser is used with its option to keep combining marks: without them, half
    of the vowels of Hindi or Thai would be removed. None of these knows that 七 and 7 are the same
    number, or that two kanji spellings are the same word: such pairs count as errors.

    References
    ----------
    Radford et al. 2022, Robust speech recognition via large-scale weak supervision, appendix C.
    """
    code = language.replace("_", "-").partition("-")[0].lower()
    unit: Literal["word", "character"] = "character" if code in WITHOUT_SPACES else "word"
    if name == "auto":
        name = "characters" if unit == "character" else "whisper_basic"
        if code == "en":
            name = "whisper_english"
    if name == "characters":
        return Normaliser(f"characters (Unicode {unicodedata.unidata_version})", unit, _characters)
    if name == "none":
        return Normaliser("none", unit, lambda text: " ".join(text.split()))
    if name not in ("whisper_english", "whisper_basic"):
        raise ValueError(
            "normaliser must be auto, whisper_english, whisper_basic, characters or none, got "
            f"{name!r}"
        )
    try:
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise ImportError(
            f"the normaliser {name!r} needs whisper-normalizer: pip install 'evalsuite[models]'"
        ) from error
    whisper = (
        EnglishTextNormalizer()
        if name == "whisper_english"
        else BasicTextNormalizer(preserve_marks=True)
    )

    def apply(text: str) -> str:
        # Of "well..." it leaves a lone full stop, which would count as a word.
        return " ".join(word for word in whisper(text).split() if any(map(str.isalnum, word)))

    return Normaliser(f"{name} (whisper-normalizer {version('whisper-normalizer')})", unit, apply)


def word_errors(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    language: str = "en",
    normaliser: NormaliserName = "auto",
    groups: Groups = None,
    level: float = 0.95,
    seed: int = 0,
) -> WordErrors:
    """Measure the word and character errors of transcripts.

    Parameters
    ----------
    references, hypotheses : sequence of str, length n
        What was said, and what was heard.
    language : str
        ISO 639-1 code of the references; it chooses the normaliser and the unit.
    normaliser : str
        As in :func:`normaliser`.
    groups : sequence, length n, optional
        Speaker, or source, of each utterance: groups are resampled whole.
    level : float
        Of the interval.
    seed : int
        Of the bootstrap.

    Returns
    -------
    WordErrors

    Raises
    ------
    ValueError
        If lengths differ, there is no utterance, or no reference has a word.
    TypeError
        If a text is no string.

    Notes
    -----
    The interval takes its standard error from 2,000 bootstrap resamples of the groups, and is
    symmetric for the logarithm of the rate, with Student's t on groups - 1 degrees of freedom:
    error rates are skewed, and plain percentiles miss the truth too often (docs/speech.md has the
    measured coverage). Where no error was made it is [0, u], u the Clopper-Pearson bound on the
    share of groups with an error.

    It cannot see whether an error matters, or whether speaker or recogniser made it: compare with
    real speech by :func:`wer_gap`.

    References
    ----------
    Morris, Maier & Green 2004, From WER and RIL to MER and WIL, Interspeech. Bisani & Ney 2004,
    Bootstrap estimates for confidence intervals in ASR performance evaluation, ICASSP.

    Examples
    --------
    >>> result = word_errors(["Press one, please."], ["press 1 pleas"])
    >>> round(result.wer, 3), result.utterances[0].alignment[-1]
    (0.333, ('substitute', 'please', 'pleas'))
    """
    return _measure(references, hypotheses, language, normaliser, groups, level, seed)[0]


def wer_gap(
    real_references: Sequence[str],
    real_hypotheses: Sequence[str],
    synthetic_references: Sequence[str],
    synthetic_hypotheses: Sequence[str],
    *,
    language: str = "en",
    normaliser: NormaliserName = "auto",
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    level: float = 0.95,
    seed: int = 0,
) -> WerGap:
    """Compare the errors of one recogniser on synthetic speech with those on real speech.

    Parameters
    ----------
    real_references, real_hypotheses, synthetic_references, synthetic_hypotheses : sequence of str
    language, normaliser, level, seed
        As in :func:`word_errors`.
    groups_real, groups_synthetic : sequence, optional
        Group of each utterance. A label that is on both sides (the sentence that both of them
        speak) pairs them.

    Returns
    -------
    WerGap

    Raises
    ------
    ValueError, TypeError
        As :func:`word_errors`, for either side.

    Notes
    -----
    The interval joins those of the two rates (MOVER), with the correlation that pairs bring, taken
    from a bootstrap in which a pair is drawn whole.

    If the two sides say different sentences, part of the gap may be that one side's are harder.

    References
    ----------
    Zou & Donner 2008, Construction of confidence limits about effect measures, Stat. Med. 27.
    """
    real, real_counts = _measure(
        real_references, real_hypotheses, language, normaliser, groups_real, level, seed
    )
    synthetic, synthetic_counts = _measure(
        synthetic_references,
        synthetic_hypotheses,
        language,
        normaliser,
        groups_synthetic,
        level,
        seed + 1,
    )
    pooled = pool_groups(groups_real, groups_synthetic, real.n, synthetic.n)
    if pooled is None:
        pooled = np.arange(real.n + synthetic.n)
    codes = pooled[: real.n], pooled[real.n :]
    paired = np.intersect1d(*codes).size
    errors = np.concatenate([real_counts[0], synthetic_counts[0]])
    units = np.concatenate([real_counts[1], synthetic_counts[1]])
    return WerGap(
        value=synthetic.value - real.value,
        interval=_gap_interval(real, synthetic, (real_counts, synthetic_counts), codes, seed),
        p_value=_gap_p_value(errors, units, real.n, pooled, seed),
        real=real,
        synthetic=synthetic,
        paired=paired,
    )


def floor_artefact(
    references: Sequence[str],
    plain: Sequence[str],
    with_floor: Sequence[str],
    *,
    language: str = "en",
    normaliser: NormaliserName = "auto",
    groups: Groups = None,
    level: float = 0.95,
    seed: int = 0,
) -> FloorArtefact:
    """Say whether noise too faint to matter changes a recogniser's errors.

    A recogniser that never met digital silence may mishear clean synthetic speech and hear it well
    once a noise at -50 dBFS is added. The error rate then says nothing about the speech.

    Parameters
    ----------
    references : sequence of str, length n
    plain, with_floor : sequence of str, length n
        What was heard in the recordings as they are, and with the noise added.
    language, normaliser, groups, level, seed
        As in :func:`word_errors`.

    Returns
    -------
    FloorArtefact

    Raises
    ------
    ValueError, TypeError
        As :func:`word_errors`.
    """
    labels = list(range(len(references))) if groups is None else groups
    gap = wer_gap(
        references,
        plain,
        references,
        with_floor,
        language=language,
        normaliser=normaliser,
        groups_real=labels,
        groups_synthetic=labels,
        level=level,
        seed=seed,
    )
    return FloorArtefact(
        value=gap.value,
        interval=gap.interval,
        p_value=gap.p_value,
        changed=gap.p_value <= 1 - level,
        plain=gap.real,
        with_floor=gap.synthetic,
    )


def _characters(text: str) -> str:
    """Fold width and case, and keep letters, marks and numbers."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")


def _texts(texts: Sequence[str], name: str) -> list[str]:
    if isinstance(texts, str):
        raise TypeError(f"{name} must be a sequence of strings, got one string")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{i}] must be a string, got {type(text).__name__}")
    return list(texts)


def _measure(
    references: Sequence[str],
    hypotheses: Sequence[str],
    language: str,
    name: NormaliserName,
    groups: Groups,
    level: float,
    seed: int,
) -> tuple[WordErrors, tuple[_Floats, _Floats]]:
    """Give the result, and each utterance's errors and units."""
    said, heard = _texts(references, "references"), _texts(hypotheses, "hypotheses")
    if len(said) != len(heard):
        raise ValueError(f"there are {len(said)} references and {len(heard)} hypotheses")
    if not said:
        raise ValueError("there is no utterance to measure")
    codes = groups_of(groups, len(said), "groups")
    if codes is None:
        codes = np.arange(len(said))
    normal = normaliser(language, name)
    said = [normal.apply(text) for text in said]
    heard = [normal.apply(text) for text in heard]
    if normal.unit == "character":
        # White space is no character to be heard; jiwer splits at what is put between them.
        said = [" ".join("".join(text.split())) for text in said]
        heard = [" ".join("".join(text.split())) for text in heard]

    import jiwer

    words: WordOutput = jiwer.process_words(said, heard)
    if words.hits + words.substitutions + words.deletions == 0:
        raise ValueError(
            f"no reference has a {normal.unit} left after normalising ({normal.id}): there is "
            "nothing to be heard"
        )
    cer = words.wer if normal.unit == "character" else jiwer.process_characters(said, heard).cer
    utterances = tuple(
        _utterance(*row)
        for row in zip(words.references, words.hypotheses, words.alignments, strict=True)
    )
    errors = np.array(
        [u.substitutions + u.deletions + u.insertions for u in utterances], dtype=np.float64
    )
    units = np.array([u.units for u in utterances], dtype=np.float64)
    result = WordErrors(
        value=float(words.wer),
        metric="wer" if normal.unit == "word" else "cer",
        interval=_rate_interval(errors, units, codes, level, seed),
        wer=float(words.wer),
        cer=float(cer),
        mer=float(words.mer),
        wil=float(words.wil),
        substitutions=int(words.substitutions),
        deletions=int(words.deletions),
        insertions=int(words.insertions),
        hits=int(words.hits),
        units=int(units.sum()),
        n=len(said),
        groups=int(codes.max()) + 1,
        empty_references=int((units == 0).sum()),
        normaliser=normal.id,
        utterances=utterances,
    )
    return result, (errors, units)


def _utterance(reference: list[str], hypothesis: list[str], chunks: list[Any]) -> Utterance:
    alignment: list[tuple[Operation, str, str]] = []
    for chunk in chunks:
        ours = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        theirs = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        width = max(len(ours), len(theirs))
        ours, theirs = ours or [""] * width, theirs or [""] * width
        alignment += [(chunk.type, a, b) for a, b in zip(ours, theirs, strict=True)]
    kinds = [operation for operation, _, _ in alignment]
    errors = len(kinds) - kinds.count("equal")
    return Utterance(
        rate=errors / len(reference) if reference else float("nan"),
        substitutions=kinds.count("substitute"),
        deletions=kinds.count("delete"),
        insertions=kinds.count("insert"),
        units=len(reference),
        alignment=tuple(alignment),
    )


# --- intervals ------------------------------------------------------------------------------------


def _sums(values: _Floats, codes: npt.NDArray[np.int_], size: int) -> _Floats:
    return np.bincount(codes, weights=values, minlength=size).astype(np.float64)


def _resampled_rates(
    sides: Sequence[tuple[_Floats, _Floats]], strata: npt.NDArray[np.int_], seed: int
) -> _Floats:
    """Bootstrap rates, (sides, resamples); groups are drawn whole within each stratum.

    A resample in which a side has no unit has no rate: NaN.
    """
    rng = np.random.default_rng(seed)
    out = np.empty((len(sides), _RESAMPLES))
    size = max(1, _CELLS // strata.size)
    for start in range(0, _RESAMPLES, size):
        rows = slice(start, min(start + size, _RESAMPLES))
        weights = np.empty((rows.stop - start, strata.size))
        for stratum in np.unique(strata):
            members = np.flatnonzero(strata == stratum)
            share = np.full(members.size, 1 / members.size)
            weights[:, members] = rng.multinomial(members.size, share, size=rows.stop - start)
        for k, (errors, units) in enumerate(sides):
            total = weights @ units
            with np.errstate(invalid="ignore", divide="ignore"):
                out[k, rows] = np.where(total > 0, weights @ errors / total, np.nan)
    return out


def _rate_interval(
    errors: _Floats, units: _Floats, codes: npt.NDArray[np.int_], level: float, seed: int
) -> Interval | None:
    size = int(codes.max()) + 1
    if size < _MIN_GROUPS:
        return None
    e, u = _sums(errors, codes, size), _sums(units, codes, size)
    rate = float(e.sum() / u.sum())
    if rate == 0:
        bound = 1 - ((1 - level) / 2) ** (1 / size)
        return Interval(0.0, float(bound), level, "clopper-pearson over groups, no error seen")
    (rates,) = _resampled_rates([(e, u)], np.zeros(size, dtype=np.int_), seed)
    # The bootstrap's variance is that of n - 1 groups.
    se = float(np.nanstd(rates)) * np.sqrt(size / (size - 1))
    half = float(stats.t.ppf((1 + level) / 2, size - 1)) * se / rate
    low, high = rate * math.exp(-half), rate * math.exp(half)
    return Interval(low, high, level, "bootstrap-log-t")


def _gap_interval(
    real: WordErrors,
    synthetic: WordErrors,
    counts: tuple[tuple[_Floats, _Floats], tuple[_Floats, _Floats]],
    codes: tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]],
    seed: int,
) -> Interval | None:
    if real.interval is None or synthetic.interval is None:
        return None
    size = int(max(c.max() for c in codes)) + 1
    on = [np.bincount(c, minlength=size) > 0 for c in codes]
    correlation = 0.0
    if (on[0] & on[1]).any():
        sides = [
            (_sums(errors, c, size), _sums(units, c, size))
            for (errors, units), c in zip(counts, codes, strict=True)
        ]
        rates = _resampled_rates(sides, on[0] + 2 * on[1], seed + 2)
        rates = rates[:, np.isfinite(rates).all(axis=0)]
        if (rates.std(axis=1) > 0).all():
            correlation = float(np.asarray(np.corrcoef(rates))[0, 1])
    gap = synthetic.value - real.value
    a, b = synthetic.interval, real.interval

    def reach(one: float, other: float) -> float:
        # Rounding can take the square of equal reaches with correlation 1 below 0.
        return float(np.sqrt(max(0.0, one**2 + other**2 - 2 * correlation * one * other)))

    low = gap - reach(synthetic.value - a.low, b.high - real.value)
    high = gap + reach(a.high - synthetic.value, real.value - b.low)
    return Interval(low, high, a.level, "mover")


def _gap_p_value(
    errors: _Floats, units: _Floats, n_real: int, groups: npt.NDArray[np.int_], seed: int
) -> float:
    n = errors.size
    block = max(1, 10 * _CELLS // n)
    null: list[float] = []
    for start in range(0, _PERMUTATIONS, block):
        size = min(block, _PERMUTATIONS - start)
        first, second = permutation_masks(
            n_real, n - n_real, size, groups=groups, seed=seed + 3 + start
        )
        null += _gaps(errors, units, first, second).tolist()
    side = np.arange(n) < n_real
    observed = float(_gaps(errors, units, side[:, None], ~side[:, None])[0])
    return p_value(observed, null, "both", tie=1e-12)


def _gaps(
    errors: _Floats,
    units: _Floats,
    first: npt.NDArray[np.bool_],
    second: npt.NDArray[np.bool_],
) -> _Floats:
    """Rate of the second less that of the first, by column; 0 where a side has nothing to hear."""
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = errors @ second / (units @ second) - errors @ first / (units @ first)
    return np.where(np.isfinite(gap), gap, 0.0)
