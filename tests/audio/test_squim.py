"""SQUIM: our network against torchaudio's, with weights that a formula gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evalsuite.data.audio import DecodedAudio, decode_audio
from evalsuite.data.dataset import Limits
from evalsuite.encoders import speech
from evalsuite.encoders.speech import load_scorer
from evalsuite.errors import ModelError

torch = pytest.importorskip("torch")

SPEECH = Path(__file__).parents[1] / "data" / "speech"
# Of torchaudio 2.11's squim_objective_base with the weights below, in torch 2.15, on the beginnings
# of two prompts; published weights are nowhere in a wheel.
TORCHAUDIO_S = {
    ("all-circuits-busy-now", 16_000): (0.499043, 2.571727, 0.352369),
    ("all-circuits-busy-now", 5_000): (0.516298, 2.423354, 0.500839),
    ("dir-nomatch", 16_000): (0.489444, 2.564686, 0.366409),
}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Give weights that do not depend on the version of torch."""
    from evalsuite.encoders.squim import Squim

    made = {}
    for k, (name, tensor) in enumerate(sorted(Squim().state_dict().items())):
        drawn = np.random.RandomState(k).standard_normal(tuple(tensor.shape))
        if tensor.ndim > 1:
            drawn /= np.sqrt(tensor[0].numel())
        else:
            drawn = 0.1 * drawn + ("norm" in name and name.endswith("weight"))
        made[name] = torch.from_numpy(drawn).float()
    return made


def recording(samples: np.ndarray) -> DecodedAudio:
    x = samples.astype(np.float32)
    return DecodedAudio(x, 16_000, 16_000, 1, len(x) / 16_000, "WAV", "FLOAT", (), x)


def prompt(name: str) -> np.ndarray:
    return decode_audio((SPEECH / f"{name}.wav").read_bytes(), Limits()).samples


def test_scores_are_torchaudio_s(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    from evalsuite.encoders.squim import Squim

    assert sum(v.numel() for v in state.values()) * 4 == 29_550_632  # as its published file
    network = Squim().eval()
    network.load_state_dict(state)
    for (name, n), theirs in TORCHAUDIO_S.items():
        with torch.inference_mode():
            ours = network(torch.from_numpy(prompt(name)[:n]))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_it_grades_speech_only_and_long_recordings_in_pieces(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    monkeypatch.setattr(speech._SquimFile, "_LONGEST", 16_000)
    save_file(state, tmp_path / "squim.safetensors")
    torch.save(state, tmp_path / "squim.pth")
    scorer = load_scorer(f"squim/{tmp_path / 'squim.safetensors'}")
    assert list(scorer.scores) == ["squim_stoi", "squim_pesq", "squim_si_sdr"]
    x = prompt("dir-nomatch")[4_000:28_000]
    halves = [recording(x[:12_000]), recording(x[12_000:])]
    # A piece without a sample that is not zero has no level to be brought to.
    gap = recording(np.concatenate((np.zeros(12_000), x[:12_000])))
    whole, silent, first, second, after = scorer.score(
        [recording(x), recording(np.zeros(16_000)), *halves, gap]
    )
    np.testing.assert_allclose(whole, (first + second) / 2, atol=1e-6)
    assert np.isnan(silent).all()
    # Not to the bit: where an array lies in memory may change the order of its sums.
    np.testing.assert_allclose(after, first, atol=1e-6)
    other = load_scorer(f"squim/{tmp_path / 'squim.pth'}")
    np.testing.assert_allclose(other.score(halves[:1])[0], first, atol=1e-6)


def test_other_files_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ModelError, match=r"none\.pth"):
        load_scorer(f"squim/{tmp_path / 'none.pth'}")
    path = tmp_path / "squim.pth"
    torch.save({k: v for k, v in state.items() if "branches.2" not in k}, path)
    with pytest.raises(ModelError, match=r"no weights of torchaudio's squim_objective_base.*onnx/"):
        load_scorer(f"squim/{path}").load()
    torch.save(Path("code"), path)  # a pickled object
    with pytest.raises(ModelError, match="no weights of torchaudio's"):
        load_scorer(f"squim/{path}").load()
