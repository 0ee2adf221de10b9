"""Does correction help speech, and does the tool say so when it does not? On human prompts.

One speaker's telephone prompts are the real set. The synthetic sets have other prompts: hers,
damaged, or spoken by two synthesisers. The first run has sentences, and the label is whether the
caller is to press, enter or dial something. The second has prompts that the first had not, most of
them of one word, and the label is whether it is one word or several.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import soundfile
from scipy import signal

from evalsuite.data import open_dataset
from evalsuite.generators import Audio, Identity, Item, generate_folder, items_of, produce
from evalsuite.generators.audio.effects import AddNoise, BandLimit
from evalsuite.generators.audio.speech import Speak, SpeakFlite

from ._machine import machine, write
from .correction import BY_CLASSES, JUDGED, below, judged, table, written
from .speech_study import SOUNDS, prompts

REAL, SYNTHETIC = 120, 60
LONGEST = 8.0
ASKS = re.compile(r"\b(press|enter|dial)\b", re.IGNORECASE)
JUDGES = {"encoders": {"audio": ("logmel_stats",)}, "scorers": {}}
PROBED = "whisper_base_encoder"


Prompt: TypeAlias = tuple[str, str, str]
"""Name, text and label."""


def _usable(words: int, shortest: float) -> list[tuple[str, str]]:
    return [
        (name, text)
        for name, text in prompts(words)
        if not text.startswith("(")
        and shortest <= soundfile.info(SOUNDS / f"{name}.wav").duration <= LONGEST
    ]


def sentences() -> list[Prompt]:
    """Prompts of three words or more and of 1 to 8 s."""
    listed = _usable(3, 1.0)
    order = np.random.default_rng([2, 0]).permutation(len(listed))[: REAL + SYNTHETIC]
    return [
        (name, text, "asks" if ASKS.search(text) else "tells")
        for name, text in (listed[i] for i in order)
    ]


def others() -> list[Prompt]:
    """Prompts of 0.5 to 8 s that the first run had not."""
    had = {name for name, _, _ in sentences()}
    listed = [(name, text) for name, text in _usable(1, 0.5) if name not in had]
    order = np.random.default_rng([2, 1]).permutation(len(listed))[: REAL + SYNTHETIC]
    return [
        (name, text, "word" if len(text.split()) == 1 else "words")
        for name, text in (listed[i] for i in order)
    ]


@dataclass(frozen=True)
class Page:
    """A run and what is said of it."""

    name: str
    run: int
    title: str
    about: str
    dealt: Callable[[], list[Prompt]]


PAGES = (
    Page(
        "speech",
        0,
        "Correction on speech",
        "of 1 to 8 s and three words or more. The label says whether a prompt asks to press, enter "
        "or dial something.",
        sentences,
    ),
    Page(
        "speech-again",
        1,
        "Correction on speech, labels judged by classes",
        "of 0.5 to 8 s, none of which the [first run](speech.md) had; the label says whether it is "
        f"one word or several. Each case was made once. {BY_CLASSES}",
        others,
    ),
)


def folder(path: Path, items: list[Prompt]) -> Path:
    path.mkdir(parents=True)
    rows = []
    for name, _, label in items:
        file = name.replace("/", "_") + ".wav"
        shutil.copyfile(SOUNDS / f"{name}.wav", path / file)
        rows.append(json.dumps({"file_name": file, "label": label}))
    (path / "metadata.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return path


def _changed(item: Item, samples: np.ndarray, rate: int) -> Item:
    return Item(id=item.id, audio=Audio(samples.astype(np.float32), rate), label=item.label)


def quiet_and_dull(item: Item, seed: int) -> Item:  # noqa: ARG001 - draws nothing
    """20 dB quieter, and heard through a first-order low-pass: nothing is lost."""
    audio = item.value(Identity("audio").input)
    b, a = signal.butter(1, 1200, fs=audio.rate)
    return _changed(item, 0.1 * signal.lfilter(b, a, audio.samples.astype(float)), audio.rate)


def bad_line(item: Item, seed: int) -> Item:
    """A band of 300 to 2000 Hz, noise at 15 dB, and 12 dB quieter: what is lost is lost."""
    for operation in (BandLimit(low_hz=300.0, high_hz=2000.0), AddNoise(snr_db=15.0)):
        audio, _ = produce(operation, item, seed=seed)
        item = _changed(item, audio.samples, audio.rate)
    audio = item.value(Identity("audio").input)
    return _changed(item, 0.25 * audio.samples, audio.rate)


DAMAGED = {"quiet and dull": quiet_and_dull, "bad line": bad_line}
SPOKEN = {"espeak-ng": lambda: Speak(voices=("en-us+f3",)), "flite": SpeakFlite}
WHAT = {
    "quiet and dull": "her own prompts, 20 dB quieter, through a first-order low-pass at 1.2 kHz",
    "espeak-ng": "the same texts spoken by espeak-ng (en-us+f3)",
    "bad line": "her own prompts, 300 to 2000 Hz, noise at 15 dB, 12 dB quieter",
    "flite": "the same texts spoken by flite (slt, a recorded woman's voice)",
}


def made(case: str, source: list[Prompt], where: Path, seed: int) -> Path:
    """Write a synthetic set."""
    if case in DAMAGED:
        clean = folder(where.with_name("clean"), source)
        items = [DAMAGED[case](i, seed) for i in items_of(open_dataset(clean))]
        report = generate_folder(Identity("audio"), items, where, seed=seed)
    else:
        speaker = SPOKEN[case]()
        texts = [Item(id=n.replace("/", "_"), text=t, label=of) for n, t, of in source]
        report = generate_folder(speaker, texts, where, seed=seed)
    if report.failures:
        raise RuntimeError(f"{case}: {report.failures[0]}")
    return where


def main() -> None:
    if not SOUNDS.is_dir() or shutil.which("flite") is None:
        print(f"not run: needs {SOUNDS} (asterisk-core-sounds-en-wav) and flite", file=sys.stderr)
        return
    for page in PAGES:
        study(page)


def study(page: Page) -> None:
    """Make the run of a page, and write it down."""
    dealt = page.dealt()
    rows, details = [], []
    with tempfile.TemporaryDirectory() as tmp:
        home = Path(tmp)
        real = folder(home / "real", dealt[:REAL])
        for case, what in WHAT.items():
            print(f"-- {page.name}, {case}", flush=True)
            synthetic = made(case, dealt[REAL:], home / case / "synthetic", page.run)
            row, summary = judged(
                real,
                synthetic,
                home / case / "out",
                using=("auto",),
                modality="audio",
                seed=page.run,
                facts={"case": case, "what": what, "run": page.run},
                changed=JUDGES,
                probed=PROBED,
            )
            rows.append(row)
            details.append(below(summary, f"{case}, run {page.run}"))
            # After each case: what is measured must not be lost.
            written(rows, page.name)
            write(f"correction/{page.name}.md", _page(page, rows, details))


def _page(page: Page, rows: list[dict[str, str]], details: list[str]) -> str:
    encoders = [k.removeprefix("kid ") for k in rows[0] if k.startswith("kid ")]
    lines = [
        f"# {page.title}",
        "",
        f"{REAL} prompts of one professional speaker (asterisk-core-sounds-en-wav, 8 kHz) are the "
        "real set, dealt into a half to fit on and a half to judge on; the synthetic sets have "
        f"{SYNTHETIC} others: {page.about} The default policy is used with `logmel_stats` for its "
        "encoder and without grades of quality or transcripts; the probe hears the label by "
        f"`{PROBED}`, which nothing was fitted or judged by.",
        "",
        JUDGED,
        "",
        *(f"- {case}: {what}" for case, what in WHAT.items()),
        "",
        *table(
            rows,
            {
                "case": "case",
                "run": "run",
                "blamed": "what the report blames (real sd)",
                "applied": "applied",
                "gate": "gate",
                **{f"kid {e}": f"KID gap, {e}" for e in encoders if e != "second look"},
                "kid second look": "KID gap, second look",
                "verdict": "the tool says",
            },
        ),
        "What a probe of the labels learns from the set:",
        "",
        *table(
            rows,
            {
                "case": "case",
                "run": "run",
                "linear before": "trained on it, linear",
                "linear after": "after",
                "linear change": "change",
                "linear real": "on the real calibration half",
                "knn before": "trained on it, k-NN",
                "knn after": "after",
                "knn change": "change",
            },
        ),
        *(f"- {r['case']}, run {r['run']}: {r['verdict']}. {r['why']}." for r in rows),
        "",
        *details,
        f"Made by `python -m benchmarks correction_speech` on {machine()}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    for asked in PAGES:
        if asked.name in sys.argv[1:]:
            study(asked)
