"""Does the naturalness gap put a person before flite, espeak-ng and damaged speech?

Recorded prompts of one speaker (asterisk-core-sounds-en-wav: 8 kHz), half of them as the real set.
The other half's texts are then spoken by her, by flite and by espeak-ng, and her recordings are
damaged. Everything is taken to 8 kHz, to the same level and the same pauses at the ends, so that
neither the band, nor the level, nor the padding decides.

flite and espeak-ng must be installed; the prompts are read from /usr/share/asterisk/sounds.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from evalsuite.data.audio import DecodedAudio
from evalsuite.encoders.speech import load_audio_encoder, load_scorer
from evalsuite.metrics.audio.naturalness import naturalness_gap, prosody_features

from ._machine import machine, write

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
PROMPTS = 60  # the longest under 8 s; half of them are the real set
RATE = 8000
SHUFFLES = 20
SYSTEMS = {
    "person": "the same speaker, other sentences",
    "flite slt": "flite, voice slt (a woman, statistical parametric)",
    "flite kal16": "flite, voice kal16 (a man, diphones)",
    "espeak-ng": "espeak-ng, voice en-us (formants)",
    "person, 10 dB noise": "her recordings with white noise at 10 dB",
    "espeak-ng, 5 dB noise": "espeak-ng with white noise at 5 dB",
    "person, shuffled": "her recordings, cut into 0.15 s pieces in random order",
}


def prompts() -> dict[str, tuple[np.ndarray, str]]:
    lines = gzip.decompress(TEXTS.read_bytes()).decode("utf-8", "replace").splitlines()
    texts = dict(line.split(": ", 1) for line in lines if ": " in line and line[0] != ";")
    found = {}
    for name, text in texts.items():
        path = SOUNDS / f"{name}.wav"
        if "[" in text or not path.exists():
            continue
        samples, rate = soundfile.read(path)
        if rate == RATE and len(samples) < 8 * RATE:
            found[name] = (samples, text)
    longest = sorted(found, key=lambda n: -len(found[n][0]))[:PROMPTS]
    return {name: found[name] for name in sorted(longest)}


def spoken(command: list[str], text: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        filled = [part.format(path=path, text=text) for part in command]
        subprocess.run(filled, check=True, capture_output=True)
        samples, rate = soundfile.read(path)
    return soxr.resample(samples, rate, RATE)


def levelled(x: np.ndarray) -> np.ndarray:
    """Cut the silence at the ends, set the level, add the noise of a quiet converter."""
    power = np.convolve(x**2, np.ones(160) / 160, "same")
    at = np.flatnonzero(power > power.max() * 1e-4)
    x = x[at[0] : at[-1] + 1]
    x = np.pad(x * 0.06 / np.sqrt(np.mean(x**2)), RATE // 10)
    return x + np.random.default_rng(0).normal(0, 10 ** (-65 / 20), len(x))


def noisy(x: np.ndarray, snr: float) -> np.ndarray:
    sigma = np.sqrt(np.mean(x**2) / 10 ** (snr / 10))
    return x + np.random.default_rng(1).normal(0, sigma, len(x))


def shuffled(x: np.ndarray) -> np.ndarray:
    size = int(0.15 * RATE)
    pieces = [x[k : k + size] * np.hanning(size) ** 0.25 for k in range(0, len(x) - size + 1, size)]
    np.random.default_rng(2).shuffle(pieces)
    return np.concatenate(pieces)


def decoded(x: np.ndarray) -> DecodedAudio:
    wide = soxr.resample(x, RATE, 16000).astype(np.float32)
    native = x.astype(np.float32)
    return DecodedAudio(wide, 16000, RATE, 1, len(x) / RATE, "WAV", "FLOAT", (), native)


def main() -> None:
    missing = [p for p in ("flite", "espeak-ng") if shutil.which(p) is None]
    if missing or not SOUNDS.is_dir():
        print(f"not run: needs {', '.join(missing) or SOUNDS}", file=sys.stderr)
        return
    items = prompts()
    names = list(items)
    clips: dict[str, list[np.ndarray]] = {"person": [levelled(items[n][0]) for n in names]}
    for system, command in (
        ("flite slt", ["flite", "-voice", "slt", "-t", "{text}", "-o", "{path}"]),
        ("flite kal16", ["flite", "-voice", "kal16", "-t", "{text}", "-o", "{path}"]),
        ("espeak-ng", ["espeak-ng", "-v", "en-us", "-w", "{path}", "{text}"]),
    ):
        clips[system] = [levelled(spoken(command, items[n][1])) for n in names]
    clips["person, 10 dB noise"] = [noisy(x, 10) for x in clips["person"]]
    clips["espeak-ng, 5 dB noise"] = [noisy(x, 5) for x in clips["espeak-ng"]]
    clips["person, shuffled"] = [shuffled(x) for x in clips["person"]]
    print("spoken", flush=True)
    prosody = {s: np.array([prosody_features(x, RATE) for x in xs]) for s, xs in clips.items()}
    whisper, fast = load_audio_encoder("whisper_base_encoder"), load_scorer("dnsmos_fast")
    states, grades = {}, {}
    for system, xs in clips.items():
        states[system] = whisper.embed([decoded(x) for x in xs])
        grades[system] = np.nanmean(fast.score([decoded(x) for x in xs[::8]])[:, 3])
        print(system, flush=True)
    rng = np.random.default_rng(0)
    draws: dict[str, list[tuple[float, ...]]] = {s: [] for s in clips}
    ordered = {"all": 0, "prosody": 0}
    chain = ("person", "flite slt", "espeak-ng", "espeak-ng, 5 dB noise")
    first = {}
    for shuffle in range(SHUFFLES):
        order = rng.permutation(len(names))
        a, b = order[: len(names) // 2], order[len(names) // 2 :]
        for system in clips:
            got = naturalness_gap(
                prosody["person"][a],
                prosody[system][b],
                embeddings={"whisper": (states["person"][a], states[system][b])},
                B=99 if shuffle else 499,
            )
            draws[system].append((got.value, got.views["prosody"], got.views["whisper"], got.ratio))
            if shuffle == 0:
                first[system] = got
        for k, kind in enumerate(ordered):
            run = [draws[s][-1][k] for s in chain]
            ordered[kind] += run == sorted(run)
    rows = []
    for system, what in SYSTEMS.items():
        got, mean = first[system], np.mean(draws[system], axis=0)
        top = ", ".join(f"{s.name} {s.shift:+.1f}" for s in got.shifts[:3])
        rows.append(
            f"| {system} | {what} | {got.value:.3f} ({got.ci.low:.3f} to {got.ci.high:.3f}) "
            f"| {got.ratio:.1f} | {got.p_value:.3f} | {mean[0]:.3f} | {mean[1]:.3f} "
            f"| {mean[2]:.3f} | "
            f"{grades[system]:.2f} | {top} |"
        )
    half = len(names) // 2
    text = f"""# Naturalness: the order of systems

{len(names)} prompts of one professional speaker (asterisk-core-sounds-en-wav, 8 kHz). {half} of
them are the real set; each system speaks, or damages, the other {len(names) - half}. All are at
8 kHz, at one level, with 0.1 s of silence at the ends and noise at −65 dBFS. The gap is the mean of
two views, prosody and the states of Whisper's encoder; the first split is given with its 95 %
interval, its ratio to the floor and its p-value (499 relabellings); then means over {SHUFFLES}
random splits, of the gap and of each view.

| system | what it is | gap, first split | ratio | p | gap, mean | prosody | whisper \
| DNSMOS OVRL | shifted most, sd |
|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

The order {" < ".join(chain)} held in {ordered["all"]} of {SHUFFLES} splits by the gap of both
views, and in {ordered["prosody"]} of {SHUFFLES} by prosody alone.

What this does not show: the real set has one speaker, and the systems have other voices; a part of
each gap is the voice. No listener graded these clips, so the order within flite's voices is not a
finding. A neural voice that copies a person's prosody may lie within the floor and still sound
wrong to a listener. The gap does not tell damage from synthesis: a person in noise at 10 dB is as
far as a synthetic voice, so read it beside the SNR. DNSMOS is beside it to show why it is not used
for this: it grades noise and codecs (here over 8 clips), and puts espeak-ng over flite slt.

Made by `python -m benchmarks naturalness` on {machine()}.
"""
    write("speech/naturalness.md", text)


if __name__ == "__main__":
    main()
