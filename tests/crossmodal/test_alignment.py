"""Scores of pairs against torchmetrics; the scale's p-values and intervals against simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from evalsuite.metrics.crossmodal.alignment import (
    clip_score,
    consistency,
    consistency_gap,
    derangements,
    ref_clip_score,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- scores ---------------------------------------------------------------------------------------


def test_clip_score_closed_forms() -> None:
    x = np.array([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [3.0, 0.0]])
    y = np.array([[5.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    cosine = np.array([1.0, 0.0, np.sqrt(0.5), -1.0])
    assert clip_score(x, y) == pytest.approx(100 * np.maximum(cosine, 0))
    assert clip_score(x, y, weight=2.5) == pytest.approx(2.5 * np.maximum(cosine, 0))
    assert clip_score(x, torch.from_numpy(y), clamp=False) == pytest.approx(100 * cosine)


def test_clip_score_is_that_of_torchmetrics_for_the_same_weights() -> None:
    """A small CLIP with random weights: the peer runs it, we get its embeddings."""
    from torchmetrics.functional.multimodal.clip_score import _clip_score_update
    from torchmetrics.functional.multimodal.clip_score import clip_score as peer
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2}
    config = CLIPConfig(
        text_config={
            **size,
            "num_attention_heads": 4,
            "vocab_size": 99,
            "bos_token_id": 97,
            "eos_token_id": 98,
        },
        vision_config={**size, "num_attention_heads": 4, "image_size": 30, "patch_size": 15},
        projection_dim=16,
    )
    model = CLIPModel(config).eval()

    class Tensors:
        """transformers 5 gives an object where torchmetrics 1.9 expects the tensor in it."""

        config = model.config

        def to(self, _: object) -> Tensors:
            return self

        def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return model.get_image_features(pixels).pooler_output

        def get_text_features(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return model.get_text_features(ids, mask).pooler_output

    def process(text: Any = None, images: Any = None, **_: Any) -> dict[str, torch.Tensor]:
        if images is not None:
            return {"pixel_values": torch.stack(images).float() / 255}
        ids = torch.tensor([[ord(c) % 97 for c in t[:12].ljust(12)] + [98] for t in text])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    rng = np.random.default_rng(0)
    images = list(torch.from_numpy(rng.integers(0, 256, (24, 3, 30, 30), dtype=np.uint8)))
    texts = [f"caption {chr(97 + i)} of {i * i}" for i in range(24)]
    with torch.inference_mode():
        theirs, n = _clip_score_update(images, texts, Tensors(), process)
        mean = peer(torch.stack(images), texts, model_name_or_path=lambda: (Tensors(), process))
        x = Tensors().get_image_features(process(images=images)["pixel_values"])
        y = Tensors().get_text_features(*process(text=texts).values())
    ours = clip_score(x, y, clamp=False)
    assert n == 24
    assert ours == pytest.approx(theirs.numpy(), abs=1e-4)
    assert ours.std() > 0.1  # the comparison is of 24 different values
    assert max(ours.mean(), 0.0) == pytest.approx(float(mean), abs=1e-4)


def test_ref_clip_score_is_the_harmonic_mean_with_the_best_reference() -> None:
    unit = {a: [np.cos(a), np.sin(a)] for a in (0.0, 0.5, 1.0, 2.0, 3.0)}
    image, text = np.array([unit[0.0], unit[0.0]]), np.array([unit[1.0], unit[0.5]])
    references = np.array([unit[0.5], unit[3.0], unit[2.0], unit[3.0]])
    got = ref_clip_score(image, text, references, [0, 0, 1, 1])
    first = stats.hmean([2.5 * np.cos(1.0), np.cos(0.5)])
    second = stats.hmean([2.5 * np.cos(0.5), np.cos(1.5)])
    assert got == pytest.approx([first, second])
    nothing = ref_clip_score(image[:1], -image[:1], references[:1], [0])
    assert nothing == pytest.approx([0.0])


def test_features_that_do_not_pair_up_are_refused() -> None:
    x = np.eye(3)
    with pytest.raises(ValueError, match="must pair up"):
        clip_score(x, x[:2])
    with pytest.raises(ValueError, match="row 1 of text_features is all zeros"):
        clip_score(x, x * [[1.0], [0.0], [1.0]])
    with pytest.raises(ValueError, match=r"pairs without a reference: \[2\]"):
        ref_clip_score(x, x, x[:2], [0, 1])
    with pytest.raises(ValueError, match="owner must lie in"):
        ref_clip_score(x, x, x, [0, 1, 3])


# --- shuffling ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_partners_are_wrong_for_sure(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 40))
    groups = data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    contents = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=n, max_size=n))
    labels = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    try:
        partner = derangements(n, repeats=3, groups=groups, contents=contents, labels=labels)
    except ValueError as error:
        if "cannot all get a wrong partner" not in str(error):
            raise
        return
    for row in partner:
        assert sorted(row) == list(range(n))
        for i, j in enumerate(row):
            assert groups[i] != groups[j]
            assert contents[i] != contents[j]
            assert labels[i] == labels[j]


def test_every_wrong_partner_is_equally_likely() -> None:
    partner = derangements(6, repeats=6000)
    counts = np.array([np.bincount(partner[:, i], minlength=6) for i in range(6)])
    assert not counts.diagonal().any()
    off = counts[~np.eye(6, dtype=bool)]
    assert stats.chisquare(off).pvalue > 1e-3


def test_shuffling_says_when_it_cannot_be_done() -> None:
    derangements(4, groups=["a", "a", "b", "b"])
    with pytest.raises(ValueError, match="3 of the 4 records"):
        derangements(4, groups=["a", "a", "a", "b"])
    # A group and a text link three records, which neither does alone.
    with pytest.raises(ValueError, match="3 of the 5 records"):
        derangements(5, groups=[0, 0, 1, 2, 3], contents=["x", "y", "y", "z", "w"])
    with pytest.raises(ValueError, match="of label 'cat'"):
        derangements(5, labels=["cat", "dog", "dog", "dog", "dog"])
    with pytest.raises(ValueError, match="at least 2 records"):
        derangements(1)


# --- each record ----------------------------------------------------------------------------------


def normal(n: int, seed: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, n)


def test_p_values_count_real_pairs_that_score_as_low() -> None:
    matched = np.arange(10.0, 29.0)  # 19: p reaches 1/20
    got = consistency([9.0, 10.0, 10.5, 28.0, 99.0], matched, normal(50, 0), groups=range(5))
    assert got.p_values == pytest.approx(np.array([1, 2, 2, 20, 20]) / 20)
    assert got.mismatched == (0,)
    assert got.threshold == 10.0
    assert got.p_adjusted == pytest.approx(stats.false_discovery_control(got.p_values))


def test_p_values_of_groups_count_each_group_once() -> None:
    matched = np.array([1.0, 2.0, 3.0, 4.0, 6.0])
    got = consistency(
        [2.5, 3.0, 5.0], matched, normal(9, 0, -9.0),
        matched_groups=["a", "a", "a", "b", "c"], alpha=0.3,
    )  # fmt: skip
    assert got.p_values == pytest.approx(np.array([1 + 2 / 3, 2, 3]) / 4)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_a_matched_record_is_called_mismatched_at_the_stated_rate(alpha: float) -> None:
    rng = np.random.default_rng(1)
    m, n, runs = 59, 40, 600
    alarms = np.empty(runs)
    for r in range(runs):
        # Skewed and discrete: the rate must not depend on the distribution, nor on ties.
        both = np.round(rng.gamma(1.5, 1.0, m + n), 3)
        got = consistency(both[m:], both[:m], both[:m] - 3, alpha=alpha)
        alarms[r] = len(got.mismatched) / n
        assert set(got.mismatched) == set(np.flatnonzero(both[m:] < got.threshold))
    error = alarms.std() / np.sqrt(runs)
    assert alarms.mean() == pytest.approx(alpha, abs=4 * error)
    # Vovk's beta: the rates of single calibration samples, as far as n records show them.
    interval = got.false_alarms
    low, high = stats.beta.ppf([0.025, 0.975], alpha * 60, 60 - alpha * 60)
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_with_groups_the_rate_holds_for_a_record_of_a_new_source() -> None:
    rng = np.random.default_rng(2)
    alarms: dict[str, list[float]] = {"rows": [], "groups": []}
    sizes = np.r_[np.full(20, 1), np.full(4, 40)]  # four sources have most pairs
    source = np.repeat(np.arange(24), sizes)
    for _ in range(400):
        effect = rng.normal(size=24)
        matched = effect[source] + 0.1 * rng.normal(size=source.size)
        new = rng.normal(size=50) * np.sqrt(1.01)
        for name, groups in (("rows", None), ("groups", source)):
            got = consistency(new, matched, matched - 5, matched_groups=groups, alpha=0.1)
            alarms[name].append(len(got.mismatched) / 50)
    assert np.mean(alarms["groups"]) <= 0.1
    assert np.mean(alarms["rows"]) > 0.12  # what the groups are there for


def test_too_few_real_pairs_for_alpha() -> None:
    consistency(normal(9, 0), normal(19, 1), normal(9, 2, -5))
    with pytest.raises(ValueError, match="at least 19 are needed"):
        consistency(normal(9, 0), normal(18, 1), normal(9, 2, -5))


# --- the scale ------------------------------------------------------------------------------------


def test_auc_is_that_of_sklearn_with_ties() -> None:
    rng = np.random.default_rng(3)
    matched, shuffled = rng.integers(2, 9, 60) / 1.0, rng.integers(0, 7, 90) / 1.0
    got = consistency(matched, matched, shuffled)
    expected = roc_auc_score(np.r_[np.ones(60), np.zeros(90)], np.r_[matched, shuffled])
    assert got.auc == pytest.approx(expected)
    assert expected in got.auc_interval
    perfect = consistency(matched, matched, shuffled - 10)
    assert perfect.auc == 1.0
    assert perfect.auc_interval.low == pytest.approx(0.025 ** (1 / 60))
    assert perfect.detected == 1.0


def test_positions_and_share_have_a_closed_form() -> None:
    matched = np.tile([0.8, 1.0], 20)
    shuffled = np.tile([0.0, 0.2], 20)
    scores = np.r_[matched[:30], shuffled[:10]]
    got = consistency(scores, matched, shuffled)
    assert got.positions == pytest.approx((scores - 0.1) / 0.8)
    assert got.share == pytest.approx(0.25)
    # No change of the score's unit changes them.
    other = consistency(7 * scores - 3, 7 * matched - 3, 7 * shuffled - 3)
    assert other.share == pytest.approx(0.25)
    assert other.share_interval is not None
    assert got.share_interval is not None
    assert other.share_interval.low == pytest.approx(got.share_interval.low)


@pytest.mark.parametrize(("share", "apart"), [(0.0, 1.5), (0.1, 3.0), (0.5, 1.5), (1.0, 1.5)])
def test_the_interval_of_the_share_covers(share: float, apart: float) -> None:
    rng = np.random.default_rng(int(10 * share + apart))
    runs, inside, estimates = 400, 0, []
    for _ in range(runs):
        wrong = rng.random(120) < share
        got = consistency(
            rng.normal(size=120) - apart * wrong, rng.normal(size=80),
            rng.normal(size=200) - apart,
        )  # fmt: skip
        assert got.share is not None
        assert got.share_interval is not None
        inside += share in got.share_interval
        estimates.append(got.share)
    assert 0.925 <= inside / runs <= 0.985
    if 0 < share < 1:
        assert np.mean(estimates) == pytest.approx(share, abs=0.02)


def crossed(rng: np.random.Generator, m: int, lift: float) -> np.ndarray:
    """Similarities in which images and texts have levels of their own, as in real encoders."""
    table = 0.6 * rng.normal(size=(m, 1)) + 0.6 * rng.normal(size=m) + rng.normal(size=(m, m))
    return table + lift * np.eye(m)


def test_partners_make_the_interval_know_that_pairs_share_records() -> None:
    """The test set is all shuffled pairs, so that the error of the shuffled end counts in full."""
    rng = np.random.default_rng(4)
    m, runs = 30, 400
    inside = {"partners": 0, "independent": 0}
    for r in range(runs):
        table = crossed(rng, m, 4.0)
        partner = derangements(m, repeats=10, seed=r)
        shuffled = table[np.arange(m), partner]
        scores = rng.normal(size=600) * np.sqrt(1 + 2 * 0.36)
        for name, arguments in (
            ("partners", {"shuffled_scores": shuffled, "partners": partner}),
            ("independent", {"shuffled_scores": shuffled.ravel()}),
        ):
            got = consistency_gap(table.diagonal(), scores, permutations=1, **arguments)
            assert got.relative_interval is not None
            inside[name] += 1.0 in got.relative_interval
    assert inside["partners"] / runs >= 0.93
    assert inside["independent"] / runs < 0.85


def test_a_score_that_sees_nothing_says_so() -> None:
    told = 0
    for seed in range(200):
        noise = normal(300, seed)
        try:
            got = consistency(noise[:100], noise[100:200], noise[200:])
        except ValueError as error:
            if "higher score must mean better" not in str(error):
                raise
            continue
        assert (got.share is None) == (got.positions is None) == (not got.can_tell)
        told += got.can_tell
    assert told <= 12  # 2.5 % are 5
    assert got.auc == pytest.approx(0.5, abs=0.15)


def test_a_mean_beyond_the_scale_says_nothing_about_the_share() -> None:
    got = consistency(normal(80, 0, 9.0), normal(80, 1, 3.0), normal(80, 2))
    assert not got.on_scale
    assert got.share == 0.0
    assert (got.share_interval.low, got.share_interval.high) == (0.0, 1.0)  # type: ignore[union-attr]
    assert consistency(normal(80, 0, 3.0), normal(80, 1, 3.0), normal(80, 2)).on_scale


def test_wrong_scores_are_refused() -> None:
    good, low = normal(30, 0), normal(30, 1, -4.0)
    with pytest.raises(ValueError, match="scores has 1 scores that are NaN"):
        consistency([*good, np.nan], good, low)
    with pytest.raises(ValueError, match="matched_scores must be a list of at least 2"):
        consistency(good, [], low)
    with pytest.raises(ValueError, match="higher score must mean better"):
        consistency(good, -good, -low)
    with pytest.raises(ValueError, match="go together"):
        consistency(good, good, low[None])
    with pytest.raises(ValueError, match=r"must both be \(R, 30\)"):
        consistency(good, good, low[None, :9], partners=derangements(9, repeats=1))
    with pytest.raises(ValueError, match="all of one group"):
        consistency(good, good, low, matched_groups=["a"] * 30)
    with pytest.raises(ValueError, match="alpha"):
        consistency(good, good, low, alpha=0.0)


# --- sets -----------------------------------------------------------------------------------------


def test_the_drop_has_welchs_interval() -> None:
    real, synthetic = normal(70, 0, 2.0), 0.5 * normal(40, 1, 3.0)
    got = consistency_gap(real, synthetic, normal(200, 2, -1.0))
    welch = stats.ttest_ind(real, synthetic, equal_var=False).confidence_interval()
    assert got.drop == pytest.approx(real.mean() - synthetic.mean())
    assert (got.drop_interval.low, got.drop_interval.high) == pytest.approx(tuple(welch))
    assert got.relative == pytest.approx(got.drop / (real.mean() - normal(200, 2, -1.0).mean()))
    assert got.p_value < 0.05


def test_the_p_value_of_the_gap_is_uniform_under_the_null_groups_whole() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(12), 5)
    p = []
    for r in range(300):
        real, synthetic = (
            np.repeat(rng.normal(size=12), 5) + 0.3 * rng.normal(size=60) for _ in range(2)
        )
        got = consistency_gap(
            real, synthetic, real - 5, groups_real=[f"r{g}" for g in groups],
            groups_synthetic=[f"s{g}" for g in groups], permutations=99, seed=r,
        )  # fmt: skip
        p.append(got.p_value)
    assert np.mean(np.array(p) <= 0.05) <= 0.09
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_no_gap_is_told_where_the_score_sees_nothing() -> None:
    rng = np.random.default_rng(0)
    same = rng.normal(size=40)
    got = consistency_gap(same, rng.normal(size=40), same)
    assert got.auc == 0.5
    assert got.relative is None
    assert got.relative_interval is None
