from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalsuite.errors import DataError
from evalsuite.generators import (
    ClassSampler,
    Compose,
    Corrupt,
    Item,
    LeakError,
    RecipeError,
    ReplayError,
    build,
    produce,
    replay,
    spec,
)
from evalsuite.generators.protocol import held_out_sources


def gaussian_items(
    n: int, label: str, seed: int = 0, split: str | None = "train"
) -> tuple[list[Item], np.ndarray]:
    """Draw 8×8 images whose pixels are Gaussian, with 3 strong directions, far from 0 and 1."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((64, 3)))[0]
    x = 0.5 + rng.standard_normal((n, 3)) * [0.4, 0.3, 0.2] @ axes.T
    x += 0.02 * rng.standard_normal((n, 64))
    pixels = np.rint(255 * np.clip(x, 0, 1)).astype(np.uint8)
    items = [
        Item(f"{label}{i}", Image.fromarray(p.reshape(8, 8)), label, split)
        for i, p in enumerate(pixels)
    ]
    return items, pixels.reshape(n, 64) / 255


def drawn(sampler: ClassSampler, label: str, n: int) -> np.ndarray:
    return np.stack(
        [np.asarray(sampler.apply(label, {"seed": s}), float).ravel() / 255 for s in range(n)]
    )


def test_samples_have_the_mean_and_covariance_of_the_closed_form() -> None:
    items, x = gaussian_items(400, "a")
    sampler = ClassSampler.fit(items, size=8, components=3)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    sigma2 = values[3:].mean()
    # Tipping & Bishop: C = U (L - s2 I) U' + s2 I.
    expected = vectors[:, :3] @ np.diag(values[:3] - sigma2) @ vectors[:, :3].T
    expected += sigma2 * np.eye(64)
    made = drawn(sampler, "a", 2500)
    np.testing.assert_allclose(made.mean(axis=0), x.mean(axis=0), atol=0.015)
    got = np.cov(made.T, bias=True)
    assert np.linalg.norm(got - expected) < 0.08 * np.linalg.norm(expected)
    spectrum = np.linalg.eigvalsh(got)[::-1]
    assert spectrum[3:].mean() == pytest.approx(sigma2, rel=0.03)


@pytest.mark.peers
def test_the_residual_variance_agrees_with_scikit_learn_where_that_is_right() -> None:
    from sklearn.decomposition import PCA

    items, x = gaussian_items(400, "a")
    model = ClassSampler.fit(items, size=8, components=3)._classes["a"]
    peer = PCA(3, svd_solver="full").fit(x)
    # scikit-learn divides by n - 1, and (for n < d only) by n - q in place of d - q.
    assert model.sigma**2 == pytest.approx(peer.noise_variance_ * 399 / 400, rel=1e-9)
    few = ClassSampler.fit(items[:20], size=8, components=3)._classes["a"]
    peer = PCA(3, svd_solver="full").fit(x[:20])
    assert few.sigma**2 == pytest.approx(
        peer.noise_variance_ * 19 / 20 * (20 - 3) / (64 - 3), rel=1e-9
    )


def test_without_residual_samples_stay_in_the_span() -> None:
    items, _ = gaussian_items(200, "a")
    sampler = ClassSampler.fit(items, size=8, components=3, residual=0)
    made = drawn(sampler, "a", 300)
    spectrum = np.linalg.eigvalsh(np.cov(made.T))[::-1]
    assert spectrum[3] < 1e-4 < spectrum[2]


def test_the_residual_adds_nothing_within_the_span() -> None:
    rng = np.random.default_rng(0)
    x = np.clip(0.5 + 0.1 * rng.standard_normal((300, 64)), 0, 1)
    pixels = np.rint(255 * x).astype(np.uint8)
    items = [Item(str(i), Image.fromarray(p.reshape(8, 8)), "a") for i, p in enumerate(pixels)]
    sampler = ClassSampler.fit(items, size=8, components=10)
    centred = pixels / 255 - (pixels / 255).mean(axis=0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    inside = np.var(drawn(sampler, "a", 3000) @ vt[:10].T, axis=0)
    # The noise beside the span has half the variance of these directions: twice would be seen.
    np.testing.assert_allclose(inside, s[:10] ** 2 / 300, rtol=0.15)


def test_a_mixture_finds_two_kinds_that_one_gaussian_blends() -> None:
    dark, bright = (np.full((8, 8), v) for v in (60, 200))
    rng = np.random.default_rng(0)
    items = [
        Item(
            str(i),
            Image.fromarray((base + rng.normal(0, 4, (8, 8))).astype(np.uint8)),
            "both",
        )
        for i, base in enumerate([dark, bright] * 60)
    ]

    def between(mixtures: int) -> float:
        sampler = ClassSampler.fit(items, size=8, components=2, mixtures=mixtures)
        means = 255 * drawn(sampler, "both", 400).mean(axis=1)
        return float(((means > 90) & (means < 170)).mean())

    assert between(1) > 0.2
    assert between(2) == 0


def test_classes_are_drawn_apart(cells: list[Image.Image]) -> None:
    items = [Item(f"c{i}", c, "cell") for i, c in enumerate(cells)]
    items += [
        Item(f"n{i}", Image.eval(c, lambda v: 255 - v), "negative") for i, c in enumerate(cells)
    ]
    sampler = ClassSampler.fit(items, size=32, components=8)
    assert sampler.labels == ("cell", "negative")
    real = {
        k: np.mean([np.asarray(i.image).mean() for i in items if i.label == k])
        for k in sampler.labels
    }
    for label in sampler.labels:
        mean = 255 * drawn(sampler, label, 40).mean()
        assert mean == pytest.approx(real[label], abs=12)
    assert sampler.apply("cell", {"seed": 0}).size == (32, 32)


def test_colour_stays_colour(photos: dict[str, Image.Image]) -> None:
    items = [
        Item(f"{k}{i}", p.convert("RGB").rotate(i), "photo")
        for k, p in photos.items()
        for i in range(4)
    ]
    assert ClassSampler.fit(items, components=4).apply("photo", {"seed": 1}).mode == "RGB"


def test_it_replays_with_the_model_and_only_with_it(tmp_path: Path) -> None:
    items, _ = gaussian_items(50, "a")
    other, _ = gaussian_items(50, "a", seed=1)
    sampler = ClassSampler.fit(items, size=8, components=3, mixtures=2, residual=0.5, seed=4)
    made, record = produce(sampler, items[0], seed=3)
    assert record.operation["params"]["counts"] == {"a": 50}
    sampler.save(tmp_path / "model.npz")
    loaded = ClassSampler.load(tmp_path / "model.npz")
    assert spec(loaded) == spec(sampler)
    assert replay(record, "a", loaded).tobytes() == made.tobytes()
    with pytest.raises(ReplayError, match="load the fitted model"):
        replay(record, "a")
    with pytest.raises(RecipeError, match="load the fitted model"):
        build(spec(sampler))
    with pytest.raises(ReplayError, match="was made by"):
        replay(
            record,
            "a",
            ClassSampler.fit(other, size=8, components=3, mixtures=2, residual=0.5, seed=4),
        )


def test_the_training_set_is_named_whatever_its_order() -> None:
    items, _ = gaussian_items(30, "a")
    a, b = (
        ClassSampler.fit(order, size=8, components=2).params["training_sha256"]
        for order in (items, items[::-1])
    )
    assert a == b
    assert a != ClassSampler.fit(items[1:], size=8, components=2).params["training_sha256"]


def test_what_learned_from_a_held_out_split_says_so_through_a_chain() -> None:
    items, _ = gaussian_items(20, "a", split="test")
    sampler = ClassSampler.fit(items, size=8, components=2)
    assert held_out_sources(Compose([sampler, Corrupt("fog")])) == {"test"}
    train, _ = gaussian_items(20, "b")
    assert ClassSampler.fit(train, size=8).held_out_sources == frozenset()
    with pytest.raises(LeakError, match=r"\['test', 'train'\]"):
        ClassSampler.fit(items + train, size=8)


def test_too_little_is_named(tmp_path: Path) -> None:
    items, _ = gaussian_items(5, "a")
    sampler = ClassSampler.fit(items, size=8)
    with pytest.raises(ValueError, match=r"class 'b' is not one .*\['a'\]"):
        sampler.apply("b", {"seed": 0})
    with pytest.raises(DataError, match="no items"):
        ClassSampler.fit([])
    with pytest.raises(DataError, match="class 'a' has 2 images"):
        ClassSampler.fit(items[:2])
    with pytest.raises(DataError, match="too few for 3 mixtures"):
        ClassSampler.fit(items, mixtures=3)
    with pytest.raises(ValueError, match="size=4"):
        ClassSampler.fit(items, size=4)
    with pytest.raises(ValueError, match="got -1"):
        ClassSampler.fit(items, residual=-1)
    with pytest.raises(ValueError, match="has no label"):
        ClassSampler.fit([Item("x", items[0].image)])
    with pytest.raises(ValueError, match="mode P"):
        ClassSampler.fit([Item("x", Image.new("P", (9, 9)), "a")])
    with pytest.raises(ValueError, match=r"end in .npz"):
        sampler.save(tmp_path / "model.pkl")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(DataError, match="not a saved ClassSampler"):
        ClassSampler.load(tmp_path / "other.npz")
