"""What there is to measure with: one row a number, for people who choose and programs that list."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """What a metric is, in words: a row of :func:`list_metrics`.

    Attributes
    ----------
    name : str
        The number.
    function : str
        Public function of :mod:`evalsuite.metrics` that gives it.
    direction : {"lower", "higher", "near best"}
        Which way is better for a synthetic set.
    low, high, best : float or None
        Range and best value; None is unbounded, or depends on the data.
    unit : str
    streaming : bool
        Whether shards merge without keeping the samples.
    min_n : int
        Fewest rows a side that it accepts; far more are needed to see much.
    blind_to : str
        What it cannot see.
    reference : str
    interval : str
        How its confidence interval is made; after "none:", why there is none.
    """

    name: str
    function: str
    direction: str
    low: float | None
    high: float | None
    best: float | None
    unit: str
    streaming: bool
    min_n: int
    blind_to: str
    reference: str
    interval: str = "none: not stated"


def _row(
    name: str,
    function: str,
    direction: str,
    limits: tuple[float | None, float | None, float | None],
    min_n: int,
    blind_to: str,
    reference: str,
    *,
    interval: str,
    unit: str = "",
    streaming: bool = False,
) -> MetricInfo:
    low, high, best = limits
    return MetricInfo(
        name,
        function,
        direction,
        low,
        high,
        best,
        unit,
        streaming,
        min_n,
        blind_to,
        reference,
        interval,
    )


_DISTANCE = (0.0, None, 0.0)
_UNBIASED = (None, None, 0.0)
_SHARE = (0.0, 1.0, 1.0)
_LOSS = (0.0, 1.0, 0.0)

METRICS: tuple[MetricInfo, ...] = (
    _row("frechet_distance", "frechet_distance", "lower", _DISTANCE, 2,
         "everything beyond mean and covariance; copies", "Dowson & Landau 1982; Heusel 2017",
         unit="squared feature units", streaming=True,
         interval="delete-half, extrapolated (`ci=True`)"),
    _row("frechet_distance_infinity", "frechet_distance_infinity", "lower", _DISTANCE, 6,
         "as Fréchet; needs n > 2 d", "Chong & Forsyth 2020", unit="squared feature units",
         interval="delete-half"),
    _row("kid", "kernel_distance", "lower", _UNBIASED, 2,
         "moments beyond the third; copies", "Bińkowski 2018",
         interval="U-statistic"),
    _row("mmd_rbf", "kernel_distance", "lower", _UNBIASED, 2,
         "differences far finer or coarser than the bandwidth", "Gretton 2012",
         interval="U-statistic"),
    _row("mmd_multi", "kernel_distance", "lower", _UNBIASED, 2, "copies", "Gretton 2012",
         interval="U-statistic"),
    _row("cmmd", "kernel_distance", "lower", _DISTANCE, 2,
         "nearly all but the mean of unit-norm features", "Jayasumana 2024",
         interval="U-statistic"),
    _row("energy_distance", "kernel_distance", "lower", _UNBIASED, 2,
         "copies; differences in few of many columns", "Székely & Rizzo 2013",
         unit="feature units",
         interval="U-statistic"),
    _row("precision", "precision_recall_density_coverage", "higher", _SHARE, 2,
         "missing modes; copies", "Kynkäänniemi 2019", unit="share",
         interval="delete-half, Wilson"),
    _row("recall", "precision_recall_density_coverage", "higher", _SHARE, 2,
         "how often a mode is hit; outliers widen it", "Kynkäänniemi 2019", unit="share",
         interval="delete-half, Wilson"),
    _row("density", "precision_recall_density_coverage", "near best", (0.0, None, 1.0), 2,
         "missing modes", "Naeem 2020",
         interval="delete-half"),
    _row("coverage", "precision_recall_density_coverage", "higher", _SHARE, 2,
         "off-manifold samples; copies", "Naeem 2020", unit="share",
         interval="delete-half, Wilson"),
    _row("c2st", "classifier_two_sample_test", "lower", (-1.0, 1.0, 0.0), 4,
         "what a linear classifier cannot see", "Lopez-Paz & Oquab 2017", unit="2·AUC − 1",
         interval="DeLong, Wilson"),
    _row("sliced_wasserstein", "sliced_wasserstein", "lower", _DISTANCE, 1,
         "differences in few of many directions", "Rabin 2011; Bonneel 2015",
         unit="feature units",
         interval="delete-half, bias removed (`ci=True`)"),
    _row("max_sliced_wasserstein", "max_sliced_wasserstein", "lower", _DISTANCE, 2,
         "all but the worst direction", "Deshpande 2019", unit="feature units",
         interval="delete-half, bias removed (`ci=True`)"),
    _row("sinkhorn_divergence", "sinkhorn_divergence", "lower", _UNBIASED, 1,
         "differences finer than the blur", "Feydy 2019", unit="squared feature units",
         interval="delete-half, floor below (`ci=True`)"),
    _row("mauve", "mauve", "higher", _SHARE, 2,
         "differences within a cluster; needs n in the thousands", "Pillutla 2021",
         interval="half-samples (`ci=True`)"),
    _row("vendi_score", "vendi_score", "near best", (1.0, None, None), 1,
         "whether the diversity is that of the real data", "Friedman & Dieng 2023",
         unit="effective samples", streaming=True,
         interval="delete-half, lognormal (`ci=True`)"),
    _row("vendi_ratio", "vendi_ratio", "near best", (0.0, None, 1.0), 2,
         "whether the diversity is that of the real data", "Friedman & Dieng 2023", unit="ratio",
         interval="delete-half, lognormal"),
    _row("feature_likelihood_divergence", "feature_likelihood_divergence", "lower",
         (None, None, 0.0), 4, "structure finer than the mixture's kernels", "Jiralerspong 2023",
         interval="test items, normal"),
    _row("near_duplicate_share", "copy_tests", "lower", _LOSS, 2,
         "copies that the encoder does not recognise", "field practice", unit="share",
         interval="Clopper-Pearson"),
    _row("dcr_share", "copy_tests", "near best", (0.0, 1.0, 0.5), 2,
         "leakage that leaves no near neighbour", "Yao 2025", unit="share",
         interval="Wilson"),
    _row("authenticity", "copy_tests", "higher", _SHARE, 2,
         "copies in sparse regions", "Alaa 2022", unit="share",
         interval="Newcombe, of the difference from its floor"),
    _row("c_t", "copy_tests", "near best", (None, None, 0.0), 2,
         "copies of a few samples", "Meehan 2020", unit="z",
         interval="DeLong"),
    _row("membership_auc", "copy_tests", "near best", (0.0, 1.0, 0.5), 2,
         "attacks stronger than a nearest neighbour", "Carlini 2022", unit="AUC",
         interval="DeLong"),
    _row("ndb", "mode_tests", "lower", _LOSS, 4,
         "differences within a bin", "Richardson & Weiss 2018", unit="share of bins",
         interval="none: a count of decisions; its bins have Newcombe's"),
    _row("effective_hits", "mode_tests", "higher", (1.0, None, None), 4,
         "quality of the samples", "Hill 1973", unit="effective real samples",
         interval="delete-half, lognormal"),
    _row("birthday_support", "mode_tests", "higher", (0.0, None, None), 4,
         "modes hit rarely", "Arora & Zhang 2017", unit="effective samples",
         interval="U-statistic, of the collision rate"),
    _row("tstr_ratio", "utility_tests", "higher", (0.0, None, 1.0), 4,
         "use for anything but this label", "Ravuri & Vinyals 2019", unit="ratio",
         interval="bootstrap of test items"),
    _row("worst_group_gap", "subgroup_tests", "lower", _UNBIASED, 4,
         "groups without a label", "field practice", unit="share of real variance",
         interval="U-statistic"),
    _row("ks", "drift_tests", "lower", _LOSS, 2,
         "how far values moved", "Kolmogorov 1933; Smirnov 1939",
         interval="noise below, slope above"),
    _row("wasserstein", "drift_tests", "lower", _DISTANCE, 2,
         "ties between columns", "Ramdas 2017", unit="real standard deviations",
         interval="noise below, slope above"),
    _row("psi", "drift_tests", "lower", _DISTANCE, 2,
         "drift within a bin; its scale depends on n", "Yurdakul 2018",
         interval="noise below, slope above, of its root"),
    _row("jensen_shannon", "drift_tests", "lower", _LOSS, 2,
         "drift within a bin", "Lin 1991", unit="bits",
         interval="noise below, slope above, of its root"),
    _row("total_variation", "drift_tests", "lower", _LOSS, 1,
         "order of categories", "textbook", unit="share",
         interval="noise below, slope above"),
    _row("wer", "word_errors", "lower", _DISTANCE, 1,
         "whether an error matters; whose error it is", "Morris 2004", unit="errors per word",
         interval="bootstrap-t over groups"),
    _row("wer_gap", "wer_gap", "lower", _UNBIASED, 1,
         "a wrong voice; what the recogniser mends", "Zou & Donner 2008", unit="errors per word",
         interval="MOVER of the two rates"),
    _row("naturalness", "naturalness_gap", "lower", (None, 1.0, 0.0), 5,
         "fluent nonsense, wrong emotion; another microphone counts too", "Székely & Rizzo 2013",
         unit="energy coefficient",
         interval="jackknife"),
    _row("speaker_similarity", "speaker_similarity", "higher", (-1.0, 1.0, 1.0), 2,
         "what is said; another microphone counts too", "Jia 2018", unit="cosine",
         interval="Welch over speakers or clips"),
    _row("consistency_gap", "consistency_gap", "lower", _UNBIASED, 2,
         "what the model behind the score does not know", "Fieller 1954",
         unit="share of pairs mismatched",
         interval="Fieller"),
    _row("mismatched_share", "consistency", "lower", _LOSS, 2,
         "why a pair scores low; what the model does not know", "Vovk 2005", unit="share",
         interval="Fieller"),
    _row("clip_score", "clip_score", "higher", (0.0, 100.0, None), 1,
         "counts, relations, negation, small things", "Hessel 2021", unit="100 × cosine",
         interval="none: one score a pair; `consistency` puts an interval on what they say"),
    _row("ref_clip_score", "ref_clip_score", "higher", (0.0, None, None), 1,
         "as CLIPScore", "Hessel 2021",
         interval="none: one score a pair"),
    _row("retrieval_recall", "retrieval_recall", "higher", _SHARE, 2,
         "sets of unequal size compare wrongly", "field practice", unit="share",
         interval="Wilson over groups"),
    _row("recall_gap", "recall_gap", "lower", (-1.0, 1.0, 0.0), 2,
         "texts that are alike, with no pair wrong", "Newcombe 1998", unit="share",
         interval="Newcombe"),
    _row("broken_records", "triangle_breaks", "lower", _LOSS, 1,
         "what its ties cannot see", "field practice", unit="share",
         interval="Wilson over groups"),
    _row("chain_loss", "chain_decay", "lower", _UNBIASED, 2,
         "a hop whose score cannot tell", "field practice", unit="matched to shuffled",
         interval="Student over groups"),
    _row("vocabulary", "text_diversity", "higher", (0.0, None, None), 10,
         "whether the words are those of the real data", "field practice", unit="words",
         interval="delete-half"),
    _row("distinct_2", "text_diversity", "higher", (0.0, 1.0, None), 10,
         "whether the words are those of the real data", "Li 2016", unit="share",
         interval="delete-half"),
    _row("self_bleu", "text_diversity", "lower", (0.0, 1.0, None), 10,
         "wording beyond four words", "Zhu 2018",
         interval="delete-half"),
    _row("near_copy_share", "near_copies", "lower", _LOSS, 1,
         "paraphrases, translations", "Broder 1997", unit="share",
         interval="Wilson"),
    _row("label_leakage", "label_leakage", "lower", _LOSS, 2,
         "phrasing, length, topic", "Agresti & Caffo 2000", unit="share",
         interval="none: words are chosen after looking (Berk 2013); each has an adjusted p"),
)  # fmt: skip


def list_metrics() -> pd.DataFrame:
    """Give all metrics as a table.

    Returns
    -------
    pandas.DataFrame
        A row a number, with the columns of :class:`MetricInfo`.
    """
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in METRICS])
