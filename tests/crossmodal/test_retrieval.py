"""Recall@k against closed forms, brute force and torchmetrics."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torchmetrics.retrieval import RetrievalHitRate, RetrievalRecall

from evalsuite.metrics.crossmodal.retrieval import _found, recall_gap, retrieval_recall


def features(n: int, noise: float, seed: int, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return x, x + noise * rng.standard_normal((n, d))


def peer(kind: type, x: np.ndarray, y: np.ndarray, right: np.ndarray, k: int) -> float:
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
    scores = torch.from_numpy(unit[0] @ unit[1].T)
    query = torch.arange(len(x))[:, None].expand_as(scores)
    metric = kind(top_k=k)
    return float(metric(scores.flatten(), torch.from_numpy(right).flatten(), query.flatten()))


@pytest.mark.parametrize("k", [1, 3, 10])
def test_recall_is_that_of_torchmetrics(k: int) -> None:
    x, y = features(60, 1.5, seed=k)
    got = retrieval_recall(x, y, ks=[k])
    right = np.eye(60, dtype=bool)
    assert got.image_to_text[0].value == pytest.approx(peer(RetrievalRecall, x, y, right, k))
    assert got.text_to_image[0].value == pytest.approx(peer(RetrievalRecall, y, x, right, k))
    assert 0 < got.image_to_text[0].value < 1


@pytest.mark.parametrize("k", [1, 5])
def test_equal_captions_are_right_answers(k: int) -> None:
    x, y = features(60, 1.5, seed=k)
    caption = np.arange(60) // 3
    right = caption[:, None] == caption
    got = retrieval_recall(x, y, ks=[k], contents=caption)
    assert got.image_to_text[0].value == pytest.approx(peer(RetrievalHitRate, x, y, right, k))
    assert got.image_to_text[0].value > retrieval_recall(x, y, ks=[k]).image_to_text[0].value
    wrong = np.prod([(57 - i) / (60 - i) for i in range(k)])
    assert got.image_to_text[0].chance == pytest.approx(1 - wrong)


def test_the_two_directions_are_not_mixed_up() -> None:
    """Text 0 is near to all images, so that it is the best answer to each of them."""
    texts = np.c_[0.1 * np.eye(9), np.ones(9)]
    texts[0] = [1.0] * 9 + [0.0]
    got = retrieval_recall(np.eye(9, 10), texts, ks=[1])
    assert got.image_to_text[0].value == pytest.approx(1 / 9)
    assert got.text_to_image[0].value == pytest.approx((8 + 1 / 9) / 9)


def test_ends_of_the_range() -> None:
    got = retrieval_recall(np.eye(9), np.eye(9), ks=[1, 9])
    assert [float(r) for r in (*got.image_to_text, *got.text_to_image)] == [1.0] * 4
    assert got.image_to_text[0].chance == pytest.approx(1 / 9)
    assert got.image_to_text[1].chance == 1.0
    assert got.image_to_text[0].interval.high == 1.0
    assert got.image_to_text[0].interval.low < 0.8  # nine queries
    away = retrieval_recall(np.eye(9), np.roll(np.eye(9), 1, axis=0), ks=[1])
    assert away.image_to_text[0].value == 0.0


def test_an_encoder_that_gives_one_vector_for_everything_is_at_chance() -> None:
    rng = np.random.default_rng(0)
    same = np.tile(rng.standard_normal(16), (50, 1)).astype(np.float32)
    got = retrieval_recall(same, rng.standard_normal((50, 16)), ks=[1, 5])
    # All images alike: as a query each finds the same texts, as candidates they all tie.
    assert got.text_to_image[0].value == pytest.approx(1 / 50)
    assert got.text_to_image[1].value == pytest.approx(5 / 50)
    assert got.image_to_text[0].value == pytest.approx(1 / 50)


def test_ties_are_the_mean_over_all_orders() -> None:
    for wrong, right, places in ((3, 1, 2), (2, 2, 1), (4, 2, 3), (0, 2, 1), (3, 1, 0), (2, 1, -3)):
        items = [0] * wrong + [1] * right
        orders = list(permutations(items))
        expected = np.mean([any(o[: max(places, 0)]) for o in orders])
        got = _found(np.array([places]), np.array([wrong + right]), np.array([right]))
        assert got[0] == pytest.approx(expected)


def test_the_interval_covers_and_groups_widen_it() -> None:
    rng = np.random.default_rng(0)
    inside, runs, widths = {"rows": 0, "groups": 0}, 200, {"rows": 0.0, "groups": 0.0}
    groups = np.repeat(np.arange(20), 5)
    gallery = np.eye(100)
    for _ in range(runs):
        # A whole group finds its partners or does not, with probability 0.7.
        ok = np.repeat(rng.random(20) < 0.7, 5)
        x = np.where(ok[:, None], gallery, np.roll(gallery, 1, axis=0))
        for name, g in (("rows", None), ("groups", groups)):
            recall = retrieval_recall(x, gallery, ks=[1], groups=g).image_to_text[0]
            inside[name] += 0.7 in recall.interval
            widths[name] += recall.interval.high - recall.interval.low
    assert inside["groups"] / runs >= 0.9
    assert inside["rows"] / runs < 0.8
    assert widths["groups"] > widths["rows"]


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from evalsuite.metrics.crossmodal import retrieval

    x, y = features(70, 1.0, seed=0)
    whole = retrieval_recall(x, y)
    monkeypatch.setattr(retrieval, "_BLOCK", 16)
    assert retrieval_recall(x, y) == whole


def test_wrong_input_is_refused() -> None:
    x = np.eye(4)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        retrieval_recall(x[:1], x[:1], ks=[1])
    with pytest.raises(ValueError, match=r"each k must be an integer in 1\.\.4"):
        retrieval_recall(x, x, ks=[5])
    with pytest.raises(ValueError, match="contents"):
        retrieval_recall(x, x, ks=[1], contents=["a"])


def test_the_gap_compares_as_many_pairs_on_either_side() -> None:
    real, synthetic = features(200, 0.3, seed=0), features(40, 2.0, seed=1)
    gap = recall_gap(*real, *synthetic, ks=[1, 5])
    assert gap.real.n == gap.synthetic.n == 40
    assert gap.synthetic == retrieval_recall(*synthetic, ks=[1, 5])
    first = gap.real.image_to_text[0].value - gap.synthetic.image_to_text[0].value
    assert gap.value == first > 0.3
    assert gap.interval.low > 0
    assert recall_gap(*synthetic, *real, ks=[1]).value == pytest.approx(
        -recall_gap(*real, *synthetic, ks=[1], seed=0).value, abs=0.15
    )


def test_the_interval_of_the_gap_is_newcombes() -> None:
    n, z = 200, 1.959964
    ends = []
    pairs = []
    for right in (160, 120):
        texts = np.c_[np.eye(n), np.zeros(n)]
        texts[right:] = np.eye(n + 1)[n]
        texts[right:, :n] -= 0.1  # these are like no image
        pairs += [np.c_[np.eye(n), np.zeros(n)], texts]
        middle = (right + z * z / 2) / (n + z * z)
        half = z / (n + z * z) * np.sqrt(right * (n - right) / n + z * z / 4)
        ends.append((right / n, middle - half, middle + half))
    (a, low_a, high_a), (b, low_b, high_b) = ends
    gap = recall_gap(*pairs, ks=[1])
    assert gap.value == pytest.approx(0.2)
    # The spread of n draws is taken with n - 1, hence the tolerance.
    assert gap.interval.low == pytest.approx(0.2 - np.hypot(a - low_a, high_b - b), abs=5e-4)
    assert gap.interval.high == pytest.approx(0.2 + np.hypot(high_a - a, b - low_b), abs=5e-4)


def test_texts_of_other_images_are_refused_by_number() -> None:
    x, y = features(20, 1.0, seed=0)
    with pytest.raises(ValueError, match="20 images and 19 texts"):
        recall_gap(x, y, x, y[:19])
