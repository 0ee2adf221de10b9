"""DNSMOS, PLCMOS and voice activity: the peer's own scores, the order of a noise ladder, guards."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evalsuite.data.audio import DecodedAudio, decode_audio
from evalsuite.data.dataset import Limits
from evalsuite.encoders import speech
from evalsuite.encoders.mel import mel_filters
from evalsuite.encoders.speech import WEIGHTS, Dnsmos, load_scorer
from evalsuite.errors import ModelError

PROMPTS = sorted((Path(__file__).parents[1] / "data" / "speech").glob("*.wav"))
RATE = 16_000


def recording(samples: np.ndarray) -> DecodedAudio:
    samples = samples.astype(np.float32)
    return DecodedAudio(
        samples, RATE, RATE, 1, len(samples) / RATE, "WAV", "FLOAT", (), samples
    )  # fmt: skip


@pytest.fixture(scope="module")
def prompts() -> list[DecodedAudio]:
    return [decode_audio(path.read_bytes(), Limits()) for path in PROMPTS]


@pytest.fixture(scope="module")
def exact() -> Dnsmos:
    scorer = load_scorer("dnsmos")
    assert isinstance(scorer, Dnsmos)
    return scorer


@pytest.fixture(scope="module")
def long(prompts: list[DecodedAudio]) -> np.ndarray:
    """18.4 s: speechmos drops two of its nine windows."""
    return np.concatenate([p.samples for p in prompts] * 2)[: int(18.4 * RATE)]


def peer(samples: np.ndarray) -> list[float]:
    from speechmos import dnsmos

    got = dnsmos.run(np.clip(samples, -1, 1), RATE)
    return [got[f"{name}_mos"] for name in ("sig", "bak", "ovrl", "p808")]


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from evalsuite.encoders.speech import load_scorer as f; f('dnsmos').load();"
        "f('plcmos').load();"
        "sys.exit(any(m in sys.modules for m in ('torch', 'librosa', 'speechmos', 'silero_vad')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_mel_filters_are_librosa_s() -> None:
    librosa = pytest.importorskip("librosa")
    for n_fft, bands in ((321, 120), (400, 40), (400, 80)):
        theirs = librosa.filters.mel(sr=RATE, n_fft=n_fft, n_mels=bands)
        np.testing.assert_allclose(mel_filters(n_fft, bands), theirs, atol=1e-7)


# --- equal to the peer ----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_dnsmos_equals_speechmos(k: int, prompts: list[DecodedAudio], exact: Dnsmos) -> None:
    np.testing.assert_allclose(
        exact.score([prompts[k]])[0, 1:], peer(prompts[k].samples), atol=1e-4
    )


@pytest.mark.parametrize("seconds", [9.01, 9.5, 11.2])
def test_dnsmos_equals_speechmos_on_whole_windows(
    seconds: float, long: np.ndarray, exact: Dnsmos
) -> None:
    x = long[: round(seconds * RATE)]
    np.testing.assert_allclose(exact.score([recording(x)])[0, 1:], peer(x), atol=1e-4)


def test_speechmos_drops_windows_of_long_recordings(long: np.ndarray, exact: Dnsmos) -> None:
    ours = exact.windows(long)
    assert ours.shape == (9, 4)
    # As speechmos cuts: (start + 9.01) × 16000 in floating point, whole windows only.
    kept = [k for k in range(9) if int((k + 9.01) * RATE) - k * RATE == 144_160]
    assert len(kept) < 9
    theirs = peer(long)
    np.testing.assert_allclose(ours[kept].mean(axis=0), theirs, atol=1e-4)
    assert np.abs(ours.mean(axis=0) - theirs).max() > 1e-4
    np.testing.assert_array_equal(exact.score([recording(long)])[0, 1:], ours.mean(axis=0))


def test_each_window_is_as_if_alone(long: np.ndarray, exact: Dnsmos) -> None:
    # What windows share is computed once; a window cut out by itself shares nothing.
    shared = exact.windows(long)
    for k in (0, 3, 8):
        alone = exact.windows(long[k * RATE : k * RATE + 144_160])
        np.testing.assert_allclose(alone, shared[k : k + 1], atol=1e-5)


def test_plcmos_equals_speechmos_with_the_same_raters(prompts: list[DecodedAudio]) -> None:
    from speechmos import plcmos

    scorer = load_scorer("plcmos")
    for item in prompts[:3]:
        np.random.seed(0)  # noqa: NPY002 - speechmos draws from the global state
        theirs = plcmos.run(np.clip(item.samples, -1, 1), RATE)["plcmos"]
        assert scorer.score([item])[0, 0] == pytest.approx(theirs, abs=1e-4)


def test_speech_share_equals_silero_s(prompts: list[DecodedAudio]) -> None:
    import onnxruntime

    # Its streaming graph, frame by frame, as its own wrapper runs it.
    folder = Path(str(importlib.util.find_spec("silero_vad").origin)).parent / "data"
    session = onnxruntime.InferenceSession(str(folder / "silero_vad_16k_op15.onnx"))
    x = prompts[0].samples
    x = np.pad(x, (64, -len(x) % 512))
    state, found = np.zeros((2, 1, 128), np.float32), []
    for start in range(0, len(x) - 64, 512):
        feed = {"input": x[None, start : start + 576], "state": state, "sr": np.array(RATE)}
        probability, state = session.run(None, feed)
        found.append(probability[0, 0] >= 0.5)
    assert load_scorer("vad").score(prompts[:1])[0, 0] == pytest.approx(np.mean(found))


# --- what they hear -------------------------------------------------------------------------------


def test_noise_and_8_bits_lower_the_scores_in_order(
    prompts: list[DecodedAudio], exact: Dnsmos
) -> None:
    rng = np.random.default_rng(0)
    rungs: list[list[DecodedAudio]] = [prompts[:2]]
    for snr in (20, 10, 0):
        rungs.append([])
        for item in prompts[:2]:
            sigma = np.sqrt(np.mean(item.samples**2) / 10 ** (snr / 10))
            rungs[-1].append(recording(item.samples + rng.normal(0, sigma, len(item.samples))))
    fast = load_scorer("dnsmos_fast")
    names = list(fast.scores)
    clean, *noisy = (fast.score(rung) for rung in rungs)
    for name in ("dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808"):  # SIG is not ordered by noise
        k = names.index(name)
        ladder = [rung[:, k].mean() for rung in (clean, *noisy)]
        assert ladder == sorted(ladder, reverse=True), name
        assert ladder[0] - ladder[-1] > 0.8, name
    assert (clean[:, 0] > 0.6).all()
    coarse = [recording(np.round(p.samples * 128 * 0.1) / 128 / 0.1) for p in prompts[:2]]
    k = names.index("dnsmos_ovrl")
    assert fast.score(coarse)[:, k].mean() < clean[:, k].mean() - 0.3


def test_lost_packets_lower_plcmos(prompts: list[DecodedAudio]) -> None:
    rng = np.random.default_rng(0)
    lossy = []
    for item in prompts[:4]:
        x = item.samples.copy()
        for start in range(0, len(x), 320):
            if rng.random() < 0.15:
                x[start : start + 320] = 0
        lossy.append(recording(x))
    scorer = load_scorer("plcmos")
    assert scorer.score(lossy).mean() < scorer.score(prompts[:4]).mean() - 0.5


def test_no_speech_has_no_quality(prompts: list[DecodedAudio], exact: Dnsmos) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(2 * RATE) / RATE
    mute = [
        recording(np.zeros(5 * RATE)),
        recording(rng.normal(0, 0.1, 5 * RATE)),
        recording(0.3 * np.sin(2 * np.pi * 440 * t)),
        recording(prompts[0].samples * 1e-5),
        recording(np.zeros(1)),
    ]
    got = exact.score(mute)
    assert (got[[0, 1, 2, 4], 0] < 0.2).all()
    assert got[3, 0] > 0.8  # it is speech, under the noise of any converter
    assert np.isnan(got[:, 1:]).all()
    assert np.isnan(load_scorer("plcmos").score(mute)).all()
    # What speechmos would have said: silence above noise.
    assert peer(mute[0].samples)[2] > peer(mute[1].samples)[2] + 0.3


def test_fast_mode_stays_near(prompts: list[DecodedAudio], exact: Dnsmos, long: np.ndarray) -> None:
    fast = load_scorer("dnsmos_fast")
    assert isinstance(fast, Dnsmos)
    # Prompt 3 has two windows and prompt 4 eight: the first two are graded.
    gap = fast.score(prompts[3:5])[:, 1:] - exact.score(prompts[3:5])[:, 1:]
    assert [len(fast.windows(p.samples)) for p in prompts[3:5]] == [2, 2]
    assert np.sqrt((gap**2).mean()) < 0.06
    assert 0 < np.abs(gap).max() < 0.15
    # Where nothing is repeated all windows count; P.808 has no integers, P.835 has.
    x = long[: 10 * RATE]
    clipped = np.clip(30 * x, -1, 1)  # louder than anything that the range of 8 bits was made for
    for y in (x, x / np.abs(x).max(), clipped):
        gap = fast.windows(y) - exact.windows(y)
        assert gap.shape == (1, 4)
        assert (np.abs(gap[:, :3]) < 0.2).all()
        assert (gap[:, :3] != 0).all()
        np.testing.assert_allclose(gap[:, 3], 0, atol=1e-6)


def test_integers_cannot_overflow_on_any_processor() -> None:
    # AVX2 adds two products of an unsigned and a signed byte in 16 bits, and saturates.
    onnx = pytest.importorskip("onnx")
    graph = speech._eight_bits(onnx.load_from_string(WEIGHTS["dnsmos_p835"].read())).graph
    layers = [node for node in graph.node if node.op_type == "QLinearConv"]
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    assert len(layers) == 3
    for layer in layers:
        weights = tensors[layer.input[3]].astype(int)
        assert weights.shape[0] in (32, 64)
        assert np.abs(weights).max() == 63
        assert 2 * 255 * np.abs(weights).max() < 2**15


# --- models as evalsuite has them -----------------------------------------------------------------


@pytest.mark.parametrize("spec", ["dnsmos_fast", "plcmos", "vad"])
def test_a_row_does_not_depend_on_its_company(spec: str, prompts: list[DecodedAudio]) -> None:
    scorer = load_scorer(spec)
    together = scorer.score(prompts[:3])
    alone = np.concatenate([scorer.score([p]) for p in prompts[2::-1]])[::-1]
    np.testing.assert_array_equal(together, alone)
    assert scorer.score([]).shape == (0, len(scorer.scores))


def test_info_is_known_before_loading() -> None:
    for spec in ("dnsmos", "dnsmos_fast", "plcmos", "vad"):
        scorer = load_scorer(spec)
        assert not scorer.loaded
        assert scorer.info.id == spec
        assert scorer.info.modality == "audio"
        assert scorer.info.dim == len(scorer.scores)
        assert len(scorer.info.weights_sha256) == 64
        assert all(a.name == name for name, a in scorer.scores.items())
    assert load_scorer("dnsmos").info.key != load_scorer("dnsmos_fast").info.key


def test_refusals(monkeypatch: pytest.MonkeyPatch, prompts: list[DecodedAudio]) -> None:
    with pytest.raises(ModelError, match="'dnsmos_fast'"):
        load_scorer("nisqa")
    telephone = DecodedAudio(
        prompts[0].samples, 8000, 8000, 1, 1.0, "WAV", "PCM_16", (), prompts[0].samples
    )
    with pytest.raises(ValueError, match="16000 Hz, got 8000"):
        load_scorer("vad").score([telephone])
    wrong = speech.Weights("speechmos", "speechmos", WEIGHTS["plcmos"].file, "0" * 64, "")
    monkeypatch.setitem(WEIGHTS, "plcmos", wrong)
    with pytest.raises(ModelError, match="not the recorded one"):
        load_scorer("plcmos")
    absent = speech.Weights("nowhere", "evalsuite_nowhere", "x.onnx", "0" * 64, "")
    monkeypatch.setitem(WEIGHTS, "plcmos", absent)
    with pytest.raises(ModelError, match="pip install"):
        load_scorer("plcmos")
