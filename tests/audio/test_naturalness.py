"""The naturalness gap: its null, its order, and prosody of signals whose values are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal
from scipy.spatial.distance import cdist

from evalsuite.metrics.audio.naturalness import PROSODY, naturalness_gap, prosody_features

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

PROMPTS = sorted((Path(__file__).parents[1] / "data" / "speech").glob("*.wav"))
RATE = 16_000
D = len(PROSODY)


def buzz(pitch: np.ndarray, rate: int = RATE) -> np.ndarray:
    """Ten harmonics of a pitch that changes from sample to sample."""
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, 11))


def features(x: np.ndarray, rate: int = RATE) -> dict[str, float]:
    return dict(zip(PROSODY, prosody_features(x, rate), strict=True))


# --- prosody --------------------------------------------------------------------------------------


def test_a_steady_buzz_has_no_melody() -> None:
    got = features(buzz(np.full(2 * RATE, 120.0)))
    for name in ("melody_spread", "melody_speed", "melody_fall", "jitter", "pausing", "pause_rate"):
        assert got[name] == pytest.approx(0, abs=0.05), name
    assert got["hoarseness"] < 0.01
    assert got["voicing"] == 1.0
    assert got["voiced_run"] == pytest.approx(np.log(1.94), abs=0.05)


def test_a_glide_has_its_speed() -> None:
    t = np.arange(2 * RATE) / RATE
    got = features(buzz(200 * 2 ** (-t * 4 / 12)))
    assert got["melody_speed"] == pytest.approx(4.0, rel=0.05)
    assert got["melody_fall"] == pytest.approx(-4.0, rel=0.05)
    assert got["melody_spread"] == pytest.approx(4 * 1.94 / np.sqrt(12), rel=0.05)


def test_roughness_is_jitter_and_hoarseness() -> None:
    rng = np.random.default_rng(0)
    steps = np.repeat(rng.normal(0, 0.4, 2 * RATE // 160), 160)
    smooth, rough = (features(buzz(150 * 2 ** (s / 12))) for s in (0 * steps, steps))
    assert rough["jitter"] > smooth["jitter"] + 0.05
    x = buzz(np.full(2 * RATE, 150.0))
    hoarse = features(x + rng.normal(0, 0.25 * x.std(), len(x)))
    assert hoarse["hoarseness"] > smooth["hoarseness"] + 0.03


def test_pauses_and_rhythm() -> None:
    t = np.arange(4 * RATE) / RATE
    x = buzz(np.full(len(t), 150.0)) * (1 - 0.9 * np.cos(2 * np.pi * 5 * t))
    x[RATE : RATE + RATE // 2] = 0
    got = features(x)
    assert got["pausing"] == pytest.approx(0.5 / 4, abs=0.02)
    assert got["pause_rate"] == pytest.approx(1 / 4, abs=0.02)
    assert got["syllables"] == pytest.approx(5.0, abs=0.7)
    rhythm = {n: v for n, v in got.items() if n.startswith("rhythm")}
    assert max(rhythm, key=rhythm.get) == "rhythm_4_8"  # type: ignore[arg-type]


def test_rate_and_gain_matter_little() -> None:
    x, rate = soundfile.read(PROMPTS[1])
    base = features(x, rate)
    quiet = features(x * 0.1, rate)
    wide = features(signal.resample_poly(x, 2, 1), 2 * rate)
    assert quiet == pytest.approx(base, abs=1e-6)
    for name in ("voicing", "syllables", "pausing", "rhythm_2_4", "stress", "melody_spread"):
        assert wide[name] == pytest.approx(base[name], rel=0.15, abs=0.1), name


@pytest.mark.parametrize("x", [np.zeros(RATE), np.ones(10) * 0.1, np.full(RATE, 0.1)])
def test_what_cannot_be_described_is_nan(x: np.ndarray) -> None:
    assert np.isnan(prosody_features(x, RATE)).all()


# --- the gap --------------------------------------------------------------------------------------


def draw(n: int, seed: int, shift: float = 0.0, d: int = D) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def test_coefficient_is_the_textbook_s() -> None:
    real, synthetic = draw(12, 0), draw(9, 1, 0.7)
    pooled = np.concatenate((real, synthetic))
    pooled = (pooled - pooled.mean(axis=0)) / pooled.std(axis=0)
    x, y = pooled[:12], pooled[12:]
    a = cdist(x, y).mean()
    b, c = (cdist(v, v).sum() / (len(v) * (len(v) - 1)) for v in (x, y))
    got = naturalness_gap(real, synthetic, B=19)
    assert got.value == pytest.approx((2 * a - b - c) / (2 * a), rel=1e-9)
    assert got.views == {"prosody": got.value}
    assert float(got) == got.value


def test_null_is_uniform_and_the_floor_holds() -> None:
    got = [naturalness_gap(draw(15, 2 * s), draw(12, 2 * s + 1), B=49) for s in range(200)]
    p = np.array([g.p_value for g in got])
    assert np.mean(p <= 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean([g.ratio > 1 for g in got]) == pytest.approx(0.05, abs=0.05)
    assert np.mean([g.value for g in got]) == pytest.approx(0, abs=0.003)


def test_interval_covers_the_distance_of_large_sets() -> None:
    far = naturalness_gap(draw(600, 1), draw(600, 2, 0.5), B=19).value
    hits = [
        far in naturalness_gap(draw(40, 10 + s), draw(40, 500 + s, 0.5), B=19).ci for s in range(60)
    ]
    assert 0.85 <= np.mean(hits) <= 1.0


def test_a_shift_is_seen_and_named() -> None:
    synthetic = draw(40, 1)
    synthetic[:, 3] += 2
    got = naturalness_gap(draw(40, 0), synthetic)
    assert got.ratio > 1
    assert got.p_value == 1 / 500
    assert got.shifts[0].name == list(PROSODY)[3]
    assert got.shifts[0].shift == pytest.approx(1.4, abs=0.3)  # 2 / sd of the mixture


def test_views_have_equal_weight_and_share_their_clips() -> None:
    real, synthetic = draw(20, 0), draw(20, 1)
    synthetic[4] = np.nan
    words = draw(20, 2, d=300), draw(20, 3, 1.0, d=300)
    words[1][4] = 1e6  # of the clip that is left out
    got = naturalness_gap(real, synthetic, embeddings={"words": words}, B=19)
    assert (got.n_real, got.n_synthetic, got.left_out) == (20, 19, 1)
    assert got.value == pytest.approx(np.mean(list(got.views.values())))
    assert got.views["words"] > got.views["prosody"] + 0.1


def test_groups_move_together() -> None:
    # Ten clips each of four speakers: as single clips they are far apart, as speakers they are not.
    rng = np.random.default_rng(0)
    speakers = np.repeat(rng.normal(0, 3, (8, D)), 10, axis=0)
    rows = speakers + rng.normal(0, 0.3, speakers.shape)
    who = np.repeat(np.arange(8), 10)
    alone = naturalness_gap(rows[:40], rows[40:], B=99)
    together = naturalness_gap(
        rows[:40], rows[40:], groups_real=who[:40], groups_synthetic=who[40:], B=99
    )
    assert alone.p_value == 0.01
    assert together.p_value > 0.05
    assert together.ci.high - together.ci.low > 2 * (alone.ci.high - alone.ci.low)


def test_damaged_speech_is_further_than_other_sentences() -> None:
    rng = np.random.default_rng(0)
    read = [soundfile.read(path) for path in PROMPTS]
    pieces = [(x[k : k + rate], rate) for x, rate in read for k in range(0, len(x) - rate, rate)]
    x = np.array([prosody_features(*p) for p in pieces])
    noise = [prosody_features(p + rng.normal(0, 0.5 * p.std(), len(p)), rate) for p, rate in pieces]
    near = naturalness_gap(x[::2], x[1::2], B=99)
    far = naturalness_gap(x[::2], np.array(noise)[1::2], B=99)
    assert near.p_value > 0.05
    assert far.p_value == 0.01
    assert far.ci.low > near.value


def test_refusals() -> None:
    x = draw(10, 0)
    with pytest.raises(ValueError, match="at least 19"):
        naturalness_gap(x, x, B=5)
    with pytest.raises(ValueError, match="shape"):
        naturalness_gap(x[:, :4], x)
    with pytest.raises(ValueError, match="real has 4 clips"):
        naturalness_gap(x[:4], x)
    with pytest.raises(ValueError, match="same clips"):
        naturalness_gap(x, x, embeddings={"words": (x[:3], x)})
    with pytest.raises(ValueError, match="one group holds"):
        naturalness_gap(x, draw(10, 1), groups_real=["one"] * 10, B=19)
