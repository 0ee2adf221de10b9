"""Quality of speech: our scorers beside speechmos's own list call, at equal scores.

Prompts from tests/data/speech, and pieces of them joined to longer recordings. Both sides have all
cores: speechmos by its thread pool and onnxruntime's threads, ours by one recording a thread.
Rounds alternate, so that a busy machine slows both. `SHORT=1` runs less of it: three recordings of
each length, one round.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy import stats

from evalsuite.data.audio import DecodedAudio
from evalsuite.encoders.asr import load_transcriber, whisper_folder
from evalsuite.encoders.base import cpu_count
from evalsuite.encoders.media import Scorer
from evalsuite.encoders.speech import load_audio_encoder, load_scorer, whisper_mel
from evalsuite.encoders.text import load_text_encoder

from ._machine import machine, write

RATE = 16_000
SPEECH = Path(__file__).parents[1] / "tests" / "data" / "speech"
NAMES = ["dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808"]


def recordings(short: bool) -> dict[str, list[np.ndarray]]:
    read = [soundfile.read(path, dtype="float32") for path in sorted(SPEECH.glob("*.wav"))]
    prompts = [np.clip(soxr.resample(x, rate, RATE), -1, 1) for x, rate in read]
    joined = np.concatenate(prompts * 3)
    sets = {
        "prompts, 1 to 5 s": prompts,
        "6 s": [joined[k * RATE : (k + 6) * RATE] for k in range(0, 24, 6)],
        "12 s": [joined[k * RATE : (k + 12) * RATE] for k in range(0, 36, 12)],
        "15 s": [joined[k * RATE : (k + 15) * RATE] for k in range(0, 45, 15)],
    }
    return {name: xs[:3] for name, xs in sets.items()} if short else sets


def seconds_of(work: object) -> tuple[float, float]:
    """Time a call: on the clock, and of all processors."""
    start, used = time.perf_counter(), time.process_time()
    with contextlib.redirect_stderr(io.StringIO()):
        work()  # type: ignore[operator]
    return time.perf_counter() - start, time.process_time() - used


def differences(exact: Scorer[DecodedAudio], fast: Scorer[DecodedAudio]) -> list[str]:
    """Compare the fast mode with the exact one, on every prompt as it is and with noise."""
    rng = np.random.default_rng(0)
    prompts = next(iter(recordings(short=False).values()))
    items = [decoded(x) for x in prompts]
    for snr in (20, 10):
        for x in prompts:
            noise = rng.normal(0, np.sqrt(np.mean(x**2) / 10 ** (snr / 10)), len(x))
            items.append(decoded((x + noise).astype(np.float32)))
    ours, near = exact.score(items)[:, 1:], fast.score(items)[:, 1:]
    graded = np.isfinite(ours).all(axis=1)
    found = []
    for k, name in enumerate(NAMES):
        a, b = ours[graded, k], near[graded, k]
        found.append(
            f"| `{name}` | {graded.sum()} | {a.std():.2f} | {(b - a).mean():+.3f} | "
            f"{np.sqrt(((b - a) ** 2).mean()):.3f} | {np.abs(b - a).max():.3f} | "
            f"{stats.spearmanr(a, b).statistic:.3f} |"
        )
        print(found[-1], flush=True)
    return found


def decoded(x: np.ndarray) -> DecodedAudio:
    return DecodedAudio(x, RATE, RATE, 1, len(x) / RATE, "WAV", "FLOAT", (), x)


def kept(samples: np.ndarray) -> bool:
    """Say whether speechmos grades all windows: it drops those whose product rounds down."""
    n = len(samples)
    while n < 144_160:
        n *= 2
    return all(int((k + 9.01) * RATE) - k * RATE == 144_160 for k in range(max(1, n // RATE - 9)))


def bare(rounds: int) -> list[str]:
    """Time what we add around a forward pass: decoded sound or text in, transcript or features out.

    The other side is the same library with the same settings, and has its input made ready.
    """
    import ctranslate2
    from faster_whisper import WhisperModel

    read = [soundfile.read(path, dtype="float32") for path in sorted(SPEECH.glob("*.wav"))]
    prompts = [np.clip(soxr.resample(x, rate, RATE), -1, 1) for x, rate in read][:6]
    items = [decoded(x) for x in prompts]
    cores = cpu_count()
    folder = str(whisper_folder(None))
    peer = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=cores)
    options = {
        "language": "en", "beam_size": 5, "temperature": 0.0, "condition_on_previous_text": False,
        "without_timestamps": True,
    }  # fmt: skip
    ours = load_transcriber()
    encoder, sentences = load_audio_encoder("whisper_base_encoder"), load_text_encoder()
    states = ctranslate2.models.Whisper(
        folder, device="cpu", compute_type="int8", inter_threads=cores, intra_threads=1
    )
    mels = [
        ctranslate2.StorageView.from_array(whisper_mel(np.resize(x, 10 * RATE))[None])
        for x in prompts
    ]
    texts = [f"All circuits are busy now, please try again in {i} minutes." for i in range(400)]
    for model in (ours, encoder, sentences):
        model.load()
    rows = sentences._tokens(texts)[0]  # what is timed is all but this and the batches
    width = next(b for b in (8, 16, 24, 32) if b >= max(map(len, rows)))

    def states_of() -> None:
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(lambda mel: states.encode(mel, to_cpu=True), mels))

    jobs = {
        "`whisper_base` transcribes 6 prompts": (
            lambda: [list(peer.transcribe(x, **options)[0]) for x in prompts],
            lambda: ours.transcribe(items, language="en"),
        ),
        "`whisper_base_encoder`, 6 prompts": (states_of, lambda: encoder.embed(items)),
        "`minilm_l6`, 400 sentences": (
            lambda: [sentences._forward(rows[i : i + 8], width) for i in range(0, 400, 8)],
            lambda: sentences.embed(texts),
        ),
    }
    found = []
    for name, (theirs, own) in jobs.items():
        theirs()  # what is built at the first call is not timed
        own()
        times = np.array([[seconds_of(theirs), seconds_of(own)] for _ in range(rounds)])
        middle = np.median(times, axis=0)[:, 0]
        clock, used = np.median(times[:, 1] / times[:, 0], axis=0)
        found.append(
            f"| {name} | {middle[0]:.2f} s | {middle[1]:.2f} s | {clock:.2f} | {used:.2f} |"
        )
        print(found[-1], flush=True)
    return found


def main() -> None:
    from speechmos import dnsmos, plcmos

    short = bool(os.environ.get("SHORT"))
    rounds = 1 if short else 3
    exact, fast, plc = (load_scorer(s) for s in ("dnsmos", "dnsmos_fast", "plcmos"))
    encoders = [load_audio_encoder(s) for s in ("whisper_base_encoder", "ge2e", "logmel_stats")]
    for model in (exact, fast, plc, *encoders):
        model.load()
    rows, others = [], []
    for name, xs in recordings(short).items():
        items, total = [decoded(x) for x in xs], sum(map(len, xs)) / RATE
        theirs = dnsmos.run(xs, RATE)  # loads its models, too
        ours, near = exact.score(items)[:, 1:], fast.score(items)[:, 1:]
        columns = theirs[["sig_mos", "bak_mos", "ovrl_mos", "p808_mos"]].to_numpy()
        whole = [kept(x) for x in xs]
        gap = np.abs(ours - columns)[whole].max()
        times = np.array(
            [
                [
                    seconds_of(lambda: dnsmos.run(xs, RATE)),  # noqa: B023 - called here and now
                    seconds_of(lambda: exact.score(items)),  # noqa: B023
                    seconds_of(lambda: fast.score(items)),  # noqa: B023
                ]
                for _ in range(rounds)
            ]
        )
        peer, own, quick = np.median(times, axis=0)[:, 0]
        gain = np.median(times[:, :1] / times[:, 1:], axis=0)
        rows.append(
            f"| {name} | {len(xs)} | {peer / total:.3f} | {own / total:.3f} | {gain[0, 0]:.1f} | "
            f"{gain[0, 1]:.1f} | {gap:.1e} ({sum(whole)} of {len(xs)}) | {quick / total:.3f} | "
            f"{gain[1, 0]:.1f} | {gain[1, 1]:.1f} | {np.abs(near - ours).max():.3f} |"
        )
        print(rows[-1], flush=True)
        peer = seconds_of(lambda: plcmos.run(xs, RATE))[0]  # noqa: B023
        own = seconds_of(lambda: plc.score(items))[0]  # noqa: B023
        others.append(
            f"| {name} | {peer / total:.4f} | {own / total:.4f} | {peer / own:.1f} | "
            + " | ".join(
                f"{seconds_of(lambda: e.embed(items))[0] / total:.4f}"  # noqa: B023
                for e in encoders
            )
            + " |"
        )
    apart = differences(exact, fast)
    around = bare(max(rounds, 3))
    text = f"""# Speech models: time for a second of speech

Seconds of computing for a second of speech (real-time factor), all cores on both sides, median of
{rounds} round{"s" * (rounds > 1)} that alternate. The gain is theirs over ours, on the clock and in
the time of all processors (where waiting threads count that onnxruntime keeps busy). The scores of
speechmos and of `dnsmos` differ by no more than the largest difference given, over the recordings
in which speechmos grades every window; it drops some where a repeated recording passes 16 s
(docs/audio.md), which also saves it their time.

| recordings | n | speechmos list call | `dnsmos` | gain | of processors | largest difference \
| `dnsmos_fast` | gain | of processors | largest difference |
|---|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

Goals: `dnsmos` 1.5 times, `dnsmos_fast` 3 times as fast as speechmos. `dnsmos_fast` runs the widest
layers of P.835 in integers of 8 bits, and grades two windows at most of a recording under 9.01 s.
How far it is from `dnsmos`, on the prompts as they are and with white noise at 20 and 10 dB:

| score | n | its spread (sd) | mean difference | RMS | largest | rank correlation |
|---|---|---|---|---|---|---|
{chr(10).join(apart)}

| recordings | speechmos PLCMOS | `plcmos` | gain | `whisper_base_encoder` | `ge2e` \
| `logmel_stats` |
|---|---|---|---|---|---|---|
{chr(10).join(others)}

What is added around the forward pass, in {max(rounds, 3)} turns (goal: at most 1.3 times). The
bare side has the same library and settings, and its input (spectra, tokens) made ready; for
transcripts it is faster-whisper's own call.

| work | bare | ours | ratio | of processors |
|---|---|---|---|---|
{chr(10).join(around)}

Made by `{"SHORT=1 " * short}python -m benchmarks speech` on {machine()}.
"""
    write("performance/speech.md", text)


if __name__ == "__main__":
    main()
