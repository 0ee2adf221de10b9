"""The gate on speech: a person against herself, against noise, 8 bits, and espeak-ng.

The same sentences each time, by `run_gate` with the default policy: what a user gets. Prompts of
one speaker with their transcripts (Debian's asterisk-core-sounds-en-wav) are the real set; the
others are made from it by this project's generators.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite.data import open_dataset
from evalsuite.gate.findings import Finding, GateResult
from evalsuite.generators import generate_folder, items_of
from evalsuite.generators.audio.effects import AddNoise, BitCrush
from evalsuite.generators.audio.speech import Speak
from evalsuite.pipeline.run import run_gate
from evalsuite.pipeline.ties import FLOOR_CLIPS

from ._machine import machine, write

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
PROMPTS = 50
ENCODERS = ("whisper_base_encoder", "logmel_stats")
GRADES = ("dnsmos_ovrl", "dnsmos_bak", "dnsmos_sig", "dnsmos_p808")
DISTANCES = ("frechet_distance", "kid", "mmd_rbf", "coverage")
MADE = {
    "8 bits": BitCrush(bits=8),
    "noise 20 dB": AddNoise(snr_db=20),
    "noise 10 dB": AddNoise(snr_db=10),
    "noise 0 dB": AddNoise(snr_db=0),
    "espeak-ng": Speak(),
}
LADDER = ("the same", "noise 20 dB", "noise 10 dB", "noise 0 dB")


def prompts(words: int = 3) -> list[tuple[str, str]]:
    """Names and texts of the recordings with so many words or more, in a random order."""
    texts = {}
    for line in gzip.decompress(TEXTS.read_bytes()).decode("latin-1").splitlines():
        found = re.match(r"^([\w/-]+): ([^\[].+)$", line.strip())
        if found and len(found[2].split()) >= words and (SOUNDS / f"{found[1]}.wav").is_file():
            texts[found[1]] = found[2]
    listed = sorted(texts.items())
    return [listed[i] for i in np.random.default_rng(0).permutation(len(listed))]


def folder(path: Path, items: list[tuple[str, str]]) -> Path:
    path.mkdir()
    rows = []
    for name, text in items:
        file = name.replace("/", "_") + ".wav"
        shutil.copyfile(SOUNDS / f"{name}.wav", path / file)
        rows.append(json.dumps({"file_name": file, "transcript": text}))
    (path / "metadata.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return path


def one(result: GateResult, metric: str, modality: str, encoder: str | None = None) -> Finding:
    (found,) = [
        f
        for f in result.findings
        if (f.metric, f.modality) == (metric, modality) and encoder in (None, f.encoder)
    ]
    return found


def span(finding: Finding) -> str:
    if finding.gap is None or finding.gap_ci is None:
        return "not measured"
    return f"{finding.gap:.3f} ({finding.gap_ci.low:.3f} to {finding.gap_ci.high:.3f})"


def facts(name: str, result: GateResult) -> dict[str, Any]:
    """What the study shows of one run, flat."""
    wer = one(result, "wer_gap", "audio+text")
    natural = one(result, "naturalness", "audio")
    row: dict[str, Any] = {
        "set": name,
        "verdict": result.verdict.value,
        "n": result.synthetic.n_used,
        "wer": wer.value,
        "wer_real": wer.details["real"],
        "wer_text": span(wer),
        "wer_p": wer.p_adjusted,
        "floor_change": wer.details.get("floor_change"),
        "floor_p": wer.details.get("floor_p"),
        "naturalness": natural.gap,
        "naturalness_text": span(natural),
        "naturalness_p": natural.p_value,
    }
    for grade in GRADES:
        found = one(result, grade, "audio")
        row[grade] = found.details["synthetic_mean"]
        row[f"{grade}_real"] = found.details["real_mean"]
        row[f"{grade}_n"] = found.n_synthetic
    for encoder in ENCODERS:
        for metric in DISTANCES:
            found = one(result, metric, "audio", encoder)
            key = f"{encoder}_{metric}"
            row |= {key: found.gap, f"{key}_text": span(found), f"{key}_p": found.p_adjusted}
    audio = {f.metric for f in result.findings if f.kind == "attribute" and f.modality == "audio"}
    blamed = [m for m in result.explanations if m.params.get("attribute") in audio]
    row["blamed"] = "; ".join(
        f"{m.params['attribute']} {m.params['real_mean']:.3g} → {m.params['synthetic_mean']:.3g}"
        f"{' ' + str(m.params['unit']) if m.params['unit'] else ''}"
        for m in blamed[:3]
    )
    return row


def falls(rows: dict[str, dict[str, Any]], key: str, sign: int) -> str:
    """Say whether a number is in order over the ladder of noise, and which step is not."""
    values = [(name, sign * float(rows[name][key])) for name in LADDER]
    wrong = [f"{a} to {b}" for (a, x), (b, y) in pairwise(values) if y <= x]
    shown = " → ".join(f"{sign * v:.3f}" for _, v in values)
    return f"{shown}: {'in order' if not wrong else 'NOT in order at ' + ', '.join(wrong)}"


def main() -> None:
    if not SOUNDS.is_dir():
        print(f"not run: needs {SOUNDS} (asterisk-core-sounds-en-wav)", file=sys.stderr)
        return
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as tmp:
        home = Path(tmp)
        items = prompts()
        real = folder(home / "real", items[:PROMPTS])
        # 60 on, for `the others` are then the same whatever PROMPTS is.
        sets = {"other sentences": folder(home / "other", items[60 : 60 + PROMPTS])}
        given = items_of(open_dataset(real))
        for name, operation in MADE.items():
            out = home / name.replace(" ", "-")
            report = generate_folder(operation, given, out, seed=0)
            if report.failures:
                raise RuntimeError(f"{name}: {report.failures[0]}")
            sets[name] = out
        for name, path in sets.items():
            rows[name] = facts(name, run_gate(real, path, progress=False).result)
            print(rows[name], flush=True)
    first = next(iter(rows.values()))
    # What the real set itself has is in every result: the top of the ladder.
    same = {grade: first[f"{grade}_real"] for grade in GRADES} | {"wer": first["wer_real"]}
    ladder = {**rows, "the same": same}
    measured = [
        " | ".join(
            [
                f"| {r['set']}",
                r["verdict"],
                *(f"{r[g]:.2f}" for g in GRADES),
                f"{r['wer']:.3f}",
                r["wer_text"],
                *(r[f"{encoder}_kid_text"] for encoder in ENCODERS),
                r["naturalness_text"],
                f"{r['blamed'] or 'nothing'} |",
            ]
        )
        for r in rows.values()
    ]
    head = (
        "synthetic set", "verdict", "OVRL", "BAK", "SIG", "P.808", "WER", "WER gap",
        "KID gap, whisper", "KID gap, log-mel", "naturalness gap", "the report blames first",
    )  # fmt: skip
    top = ["(the real set)", "", *(f"{same[g]:.2f}" for g in GRADES), f"{same['wer']:.3f}"]
    seen = [
        f"| {name} | "
        + " | ".join(
            ", ".join(m for m in DISTANCES if row[f"{encoder}_{m}_p"] <= 0.05) or "none"
            for encoder in ENCODERS
        )
        + " |"
        for name, row in rows.items()
    ]
    graded = ", ".join(f"{r['set']} {r['dnsmos_ovrl_n']}" for r in rows.values())
    artefact = "; ".join(
        f"{r['set']} {r['floor_change']:+.3f} (p {r['floor_p']:.2f})" for r in rows.values()
    )
    text = f"""# The gate on speech

{PROMPTS} prompts of one professional speaker (asterisk-core-sounds-en-wav, 8 kHz, 16 bit) with
their transcripts are the real set. Against it: {PROMPTS} other prompts of hers; the same prompts at
8 bits, and with white noise; espeak-ng speaking the same sentences (voice en-us, rate and pitch
drawn). Each row is one `evalsuite gate` with the default policy. Gaps have 95 % intervals. The
tolerance is 0.05 for KID (a share of the real variance) and 0.05 for the WER gap (errors per word).
A recogniser that gives up in noise invents words, so that the WER may exceed 1.

| {" | ".join(head)} |
{"|---" * len(head)}|
| {" | ".join(top)} | | | | | |
{chr(10).join(measured)}

Down the ladder of noise (clean, 20, 10, 0 dB):

- OVRL {falls(ladder, "dnsmos_ovrl", -1)}
- BAK {falls(ladder, "dnsmos_bak", -1)}
- SIG {falls(ladder, "dnsmos_sig", -1)}
- P.808 {falls(ladder, "dnsmos_p808", -1)}
- WER {falls(ladder, "wer", 1)}

Distances with an adjusted p at or under 0.05, of {", ".join(DISTANCES)}:

| synthetic set | whisper_base_encoder | logmel_stats |
|---|---|---|
{chr(10).join(seen)}

Whisper's encoder was trained to hear through noise, and so does its distance: what it does not see
is seen by `logmel_stats`, by DNSMOS and by the attributes.

DNSMOS is the mean over the recordings in which speech is heard, of {PROMPTS}: {graded}.

Noise at −50 dBFS changes the WER, on {FLOOR_CLIPS} recordings each, by: {artefact}.

What this does not show: one speaker and one microphone; espeak-ng has another voice and a wider
band, and a part of its gaps is that. The same sentences are on both sides: tests and intervals
take the sides as independent, and see less than they could. DNSMOS grades noise and not
naturalness: read espeak-ng's grades beside its naturalness gap.

Made by `python -m benchmarks speech_study` on {machine()}.
"""
    write("speech/study.md", text)
    table = io.StringIO()
    writer = csv.DictWriter(table, list(first), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    write("speech/study.csv", table.getvalue())


if __name__ == "__main__":
    main()
