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
        Fewest rows a side (of a group, pairs, texts) that ``call`` accepts; far more are needed to
        see much.
    blind_to : str
        What it cannot see.
    reference : str
    interval : str
        How its confidence interval is made; after "none:", why there is none.
    question : str
        What it answers, in one sentence.
    formula : str
        What is computed, with the defaults.
    call : str
        The expression in Python that gives it.
    p_value : str
        How its p-value is made; "none" where the function has none.
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
    question: str = ""
    formula: str = ""
    call: str = ""
    p_value: str = "none: not stated"


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
    question: str,
    formula: str,
    call: str,
    p_value: str,
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
        question,
        formula,
        call,
        p_value,
    )


_DISTANCE = (0.0, None, 0.0)
_UNBIASED = (None, None, 0.0)
_SHARE = (0.0, 1.0, 1.0)
_LOSS = (0.0, 1.0, 0.0)

METRICS: tuple[MetricInfo, ...] = (
    _row("frechet_distance", "frechet_distance", "lower", _DISTANCE, 2,
         "everything beyond mean and covariance; copies", "Dowson & Landau 1982; Heusel 2017",
         unit="squared feature units", streaming=True,
         interval="delete-half, extrapolated (`ci=True`)",
         question="How far apart are mean and covariance?",
         formula=(
             "|m − m′|² + tr(S + S′ − 2 (S S′)^½), of the means m and covariances S of both"
             " sides"
         ),
         call="frechet_distance(real, synthetic)",
         p_value="none of its own: permutation in the gate"),
    _row("frechet_distance_infinity", "frechet_distance_infinity", "lower", _DISTANCE, 6,
         "as Fréchet; needs n > 2 d", "Chong & Forsyth 2020", unit="squared feature units",
         interval="delete-half",
         question="How far apart are mean and covariance, without the bias of small sets?",
         formula="the line through the distance against 1/n + 1/m, followed to 0",
         call="frechet_distance_infinity(real, synthetic)",
         p_value="none"),
    _row("kid", "kernel_distance", "lower", _UNBIASED, 2,
         "moments beyond the third; copies", "Bińkowski 2018",
         interval="U-statistic",
         question="Do the first three moments differ? Unbiased at any n.",
         formula=(
             "mean k(x, x′) + mean k(y, y′) − 2 mean k(x, y) over pairs of different rows, "
             "k(a, b) = (a·b/d + 1)³"
         ),
         call="kernel_distance(real, synthetic)",
         p_value="permutation (`permutations=`)"),
    _row("mmd_rbf", "kernel_distance", "lower", _UNBIASED, 2,
         "differences far finer or coarser than the bandwidth", "Gretton 2012",
         interval="U-statistic",
         question="Does anything differ at the scale of the median distance?",
         formula=(
             "as `kid`, with k(a, b) = exp(−|a − b|² / 2σ²), σ the median distance of "
             "pooled rows"
         ),
         call='kernel_distance(real, synthetic, "rbf")',
         p_value="permutation (`permutations=`)"),
    _row("mmd_multi", "kernel_distance", "lower", _UNBIASED, 2, "copies", "Gretton 2012",
         interval="U-statistic",
         question="Does anything differ, at five scales together?",
         formula="as `mmd_rbf`, with the mean of five such kernels, at ¼, ½, 1, 2 and 4 σ",
         call='kernel_distance(real, synthetic, "rbf-multi")',
         p_value="permutation (`permutations=`)"),
    _row("cmmd", "kernel_distance", "lower", _DISTANCE, 2,
         "nearly all but the mean of unit-norm features", "Jayasumana 2024",
         interval="U-statistic",
         question="How far apart are the sets by the published CMMD, as in papers?",
         formula=(
             "1000 · MMD² of rows of unit length, σ = 10, a row's pair with itself counted "
             "too"
         ),
         call='kernel_distance(real, synthetic, "cmmd")',
         p_value="permutation (`permutations=`)"),
    _row("energy_distance", "kernel_distance", "lower", _UNBIASED, 2,
         "copies; differences in few of many columns", "Székely & Rizzo 2013",
         unit="feature units",
         interval="U-statistic",
         question="Does anything differ? No setting to choose.",
         formula="2 mean |x − y| − mean |x − x′| − mean |y − y′|",
         call='kernel_distance(real, synthetic, "energy")',
         p_value="permutation (`permutations=`)"),
    _row("precision", "precision_recall_density_coverage", "higher", _SHARE, 12,
         "missing modes; copies", "Kynkäänniemi 2019", unit="share",
         interval="delete-half, Wilson",
         question="Which share of the synthetic samples looks real?",
         formula=(
             "share of synthetic rows in the ball of a real row; a ball reaches to the "
             "row's 5th neighbour of its side"
         ),
         call="precision_recall_density_coverage(real, synthetic).precision",
         p_value="none of its own: permutation in the gate"),
    _row("recall", "precision_recall_density_coverage", "higher", _SHARE, 12,
         "how often a mode is hit; outliers widen it", "Kynkäänniemi 2019", unit="share",
         interval="delete-half, Wilson",
         question="Which share of the real data could the generator have made?",
         formula=(
             "share of real rows in the ball of a synthetic row; a ball reaches to the "
             "row's 5th neighbour of its side"
         ),
         call="precision_recall_density_coverage(real, synthetic).recall",
         p_value="none of its own: permutation in the gate"),
    _row("density", "precision_recall_density_coverage", "near best", (0.0, None, 1.0), 12,
         "missing modes", "Naeem 2020",
         interval="delete-half",
         question="Do synthetic samples lie where real ones are dense?",
         formula=(
             "mean number of real balls that hold a synthetic row, over 5; a ball reaches "
             "to the 5th neighbour"
         ),
         call="precision_recall_density_coverage(real, synthetic).density",
         p_value="none of its own: permutation in the gate"),
    _row("coverage", "precision_recall_density_coverage", "higher", _SHARE, 12,
         "off-manifold samples; copies", "Naeem 2020", unit="share",
         interval="delete-half, Wilson",
         question="Which share of the real samples has a synthetic neighbour?",
         formula=(
             "share of real rows whose ball holds a synthetic row; a ball reaches to the "
             "5th real neighbour"
         ),
         call="precision_recall_density_coverage(real, synthetic).coverage",
         p_value="none of its own: permutation in the gate"),
    _row("c2st", "classifier_two_sample_test", "lower", (-1.0, 1.0, 0.0), 4,
         "what a linear classifier cannot see", "Lopez-Paz & Oquab 2017", unit="2·AUC − 1",
         interval="DeLong, Wilson",
         question="Can a classifier tell the sets apart, and which samples give it away?",
         formula="2 · AUC − 1 of a linear (ridge) classifier, on rows that it was not trained on",
         call="classifier_two_sample_test(real, synthetic).effect",
         p_value="permutation, the classifier trained anew in each"),
    _row("sliced_wasserstein", "sliced_wasserstein", "lower", _DISTANCE, 1,
         "differences in few of many directions", "Rabin 2011; Bonneel 2015",
         unit="feature units",
         interval="delete-half, bias removed (`ci=True`)",
         question="How far must mass move, seen from all sides?",
         formula="root of the mean of W₂² of the rows' shadows, over random orthogonal directions",
         call="sliced_wasserstein(real, synthetic)",
         p_value="permutation (`permutations=`)"),
    _row("max_sliced_wasserstein", "max_sliced_wasserstein", "lower", _DISTANCE, 4,
         "all but the worst direction", "Deshpande 2019", unit="feature units",
         interval="delete-half, bias removed (`ci=True`)",
         question="How far in the worst direction, and which one is it?",
         formula=(
             "W₂ along the direction that was found on one half of the rows, measured on "
             "the other"
         ),
         call="max_sliced_wasserstein(real, synthetic)",
         p_value="permutation of the held-out half (`permutations=`)"),
    _row("sinkhorn_divergence", "sinkhorn_divergence", "lower", _UNBIASED, 1,
         "differences finer than the blur", "Feydy 2019", unit="squared feature units",
         interval="delete-half, floor below (`ci=True`)",
         question="How far must mass move, all dimensions at once?",
         formula=(
             "OT(x, y) − OT(x, x)/2 − OT(y, y)/2, each with cost |a − b|²/2 and entropy "
             "weight blur²"
         ),
         call="sinkhorn_divergence(real, synthetic)",
         p_value="none"),
    _row("mauve", "mauve", "higher", _SHARE, 2,
         "differences within a cluster; needs n in the thousands", "Pillutla 2021",
         interval="half-samples (`ci=True`)",
         question="How much do the two cluster histograms overlap?",
         formula=(
             "area under the curve of exp(−5 KL(q‖r)) and exp(−5 KL(p‖r)), p and q the "
             "sides' shares of k-means clusters, r a mixture of them"
         ),
         call="mauve(real, synthetic)",
         p_value="none"),
    _row("vendi_score", "vendi_score", "near best", (1.0, None, None), 1,
         "whether the diversity is that of the real data", "Friedman & Dieng 2023",
         unit="effective samples", streaming=True,
         interval="delete-half, lognormal (`ci=True`)",
         question="How many different samples is a set worth?",
         formula="exp(−Σ λ ln λ), λ the eigenvalues of the cosine similarities over n",
         call="vendi_score(synthetic)",
         p_value="none"),
    _row("vendi_ratio", "vendi_ratio", "near best", (0.0, None, 1.0), 4,
         "whether the diversity is that of the real data", "Friedman & Dieng 2023", unit="ratio",
         interval="delete-half, lognormal",
         question="Is the synthetic set as diverse as the real one, at equal size?",
         formula="Vendi score of the synthetic side over that of the real one, at equal size",
         call="vendi_ratio(real, synthetic)",
         p_value="none"),
    _row("feature_likelihood_divergence", "feature_likelihood_divergence", "lower",
         (None, None, 0.0), 4, "structure finer than the mixture's kernels", "Jiralerspong 2023",
         interval="test items, normal",
         question="How likely are unseen real samples, given the synthetic ones?",
         formula=(
             "−(100/d) mean ln p(test) − C, p a mixture of Gaussians around the synthetic "
             "rows fitted to the training rows, C the same with half of the training rows "
             "in their place"
         ),
         call="feature_likelihood_divergence(train, holdout, synthetic)",
         p_value="none"),
    _row("near_duplicate_share", "copy_tests", "lower", _LOSS, 20,
         "copies that the encoder does not recognise", "field practice", unit="share",
         interval="Clopper-Pearson",
         question="Which share lies as near to training data as holdout data hardly ever does?",
         formula=(
             "share of synthetic rows within t of a training row, t the 1 % quantile of the"
             " holdout's distances"
         ),
         call="copy_tests(train, holdout, synthetic).near_duplicates",
         p_value="exact, against a second holdout"),
    _row("dcr_share", "copy_tests", "near best", (0.0, 1.0, 0.5), 20,
         "leakage that leaves no near neighbour", "Yao 2025", unit="share",
         interval="Wilson",
         question="Is the nearest real sample a training one more often than chance?",
         formula=(
             "share of synthetic rows nearer to a training row than to any of as many "
             "holdout rows"
         ),
         call="copy_tests(train, holdout, synthetic).dcr",
         p_value="permutation of training and holdout rows"),
    _row("authenticity", "copy_tests", "higher", _SHARE, 20,
         "copies in sparse regions", "Alaa 2022", unit="share",
         interval="Newcombe, of the difference from its floor",
         question="Which share is not nearer to a training sample than that one's own neighbour?",
         formula=(
             "share of synthetic rows farther from their nearest training row than that row"
             " is from its own neighbour"
         ),
         call="copy_tests(train, holdout, synthetic).authenticity",
         p_value="Fisher's exact test, against the holdout"),
    _row("c_t", "copy_tests", "near best", (None, None, 0.0), 20,
         "copies of a few samples", "Meehan 2020", unit="z",
         interval="DeLong",
         question="Are synthetic samples nearer to training data than a holdout is?",
         formula=(
             "mean over k-means cells of the rank test's z: distances to training rows, of "
             "synthetic against holdout rows"
         ),
         call="copy_tests(train, holdout, synthetic).c_t",
         p_value="normal, one-sided"),
    _row("membership_auc", "copy_tests", "near best", (0.0, 1.0, 0.5), 20,
         "attacks stronger than a nearest neighbour", "Carlini 2022", unit="AUC",
         interval="DeLong",
         question="Could an attacker tell who was in the training set?",
         formula=(
             "probability that a training row lies nearer to the synthetic rows than a "
             "holdout row does"
         ),
         call="copy_tests(train, holdout, synthetic).membership",
         p_value="permutation of training and holdout rows"),
    _row("ndb", "mode_tests", "lower", _LOSS, 40,
         "differences within a bin", "Richardson & Weiss 2018", unit="share of bins",
         interval="none: a count of decisions; its bins have Newcombe's",
         question="Which share of the regions has a wrong share of samples?",
         formula="k-means bins in which the sides' shares differ (5 %, Holm), over all bins",
         call="mode_tests(real, synthetic).ndb",
         p_value="permutation of the χ² statistic"),
    _row("effective_hits", "mode_tests", "higher", (0.0, 1.0, None), 40,
         "quality of the samples", "Hill 1973", unit="share of real samples",
         interval="delete-half, lognormal",
         question="Which share of the real samples is hit, counted by how evenly?",
         formula=(
             "exp of the entropy of the hits, over the number of real rows; each synthetic "
             "row hits its nearest real one"
         ),
         call="mode_tests(real, synthetic).hits",
         p_value="permutation"),
    _row("birthday_support", "mode_tests", "higher", (0.0, None, None), 40,
         "modes hit rarely", "Arora & Zhang 2017", unit="effective samples",
         interval="U-statistic, of the collision rate",
         question="How soon does the generator repeat itself?",
         formula=(
             "1 / share of synthetic pairs within t, t the 5 % quantile of real "
             "nearest-neighbour distances"
         ),
         call="mode_tests(real, synthetic).birthday.support",
         p_value="permutation"),
    _row("tstr_ratio", "utility_tests", "higher", (0.0, None, 1.0), 4,
         "use for anything but this label", "Ravuri & Vinyals 2019", unit="ratio",
         interval="bootstrap of test items",
         question="Is a model trained on synthetic data as good on real data?",
         formula=(
             "balanced accuracy on real test rows of a probe trained on synthetic rows, "
             "over that of one trained on real rows"
         ),
         call=(
             "utility_tests((train, train_labels), (synthetic, synthetic_labels), "
             '(holdout, holdout_labels)).probes["linear"]'
         ),
         p_value="none"),
    _row("worst_group_gap", "subgroup_tests", "lower", _UNBIASED, 50,
         "groups without a label", "field practice", unit="share of real variance",
         interval="U-statistic",
         question="Which subgroup is worst off?",
         formula=(
             "of the group where it is widest: `kid` within the group, over the variance of"
             " its real rows under the kernel"
         ),
         call=(
             "subgroup_tests(real, synthetic, real_labels, synthetic_labels)"
             '.worst.kernels["polynomial"].relative'
         ),
         p_value="permutation within a group, Holm over groups"),
    _row("ks", "drift_tests", "lower", _LOSS, 2,
         "how far values moved", "Kolmogorov 1933; Smirnov 1939",
         interval="noise below, slope above",
         question="Does the distribution of a column differ?",
         formula="max |F − G| of the cumulative shares of one column",
         call='drift_tests({"a": real_column}, {"a": synthetic_column}).columns[0].numeric.ks',
         p_value="exact under ties"),
    _row("wasserstein", "drift_tests", "lower", _DISTANCE, 2,
         "ties between columns", "Ramdas 2017", unit="real standard deviations",
         interval="noise below, slope above",
         question="How far did a column move?",
         formula=(
             "∫ |F − G| of the cumulative shares of one column, over its real standard "
             "deviation"
         ),
         call=(
             'drift_tests({"a": real_column}, {"a": '
             'synthetic_column}).columns[0].numeric.wasserstein'
         ),
         p_value="that of `ks`, for the column"),
    _row("psi", "drift_tests", "lower", _DISTANCE, 2,
         "drift within a bin; its scale depends on n", "Yurdakul 2018",
         interval="noise below, slope above, of its root",
         question="How much did a column drift, by the industry's index?",
         formula="Σ (q − p) ln(q / p) of the sides' shares of ten cells, cut at pooled quantiles",
         call='drift_tests({"a": real_column}, {"a": synthetic_column}).columns[0].numeric.psi',
         p_value="that of `ks`, for the column"),
    _row("jensen_shannon", "drift_tests", "lower", _LOSS, 2,
         "drift within a bin", "Lin 1991", unit="bits",
         interval="noise below, slope above, of its root",
         question="How much do the histograms differ?",
         formula="(KL(p‖r) + KL(q‖r)) / 2 in bits over the same cells as `psi`, r = (p + q) / 2",
         call='drift_tests({"a": real_column}, {"a": synthetic_column}).columns[0].numeric.js',
         p_value="that of `ks`, for the column"),
    _row("total_variation", "drift_tests", "lower", _LOSS, 1,
         "order of categories", "textbook", unit="share",
         interval="noise below, slope above",
         question="Which share of the category counts would have to move?",
         formula="½ Σ |p − q| of the sides' shares of the categories",
         call=(
             'drift_tests({"a": real_labels}, {"a": synthetic_labels})'
             ".columns[0].categorical.total_variation"
         ),
         p_value="χ² test, exact or by permutation"),
    _row("wer", "word_errors", "lower", _DISTANCE, 1,
         "whether an error matters; whose error it is", "Morris 2004", unit="errors per word",
         interval="bootstrap-t over groups",
         question="Which share of the words is heard wrong?",
         formula="(words substituted + left out + put in) / words said",
         call="word_errors(said, heard)",
         p_value="none"),
    _row("wer_gap", "wer_gap", "lower", _UNBIASED, 1,
         "a wrong voice; what the recogniser mends", "Zou & Donner 2008", unit="errors per word",
         interval="MOVER of the two rates",
         question="How many more words are heard wrong than in real speech?",
         formula="word error rate of the synthetic speech − that of the real speech",
         call="wer_gap(real_said, real_heard, synthetic_said, synthetic_heard)",
         p_value="permutation, two-sided"),
    _row("naturalness", "naturalness_gap", "lower", (None, 1.0, 0.0), 5,
         "fluent nonsense, wrong emotion; another microphone counts too", "Székely & Rizzo 2013",
         unit="energy coefficient",
         interval="jackknife",
         question="How far is synthetic speech from real speech in melody, rhythm and sound?",
         formula=(
             "(2A − B − C) / 2A, A the mean distance between the sides, B and C those "
             "within; mean over prosody and encoders"
         ),
         call="naturalness_gap(real_prosody, synthetic_prosody)",
         p_value="permutation"),
    _row("speaker_similarity", "speaker_similarity", "higher", (-1.0, 1.0, 1.0), 2,
         "what is said; another microphone counts too", "Jia 2018", unit="cosine",
         interval="Welch over speakers or clips",
         question="Are the synthetic voices those of the real set?",
         formula=(
             "mean cosine of a synthetic clip with the real clips of its speaker, or else "
             "with the most similar real clip"
         ),
         call="speaker_similarity(real, synthetic).value",
         p_value="none"),
    _row("consistency_gap", "consistency_gap", "lower", _UNBIASED, 2,
         "what the model behind the score does not know", "Fieller 1954",
         unit="share of pairs mismatched",
         interval="Fieller",
         question="How much less do pairs agree than real ones?",
         formula="(mean real − mean synthetic score) / (mean real − mean shuffled score)",
         call="consistency_gap(real_scores, synthetic_scores, shuffled_scores).relative",
         p_value="permutation, one-sided"),
    _row("mismatched_share", "consistency", "lower", _LOSS, 19,
         "why a pair scores low; what the model does not know", "Vovk 2005", unit="share",
         interval="Fieller",
         question="Which share of the pairs, and which ones, do not belong together?",
         formula=(
             "(mean real − mean synthetic score) / (mean real − mean shuffled score), cut "
             "to 0 … 1"
         ),
         call="consistency(synthetic_scores, real_scores, shuffled_scores).share",
         p_value="conformal, one for each record"),
    _row("clip_score", "clip_score", "higher", (0.0, 100.0, None), 1,
         "counts, relations, negation, small things", "Hessel 2021", unit="100 × cosine",
         interval="none: one score a pair; `consistency` puts an interval on what they say",
         question="How well does a text fit an image, for a CLIP model?",
         formula="100 · max(0, cos(image, text)), for each pair",
         call="clip_score(images, captions).mean()",
         p_value="none"),
    _row("ref_clip_score", "ref_clip_score", "higher", (0.0, None, None), 1,
         "as CLIPScore", "Hessel 2021",
         interval="none: one score a pair",
         question="How well does a text fit an image and its reference captions?",
         formula=(
             "harmonic mean of 2.5 · max(0, cos(image, text)) and the text's best cosine "
             "with a reference, for each pair"
         ),
         call="ref_clip_score(images, captions, references, owner).mean()",
         p_value="none"),
    _row("retrieval_recall", "retrieval_recall", "higher", _SHARE, 2,
         "sets of unequal size compare wrongly", "field practice", unit="share",
         interval="Wilson over groups",
         question="Does a part find its partner among all?",
         formula="share of images whose own text is among the k nearest of all texts",
         call="retrieval_recall(images, captions, ks=(1,)).image_to_text[0]",
         p_value="none"),
    _row("recall_gap", "recall_gap", "lower", (-1.0, 1.0, 0.0), 2,
         "texts that are alike, with no pair wrong", "Newcombe 1998", unit="share",
         interval="Newcombe",
         question="How much less often does a part find its partner than in real pairs?",
         formula="recall@k of real pairs − recall@k of as many synthetic pairs",
         call="recall_gap(images, captions, synthetic_images, synthetic_captions, ks=(1,))",
         p_value="none"),
    _row("broken_records", "triangle_breaks", "lower", _LOSS, 1,
         "what its ties cannot see", "field practice", unit="share",
         interval="Wilson over groups",
         question="Which records of three parts break, and at which part?",
         formula="records with a tie whose p-value is at most α/3, over all records",
         call="triangle_breaks(image_text_p, audio_text_p, image_audio_p).share",
         p_value="those of its ties"),
    _row("chain_loss", "chain_decay", "lower", _UNBIASED, 19,
         "a hop whose score cannot tell", "field practice", unit="matched to shuffled",
         interval="Student over groups",
         question="What does each hop of a chain lose?",
         formula="mean fall of (score − shuffled) / (real − shuffled) since the hop before",
         call=(
             'chain_decay([HopScores("caption", synthetic_scores, real_scores, '
             'shuffled_scores)]).hops[0].loss'
         ),
         p_value="conformal, one for each chain and hop"),
    _row("vocabulary", "text_diversity", "higher", (0.0, None, None), 10,
         "whether the words are those of the real data", "field practice", unit="words",
         interval="delete-half",
         question="How many different words in a draw of equal size?",
         formula="different words in a draw of equally many words",
         call="text_diversity(texts).vocabulary",
         p_value="none"),
    _row("distinct_2", "text_diversity", "higher", (0.0, 1.0, None), 10,
         "whether the words are those of the real data", "Li 2016", unit="share",
         interval="delete-half",
         question="Which share of the word pairs is different?",
         formula=(
             "different pairs of neighbouring words over all pairs, in a draw of equally "
             "many words"
         ),
         call="text_diversity(texts).distinct_2",
         p_value="none"),
    _row("self_bleu", "text_diversity", "lower", (0.0, 1.0, None), 10,
         "wording beyond four words", "Zhu 2018",
         interval="delete-half",
         question="How much do texts repeat one another's wording?",
         formula=(
             "mean BLEU-4 of a text with the others as references, in a draw of equally "
             "many words"
         ),
         call="text_diversity(texts).self_bleu",
         p_value="none"),
    _row("near_copy_share", "near_copies", "lower", _LOSS, 1,
         "paraphrases, translations", "Broder 1997", unit="share",
         interval="Wilson",
         question="Which share repeats most of the wording of a real text?",
         formula=(
             "share of texts whose 5-letter shingles have a Jaccard similarity of 0.7 or "
             "more with those of a real text"
         ),
         call="near_copies(synthetic_texts, real=real_texts).of_real",
         p_value="permutation of real and holdout texts (`holdout=`)"),
    _row("label_leakage", "label_leakage", "lower", _LOSS, 2,
         "phrasing, length, topic", "Agresti & Caffo 2000", unit="share",
         interval="none: words are chosen after looking (Berk 2013); each has an adjusted p",
         question="Which share has a word that gives the label away, and does not in real texts?",
         formula=(
             "share of texts with a word of their own label whose log odds are more than 1 "
             "above those in real texts"
         ),
         call=(
             "label_leakage(real_texts, real_labels, synthetic_texts, synthetic_labels).share"
         ),
         p_value="one for each word, Holm over all"),
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
