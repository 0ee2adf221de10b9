"""The metrics core: arrays in, numbers out. No files, models, plots or clocks.

Names are loaded on first use, so that importing this package stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audio.attributes import audio_attributes as audio_attributes
    from .audio.naturalness import naturalness_gap as naturalness_gap
    from .audio.naturalness import prosody_features as prosody_features
    from .audio.speakers import speaker_similarity as speaker_similarity
    from .catalogue import MetricInfo as MetricInfo
    from .catalogue import list_metrics as list_metrics
    from .crossmodal.alignment import clip_score as clip_score
    from .crossmodal.alignment import consistency as consistency
    from .crossmodal.alignment import consistency_gap as consistency_gap
    from .crossmodal.alignment import derangements as derangements
    from .crossmodal.alignment import ref_clip_score as ref_clip_score
    from .crossmodal.chain import HopScores as HopScores
    from .crossmodal.chain import chain_decay as chain_decay
    from .crossmodal.chain import link_chains as link_chains
    from .crossmodal.retrieval import recall_gap as recall_gap
    from .crossmodal.retrieval import retrieval_recall as retrieval_recall
    from .crossmodal.triangle import triangle_breaks as triangle_breaks
    from .distribution.classifier import classifier_two_sample_test as classifier_two_sample_test
    from .distribution.copying import copy_tests as copy_tests
    from .distribution.copying import exact_duplicates as exact_duplicates
    from .distribution.diversity import vendi_ratio as vendi_ratio
    from .distribution.diversity import vendi_score as vendi_score
    from .distribution.frechet import frechet_distance as frechet_distance
    from .distribution.frechet import frechet_distance_infinity as frechet_distance_infinity
    from .distribution.frechet import frechet_from_moments as frechet_from_moments
    from .distribution.kernel import kernel_distance as kernel_distance
    from .distribution.kernel import kernel_distances as kernel_distances
    from .distribution.likelihood import (
        feature_likelihood_divergence as feature_likelihood_divergence,
    )
    from .distribution.manifold import (
        precision_recall_density_coverage as precision_recall_density_coverage,
    )
    from .distribution.mauve import mauve as mauve
    from .distribution.modes import mode_tests as mode_tests
    from .distribution.random_features import RandomFeatureKernel as RandomFeatureKernel
    from .distribution.random_features import random_feature_distance as random_feature_distance
    from .distribution.sampled import NeighbourSample as NeighbourSample
    from .distribution.sampled import UniformSample as UniformSample
    from .distribution.sampled import sampled_manifold as sampled_manifold
    from .distribution.transport import max_sliced_wasserstein as max_sliced_wasserstein
    from .distribution.transport import sinkhorn_divergence as sinkhorn_divergence
    from .distribution.transport import sliced_wasserstein as sliced_wasserstein
    from .drift.multiplicity import adjust_pvalues as adjust_pvalues
    from .drift.sketch import QuantileSketch as QuantileSketch
    from .drift.sketch import sketch_drift as sketch_drift
    from .drift.table import drift_tests as drift_tests
    from .image.attributes import image_attributes as image_attributes
    from .pair import PairMetric as PairMetric
    from .streaming.classifier import ClassifierTwoSample as ClassifierTwoSample
    from .streaming.diversity import VendiRatio as VendiRatio
    from .streaming.diversity import VendiScore as VendiScore
    from .streaming.drift import ColumnDrift as ColumnDrift
    from .streaming.drift import DriftTests as DriftTests
    from .streaming.frechet import FrechetDistance as FrechetDistance
    from .streaming.frechet import FrechetDistanceInfinity as FrechetDistanceInfinity
    from .streaming.kernel import KernelDistance as KernelDistance
    from .streaming.manifold import PrecisionRecallDensityCoverage as PrecisionRecallDensityCoverage
    from .streaming.mauve import Mauve as Mauve
    from .streaming.modes import ModeTests as ModeTests
    from .streaming.subgroups import SubgroupTests as SubgroupTests
    from .streaming.training import CopyTests as CopyTests
    from .streaming.training import FeatureLikelihoodDivergence as FeatureLikelihoodDivergence
    from .streaming.training import UtilityTests as UtilityTests
    from .streaming.transport import MaxSlicedWasserstein as MaxSlicedWasserstein
    from .streaming.transport import SinkhornDivergence as SinkhornDivergence
    from .streaming.transport import SlicedWasserstein as SlicedWasserstein
    from .text.attributes import text_attributes as text_attributes
    from .text.copies import near_copies as near_copies
    from .text.diversity import diversity_gap as diversity_gap
    from .text.diversity import text_diversity as text_diversity
    from .text.leakage import label_leakage as label_leakage
    from .text.wer import floor_artefact as floor_artefact
    from .text.wer import wer_gap as wer_gap
    from .text.wer import word_errors as word_errors
    from .utility.probes import utility_tests as utility_tests
    from .utility.subgroups import subgroup_tests as subgroup_tests

_WHERE = {
    name: module
    for module, names in {
        ".catalogue": ("MetricInfo", "list_metrics"),
        ".audio.attributes": ("audio_attributes",),
        ".audio.naturalness": (
            "naturalness_gap",
            "prosody_features",
        ),
        ".audio.speakers": ("speaker_similarity",),
        ".crossmodal.alignment": (
            "clip_score",
            "consistency",
            "consistency_gap",
            "derangements",
            "ref_clip_score",
        ),
        ".crossmodal.chain": (
            "HopScores",
            "chain_decay",
            "link_chains",
        ),
        ".crossmodal.retrieval": (
            "recall_gap",
            "retrieval_recall",
        ),
        ".crossmodal.triangle": ("triangle_breaks",),
        ".text.attributes": ("text_attributes",),
        ".text.copies": ("near_copies",),
        ".text.diversity": (
            "diversity_gap",
            "text_diversity",
        ),
        ".text.leakage": ("label_leakage",),
        ".text.wer": (
            "floor_artefact",
            "wer_gap",
            "word_errors",
        ),
        ".distribution.classifier": ("classifier_two_sample_test",),
        ".distribution.copying": ("copy_tests", "exact_duplicates"),
        ".distribution.diversity": ("vendi_ratio", "vendi_score"),
        ".distribution.frechet": (
            "frechet_distance",
            "frechet_distance_infinity",
            "frechet_from_moments",
        ),
        ".distribution.kernel": ("kernel_distance", "kernel_distances"),
        ".distribution.likelihood": ("feature_likelihood_divergence",),
        ".distribution.manifold": ("precision_recall_density_coverage",),
        ".distribution.mauve": ("mauve",),
        ".distribution.modes": ("mode_tests",),
        ".distribution.random_features": ("RandomFeatureKernel", "random_feature_distance"),
        ".distribution.sampled": ("NeighbourSample", "UniformSample", "sampled_manifold"),
        ".distribution.transport": (
            "max_sliced_wasserstein",
            "sinkhorn_divergence",
            "sliced_wasserstein",
        ),
        ".drift.multiplicity": ("adjust_pvalues",),
        ".drift.sketch": ("QuantileSketch", "sketch_drift"),
        ".drift.table": ("drift_tests",),
        ".image.attributes": ("image_attributes",),
        ".pair": ("PairMetric",),
        ".streaming.classifier": ("ClassifierTwoSample",),
        ".streaming.diversity": ("VendiRatio", "VendiScore"),
        ".streaming.drift": ("ColumnDrift", "DriftTests"),
        ".streaming.frechet": ("FrechetDistance", "FrechetDistanceInfinity"),
        ".streaming.kernel": ("KernelDistance",),
        ".streaming.manifold": ("PrecisionRecallDensityCoverage",),
        ".streaming.mauve": ("Mauve",),
        ".streaming.modes": ("ModeTests",),
        ".streaming.subgroups": ("SubgroupTests",),
        ".streaming.training": ("CopyTests", "FeatureLikelihoodDivergence", "UtilityTests"),
        ".streaming.transport": (
            "MaxSlicedWasserstein",
            "SinkhornDivergence",
            "SlicedWasserstein",
        ),
        ".utility.probes": ("utility_tests",),
        ".utility.subgroups": ("subgroup_tests",),
    }.items()
    for name in names
}

__all__ = sorted(_WHERE)  # noqa: PLE0605 - the table above is the one list of names


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_WHERE)
