from __future__ import annotations

import json

import numpy as np
import pytest

from evalsuite.generators.correction.features import Coral


def test_covariance_and_mean_become_the_real_ones() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((4000, 5)) @ rng.standard_normal((5, 5)) + 3
    synthetic = rng.standard_normal((3000, 5)) @ rng.standard_normal((5, 5)) - 1
    made = Coral.fit(real, synthetic, shrinkage=1e-9).apply(synthetic)
    assert np.allclose(made.mean(axis=0), real.mean(axis=0))
    assert np.allclose(np.cov(made.T), np.cov(real.T), rtol=1e-4, atol=1e-4)


def test_fewer_samples_than_features_need_shrinkage_and_get_it() -> None:
    rng = np.random.default_rng(1)
    real, synthetic = rng.standard_normal((20, 60)), 2 + 3 * rng.standard_normal((25, 60))
    made = Coral.fit(real, synthetic).apply(synthetic)
    assert np.allclose(made.mean(axis=0), real.mean(axis=0))
    # 25 samples fill 24 of 60 directions: not all of the real spread, and no longer nine times it.
    spreads = [float(np.trace(np.cov(x.T))) for x in (synthetic, made, real)]
    assert 0.2 * spreads[2] < spreads[1] < spreads[2] < 0.2 * spreads[0]
    with pytest.raises(ValueError, match="shrinkage must be above 0"):
        Coral.fit(real, synthetic, shrinkage=0)
    with pytest.raises(ValueError, match="all the same"):
        Coral.fit(np.ones((5, 3)), rng.standard_normal((5, 3)))


def test_it_is_made_again_of_its_json() -> None:
    rng = np.random.default_rng(2)
    real, synthetic = rng.standard_normal((50, 4)), 2 * rng.standard_normal((50, 4))
    coral = Coral.fit(real, synthetic)
    again = Coral(**json.loads(json.dumps(coral.params)))
    assert np.allclose(again.apply(synthetic), coral.apply(synthetic), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="fitted on 4 features"):
        coral.apply(synthetic[:, :2])
