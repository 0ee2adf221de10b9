"""Text operations that learn on the spot from the real set's train part: no download."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...errors import DataError
from ..fitted import Fitted, model_or_unfitted, training
from ..items import Item
from ..protocol import Operation, rng_of
from ..registry import suggestion
from ..values import Modality, Params
from .units import in_case_of, is_unspaced, is_word, joined, tokens, units, words_of

Action: TypeAlias = Literal["replace", "insert"]


class Synonyms(Fitted):
    """Replace or insert words by words of the same use (EDA's synonyms, without WordNet).

    Neighbours come from the corpus itself: positive pointwise mutual information of words within a
    window, reduced by a singular value decomposition, compared by cosine. They are words of the
    same use, not of the same meaning: *good* is a neighbour of *bad*. Check that labels survive.

    References
    ----------
    Wei, J. and Zou, K. (2019). EDA. arXiv:1901.11196.
    Levy, O. and Goldberg, Y. (2014). Neural word embedding as implicit matrix factorization. NIPS.
    """

    name: ClassVar[str] = "synonyms"
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.TEXT

    @classmethod
    def fit(
        cls,
        items: Iterable[Item],
        *,
        share: float = 0.1,
        action: Action = "replace",
        neighbours: int = 5,
        window: int = 2,
        dimensions: int = 50,
        least_count: int = 2,
        most_words: int = 3000,
    ) -> Synonyms:
        """Learn which words the texts use alike.

        Parameters
        ----------
        items : iterable of Item
            With text; all of one split, or of none.
        share : float
            Of the words that are replaced, or after which one is inserted, within [0, 1].
        action : {"replace", "insert"}
            What is done with a neighbour.
        neighbours : int
            Nearest words among which one is drawn.
        window : int
            Words to each side that count as company.
        dimensions : int
            That are kept of the decomposition.
        least_count, most_words : int
            Words rarer than this, or beyond the most frequent ones, are left as they are.

        Raises
        ------
        DataError
            If fewer than three words are frequent enough.
        LeakError
            If items of a held-out split are mixed with others.
        ValueError
            If an argument is out of range.
        """
        if action not in get_args(Action):
            raise ValueError(f"unknown action {action!r}{suggestion(action, get_args(Action))}")
        if not 0 <= share <= 1 or min(neighbours, window, dimensions, least_count, most_words) < 1:
            raise ValueError("share must be within [0, 1], and the counts 1 or more")
        found, facts = training(items, Modality.TEXT, labelled=False)
        texts = [words_of(text) for text in found[""]]
        words = _vocabulary(texts, least_count, most_words)
        if len(words) < 3:
            raise DataError(
                f"{len(words)} words come {least_count} times or more: too few to learn which are "
                "used alike; give more texts or a lower least_count"
            )
        vectors = _embedded(texts, words, window, dimensions)
        likeness = vectors @ vectors.T
        np.fill_diagonal(likeness, -np.inf)
        k = min(neighbours, len(words) - 1)
        nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
        settings = {
            "share": share, "action": action, "neighbours": neighbours, "window": window,
            "dimensions": dimensions, "least_count": least_count, "most_words": most_words,
        }  # fmt: skip
        arrays = {"words": np.array(words), "nearest": nearest.astype(np.int32)}
        return cls({**facts, **settings}, arrays)

    @classmethod
    def from_recipe(
        cls,
        model: str | None = None,
        share: float = 0.1,
        action: Action = "replace",
        neighbours: int = 5,
    ) -> Operation:
        """Load the model that a recipe names, or learn from the run's items with these settings."""
        settings = {"share": share, "action": action, "neighbours": neighbours}
        return model_or_unfitted(cls, model, settings)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {str(word): i for i, word in enumerate(self._arrays["words"])}

    def alike(self, word: str) -> list[str]:
        """Give the words that are used like a word, the nearest first; none if it is unknown."""
        at = self._places.get(word.lower())
        if at is None:
            return []
        return [str(self._arrays["words"][j]) for j in self._arrays["nearest"][at]]

    def apply(self, value: str, params: Params) -> str:
        """Replace or insert words."""
        rng = rng_of(params["seed"])
        found = units(value)
        able = [i for i, unit in enumerate(found) if is_word(unit) and self.alike(unit)]
        share = self._facts["share"]
        if not able or share == 0:
            return value
        count = min(len(able), max(1, round(share * len(able))))
        for i in sorted(rng.choice(len(able), count, replace=False).tolist(), reverse=True):
            unit = found[able[i]]
            near = self.alike(unit)
            other = near[int(rng.integers(len(near)))]
            if self._facts["action"] == "replace":
                found[able[i]] = in_case_of(other, unit)
            else:
                found.insert(able[i] + 1, other if is_unspaced(unit) else f" {other}")
        return "".join(found)


class TfIdfReplace(Fitted):
    """Replace the words of a text that say least by other words that say little (UDA).

    A word's chance to go falls with its TF-IDF in the text; what comes in its place is drawn from
    the corpus, words with a low score first, so that the words which carry the label stay.

    References
    ----------
    Xie, Q., Dai, Z., Hovy, E., Luong, M.-T. and Le, Q. (2020). Unsupervised data augmentation for
    consistency training. NeurIPS. arXiv:1904.12848, appendix.
    """

    name: ClassVar[str] = "tfidf_replace"
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.TEXT

    @classmethod
    def fit(cls, items: Iterable[Item], *, share: float = 0.3) -> TfIdfReplace:
        """Learn how much each word says.

        Parameters
        ----------
        items : iterable of Item
            With text; all of one split, or of none.
        share : float
            Of the words that are replaced, on average; within [0, 1].

        Raises
        ------
        DataError
            If there are no words.
        LeakError
            If items of a held-out split are mixed with others.
        ValueError
            If the share is out of range.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be within [0, 1], got {share}")
        found, facts = training(items, Modality.TEXT, labelled=False)
        texts = [words_of(text) for text in found[""]]
        words = _vocabulary(texts, 1, 100_000)
        if not words:
            raise DataError("the texts hold no words to learn from")
        places = {word: i for i, word in enumerate(words)}
        documents = np.zeros(len(words))
        counts = np.zeros(len(words))
        for text in texts:
            for word, count in Counter(text).items():
                if word in places:
                    documents[places[word]] += 1
                    counts[places[word]] += count
        idf = np.log(len(texts) / documents)
        score = counts / counts.sum() * idf
        chance = score.max() - score
        chance = chance / chance.sum() if chance.sum() > 0 else np.full(len(words), 1 / len(words))
        arrays = {"words": np.array(words), "idf": idf, "chance": chance}
        return cls({**facts, "share": share}, arrays)

    @classmethod
    def from_recipe(cls, model: str | None = None, share: float = 0.3) -> Operation:
        """Load the model that a recipe names, or learn from the run's items with these settings."""
        return model_or_unfitted(cls, model, {"share": share})

    @cached_property
    def _idf(self) -> dict[str, float]:
        return dict(zip(map(str, self._arrays["words"]), self._arrays["idf"].tolist(), strict=True))

    def chances(self, text: str) -> list[float]:
        """Give the chance of each word of a text to be replaced."""
        words = words_of(text)
        if not words:
            return []
        counts = Counter(words)
        # A word that the corpus does not have says most.
        unknown = max(self._idf.values())
        scores = np.array([counts[w] / len(words) * self._idf.get(w, unknown) for w in words])
        weights = scores.max() - scores
        if weights.sum() == 0:
            return [float(self._facts["share"])] * len(words)
        shares = np.minimum(1, self._facts["share"] * weights / weights.mean())
        return [float(p) for p in shares]

    def apply(self, value: str, params: Params) -> str:
        """Replace words."""
        rng = rng_of(params["seed"])
        found = units(value)
        at = [i for i, unit in enumerate(found) if is_word(unit)]
        words, chance = self._arrays["words"], self._arrays["chance"]
        for i, p in zip(at, self.chances(value), strict=True):
            if rng.random() < p:
                found[i] = in_case_of(str(words[int(rng.choice(len(words), p=chance))]), found[i])
        return "".join(found)


class NgramWriter(Fitted):
    """Write texts of a class by an n-gram model of its texts, interpolated after Witten and Bell.

    Each next word (with its space; in unspaced scripts, each next character) is drawn from what
    followed the last n-1 ones, or with a chance that grows with the variety of what followed, from
    what followed the last n-2, and so on down to the class's words.

    What it cannot do: it remembers n-1 words and nothing else, so its texts have no plan; with few
    texts or a high order it repeats whole sentences of its training set: check with a copying
    metric. It writes only words that it has seen.

    References
    ----------
    Witten, I. and Bell, T. (1991). The zero-frequency problem: estimating the probabilities of
    novel events in adaptive text compression. IEEE Transactions on Information Theory 37(4).
    """

    name: ClassVar[str] = "ngram"
    input: ClassVar[Modality] = Modality.LABEL
    output: ClassVar[Modality] = Modality.TEXT

    @classmethod
    def fit(cls, items: Iterable[Item], *, order: int = 3, longest: int = 400) -> NgramWriter:
        """Learn every class of the items.

        Parameters
        ----------
        items : iterable of Item
            With text and label; all of one split, or of none.
        order : int
            Words that are looked at together, the next one included.
        longest : int
            Words after which a text ends in any case.

        Raises
        ------
        DataError
            If there are no texts.
        LeakError
            If items of a held-out split are mixed with others.
        ValueError
            If an argument is out of range.
        """
        if order < 1 or longest < 1:
            raise ValueError(f"order and longest must be 1 or more, got {order} and {longest}")
        found, facts = training(items, Modality.TEXT, labelled=True)
        texts = {label: [tokens(text) for text in of] for label, of in found.items()}
        words = sorted({w for of in texts.values() for text in of for w in text})
        if not words:
            raise DataError("the texts hold no words to learn from")
        # 0 is the end of a text, and what stands before its first word.
        places = {word: i + 1 for i, word in enumerate(words)}
        arrays: dict[str, npt.NDArray[Any]] = {"words": np.array(["", *words])}
        for k, of in enumerate(texts.values()):
            counts: Counter[tuple[int, ...]] = Counter()
            for text in of:
                ids = [*[0] * (order - 1), *(places[w] for w in text), 0]
                counts.update(tuple(ids[i : i + order]) for i in range(len(ids) - order + 1))
            grams = sorted(counts)
            arrays[f"grams{k}"] = np.array(grams, np.int32).reshape(len(grams), order)
            arrays[f"counts{k}"] = np.array([counts[g] for g in grams], np.int32)
        return cls({**facts, "order": order, "longest": longest, "labels": list(texts)}, arrays)

    @classmethod
    def from_recipe(cls, model: str | None = None, order: int = 3, longest: int = 400) -> Operation:
        """Load the model that a recipe names, or learn from the run's items with these settings."""
        return model_or_unfitted(cls, model, {"order": order, "longest": longest})

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that it can write."""
        return tuple(self._facts["labels"])

    @cached_property
    def _following(self) -> dict[str, dict[tuple[int, ...], dict[int, int]]]:
        """What followed each history of each class, how often; shorter histories too."""
        found = {}
        for k, label in enumerate(self.labels):
            table: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
            grams = self._arrays[f"grams{k}"].tolist()
            for gram, count in zip(grams, self._arrays[f"counts{k}"].tolist(), strict=True):
                for start in range(len(gram)):
                    table[tuple(gram[start:-1])][gram[-1]] += count
            found[label] = {h: dict(sorted(of.items())) for h, of in table.items()}
        return found

    def probability(self, label: str, history: Sequence[str], word: str) -> float:
        """Give the probability of a word (``""``: the end) after others, by the model of a class.

        Raises
        ------
        ValueError
            If it was not fitted on the class.
        """
        table = self._table(label)
        places = {str(w): i for i, w in enumerate(self._arrays["words"])}
        last = self._facts["order"] - 1
        ids = [0] * last + [places[w] for w in history]
        target = places.get(word, -1)
        p = 0.0
        for length in range(last + 1):
            after = table.get(tuple(ids[len(ids) - length :]))
            if after is None:
                break
            kinds, total = len(after) if length else 0, sum(after.values())
            p = (after.get(target, 0) + kinds * p) / (total + kinds)
        return p

    def apply(self, value: str | int, params: Params) -> str:
        """Write a text of a class.

        Raises
        ------
        ValueError
            If it was not fitted on the class.
        """
        table = self._table(str(value))
        rng = rng_of(params["seed"])
        last = self._facts["order"] - 1
        ids = [0] * last
        while len(ids) - last < self._facts["longest"]:
            word = _drawn(table, tuple(ids[len(ids) - last :]), rng)
            if word == 0:
                break
            ids.append(word)
        return joined([str(self._arrays["words"][i]) for i in ids[last:]])

    def _table(self, label: str) -> dict[tuple[int, ...], dict[int, int]]:
        table = self._following.get(label)
        if table is None:
            raise ValueError(f"class {label!r} is not one it was fitted on: {list(self.labels)}")
        return table


def _drawn(
    table: dict[tuple[int, ...], dict[int, int]],
    history: tuple[int, ...],
    rng: np.random.Generator,
) -> int:
    after = table.get(history)
    if after is not None:
        total = sum(after.values())
        kinds = len(after) if history else 0
        at = rng.random() * (total + kinds)
        for word, count in after.items():
            at -= count
            if at < 0:
                return word
    return _drawn(table, history[1:], rng)


def _vocabulary(texts: Sequence[Sequence[str]], least: int, most: int) -> list[str]:
    counts = Counter(word for text in texts for word in text)
    frequent = sorted(
        (word for word, count in counts.items() if count >= least),
        key=lambda word: (-counts[word], word),
    )
    return frequent[:most]


def _embedded(
    texts: Sequence[Sequence[str]], words: Sequence[str], window: int, dimensions: int
) -> npt.NDArray[np.float64]:
    """Give a unit vector to each word: SVD of the positive pointwise mutual information."""
    places = {word: i for i, word in enumerate(words)}
    pairs: Counter[tuple[int, int]] = Counter()
    for text in texts:
        ids = [places.get(word, -1) for word in text]
        for i, a in enumerate(ids):
            for b in ids[i + 1 : i + 1 + window]:
                if a >= 0 and b >= 0:
                    pairs[a, b] += 1
                    pairs[b, a] += 1
    n = len(words)
    if not pairs:
        raise DataError("no two frequent words stand near each other: give more or longer texts")
    rows, columns = np.array(list(pairs), np.int64).T
    counts = np.array(list(pairs.values()), np.float64)
    joint = sparse.coo_array((counts, (rows, columns)), (n, n)).toarray()
    margin = joint.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mutual = np.log(joint * margin.sum() / np.outer(margin, margin))
    positive = np.where(joint > 0, np.maximum(mutual, 0), 0)
    # Symmetric: eigenvectors by size of the eigenvalue are the singular vectors.
    values, vectors = np.linalg.eigh(positive)
    order = np.argsort(-np.abs(values), kind="stable")[: min(dimensions, n)]
    scaled = vectors[:, order] * np.sqrt(np.abs(values[order]))
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = scaled / np.maximum(norms, math.ulp(1.0))
    return unit
