"""Likeness and diversity of voices: closed forms, a peer, and the gate with GE2E."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from torchmetrics.functional.pairwise import pairwise_cosine_similarity

from evalsuite.gate.findings import Finding
from evalsuite.gate.policy import Policy, load_policy
from evalsuite.generators.audio.speech import Speak
from evalsuite.metrics.audio.speakers import speaker_similarity
from evalsuite.pipeline.run import run_gate

SPEECH = Path(__file__).parents[1] / "data" / "speech"


def voices(speakers: list[int], seed: int) -> np.ndarray:
    """Clips of speakers who lie far apart: a direction each, and a little noise."""
    rng = np.random.default_rng(seed)
    return np.eye(32)[speakers] + 0.05 * rng.standard_normal((len(speakers), 32))


def test_by_name_it_is_the_mean_cosine_with_that_speaker() -> None:
    import torch

    who, whose = [0, 0, 0, 1, 1, 2], [1, 0, 1]
    real, synthetic = voices(who, 0), voices([1, 0, 0], 1)  # the last is not who it says
    found = speaker_similarity(
        real, synthetic, speakers_real=list("aaabbc"), speakers_synthetic=list("bab")
    )
    assert found.named
    cosine = pairwise_cosine_similarity(torch.tensor(synthetic), torch.tensor(real)).numpy()
    own = pairwise_cosine_similarity(torch.tensor(real)).numpy()  # its diagonal is zero
    expected = [np.mean(cosine[i][np.array(who) == s]) for i, s in enumerate(whose)]
    np.testing.assert_allclose(found.scores, expected, atol=1e-9)
    assert found.scores[2] < 0.2
    assert found.scores[0] > 0.8
    floor = [own[i][np.array(who) == s].sum() / (who.count(s) - 1) for i, s in enumerate(who[:5])]
    assert found.real == pytest.approx(np.mean(floor))  # of the third speaker there is no other
    assert found.gap == pytest.approx(found.real - found.value)


def test_without_names_it_is_the_nearest_real_clip() -> None:
    import torch

    real, synthetic = voices([0, 0, 1, 1, 2, 2], 0), voices([0, 1, 9, 9], 1)
    found = speaker_similarity(real, synthetic)
    assert not found.named
    cosine = pairwise_cosine_similarity(torch.tensor(synthetic), torch.tensor(real)).numpy()
    np.testing.assert_allclose(found.scores, cosine.max(axis=1), atol=1e-9)
    own = pairwise_cosine_similarity(torch.tensor(real)).numpy()
    assert found.real == pytest.approx(own.max(axis=1).mean())
    # Names that the real set does not have are no names to compare by.
    other = speaker_similarity(
        real, synthetic, speakers_real=[0, 0, 1, 1, 2, 2], speakers_synthetic=[0, 1, 9, 9]
    )
    np.testing.assert_array_equal(other.scores, found.scores)


def test_the_interval_is_welch_s_and_takes_speakers_whole() -> None:
    from scipy import stats

    real, synthetic = voices([0] * 20, 0), voices([0] * 30, 1)
    found = speaker_similarity(real, synthetic)
    values = speaker_similarity(real, real).scores
    assert values == pytest.approx(1)  # each is its own nearest here
    cosine = (real @ real.T) / np.outer(*[np.linalg.norm(real, axis=1)] * 2)
    np.fill_diagonal(cosine, -1)
    theirs = stats.ttest_ind(cosine.max(axis=1), found.scores, equal_var=False)
    low, high = theirs.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert found.interval.method == "Welch over clips"
    # Ten copies of a clip each: no more is known of six speakers than of six clips.
    six, more = voices(list(range(6)) * 2, 2), voices(list(range(6)), 3)
    names = [f"s{k}" for k in range(6)]
    once = speaker_similarity(six, more, speakers_real=names * 2, speakers_synthetic=names)
    often = speaker_similarity(
        six, np.repeat(more, 10, axis=0), speakers_real=names * 2,
        speakers_synthetic=np.repeat(names, 10).tolist(),
    )  # fmt: skip
    assert once.interval.method == "Welch over speakers"
    assert (often.interval.low, often.interval.high) == pytest.approx(
        (once.interval.low, once.interval.high)
    )


def test_wrong_input_is_refused() -> None:
    x = voices([0, 1, 2], 0)
    with pytest.raises(ValueError, match="both sides"):
        speaker_similarity(x, x, speakers_real=[1, 2, 3])
    with pytest.raises(ValueError, match="row of zeros"):
        speaker_similarity(x, np.zeros((2, 32)))
    with pytest.raises(ValueError, match="at least 2 clips"):
        speaker_similarity(x, x[:1])
    with pytest.raises(ValueError, match="NaN"):
        speaker_similarity(x, np.full((2, 32), np.nan))


def test_the_gate_tells_other_and_fewer_voices(tmp_path: Path) -> None:
    voice = Speak(voices=("en-us", "en-us+f3", "en-us+m5", "en-gb-scotland"))
    texts = ("The boat left before sunrise.", "Nobody answered the door.", "It is late again.",
             "Snow covered the whole road.", "The garden needs water.")  # fmt: skip
    rng = np.random.default_rng(0)
    for name in ("person", "again", "robots"):
        (tmp_path / name).mkdir()
    for k, path in enumerate(sorted(SPEECH.glob("*.wav"))):
        x, rate = soundfile.read(path)
        for half, part in enumerate(np.array_split(x, 4)):
            side = ("person", "again")[half % 2]
            soundfile.write(tmp_path / side / f"{k}-{half}.wav", part, rate)
    for k in range(20):
        params = {**voice.sample_params(rng), "voice": voice.voices[k % 4]}
        sound = voice.apply(texts[k // 4], params)
        samples = np.asarray(sound.samples).ravel()
        soundfile.write(tmp_path / "robots" / f"{k}.wav", samples, sound.rate)
    default = load_policy().model_dump()
    quick = {"encoders": {"audio": ("ge2e",)}, "scorers": {}, "min_samples": 12}
    policy = Policy.model_validate({**default, **quick})

    def gaps(synthetic: str) -> dict[str, Finding]:
        run = run_gate(
            tmp_path / "person", tmp_path / synthetic, policy=policy, cache=False, progress=False
        )
        return {f.metric: f for f in run.result.findings if f.metric.startswith("speaker_")}

    same, other = gaps("again"), gaps("robots")
    assert set(same) == set(other) == {"speaker_similarity", "speaker_diversity"}
    for found in (*same.values(), *other.values()):
        assert found.encoder == "ge2e"
        assert found.gap is not None
        assert found.gap_ci is not None
        assert found.gap_ci.low <= found.gap <= found.gap_ci.high
    assert abs(same["speaker_similarity"].gap or 1) < 0.05
    assert (other["speaker_similarity"].gap or 0) > 0.1
    assert other["speaker_similarity"].gap_ci.low > 0  # type: ignore[union-attr]
    # Four voices for one: less than none of the variety is lost.
    assert (other["speaker_diversity"].gap or 0) < -0.05
    assert abs(same["speaker_diversity"].gap or 1) < 0.1
