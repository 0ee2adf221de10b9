"""The study of record: which metrics rank known degradations rightly, from how few samples.

Real photographs, recordings, texts and pairs are damaged in known steps: 15 corruptions of images
and 10 of sound at five severities, classes dropped, samples copied, captions swapped. Every metric
of the catalogue that needs no people is measured by every encoder that comes in a wheel, and asked
three questions: does it rise with the severity (Kendall's tau), at which severity does it leave
what real sets of the same size show (p < 0.05 against real-vs-real sets), and how often does it
alarm on real sets.

``python -m benchmarks.record`` goes on from its journal (append-only, in ``--work``) and writes
results/record/. ``--seconds`` bounds a run; ``--report`` only writes what the journal has.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.stats import kendalltau

from evalsuite import metrics as m
from evalsuite.generators.image.corruptions import corrupt
from evalsuite.metrics.audio.naturalness import PROSODY
from evalsuite.metrics.catalogue import METRICS

from ._machine import machine, write

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

LEVELS = (1, 2, 3, 4, 5)
NULLS = 40
"""Real-vs-real sets that make the yardstick, and as many others on which alarms are counted."""
CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur",
    "zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic", "pixelate", "jpeg",
)  # fmt: skip
"""The benchmark's 15 of Hendrycks and Dietterich (2019)."""
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Of a set's rows that are copies of real ones, by level."""
SWAPS = (0.05, 0.1, 0.25, 0.5)
"""Of a set's pairs whose captions changed places, by level."""
SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
SIDE = 112
"""Photographs of solar cells are made this small (they have 300 pixels) before they are damaged."""
PICTURES = {
    "astronaut.png": "an astronaut in a space suit", "brick.png": "a brick wall",
    "camera.png": "a photographer with a tripod", "chelsea.png": "a tabby cat",
    "coffee.png": "a cup of espresso", "coins.png": "old coins", "grass.png": "grass",
    "gravel.png": "gravel", "hubble_deep_field.jpg": "galaxies in deep space",
    "ihc.png": "stained tissue under a microscope", "moon.png": "the surface of the moon",
    "motorcycle_left.png": "a motorcycle in a garage", "page.png": "a page of printed text",
    "retina.jpg": "the retina of an eye", "rocket.jpg": "a rocket on its launch pad",
}  # fmt: skip
"""Photographs that come with scikit-image, and what each shows."""


# ---- sets as numbers -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """A set: features by encoder, readable properties by name; row i belongs to item i."""

    features: Mapping[str, npt.NDArray[np.float32]]
    labels: npt.NDArray[np.str_]
    columns: Mapping[str, Floats] = field(default_factory=dict)
    """Readable properties, whose drift is measured."""
    others: Mapping[str, Floats] = field(default_factory=dict)
    """Prosody, and grades of speech."""
    texts: Sequence[str] = ()
    heard: Sequence[str] = ()


@dataclass(frozen=True)
class Draw:
    """What one measurement compares: rows of the reference, of its holdout, and of a set."""

    clean: Rows
    real: Indices
    holdout: Indices
    made: Rows
    rows: Indices


@dataclass(frozen=True)
class Plan:
    """A battery of metrics over one encoder's features: at which sizes, and how often."""

    name: str
    encoder: str
    sizes: tuple[int, ...]
    draws: int
    measure: Callable[[Draw, str], dict[str, float]]
    levels: tuple[int, ...] = LEVELS
    damaged: bool = True
    """Whether the source's damages are measured, and not only what rows alone can show."""


@dataclass(frozen=True)
class Source:
    """Clean rows, in three parts, and what is made of the first part by each damage.

    ``[0, base)`` is damaged; ``[base, middle)`` is the reference and makes the yardstick;
    ``[middle, end)`` is where sets with dropped classes and copies come from, and alarms.
    """

    name: str
    clean: Callable[[], Rows]
    damage: Callable[[str, int], Rows]
    damages: tuple[str, ...]
    base: int
    middle: int
    end: int
    plans: tuple[Plan, ...]
    classes: bool = True


def _number(found: Any) -> float:
    return float("nan") if found is None else float(getattr(found, "value", found))


def _all(found: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Ask each metric; one that refuses these sets (too few, all alike) has no number."""
    values = {}
    for name, ask in found.items():
        try:
            values[name] = _number(ask())
        except ValueError:
            values[name] = float("nan")
    return values


def distances(draw: Draw, encoder: str) -> dict[str, float]:
    """Distances, manifolds, diversity, classifiers: those that are cheap at any size."""
    real = draw.clean.features[encoder][draw.real]
    made = draw.made.features[encoder][draw.rows]
    held = draw.clean.features[encoder][draw.holdout]
    values = _all(
        {
            "frechet_distance": lambda: m.frechet_distance(real, made),
            "kid": lambda: m.kernel_distance(real, made),
            "mmd_rbf": lambda: m.kernel_distance(real, made, "rbf"),
            "mmd_multi": lambda: m.kernel_distance(real, made, "rbf-multi"),
            "cmmd": lambda: m.kernel_distance(real, made, "cmmd"),
            "energy_distance": lambda: m.kernel_distance(real, made, "energy"),
            "c2st": lambda: m.classifier_two_sample_test(real, made, permutations=1).effect,
            "sliced_wasserstein": lambda: m.sliced_wasserstein(real, made, directions=128),
            "max_sliced_wasserstein": lambda: m.max_sliced_wasserstein(real, made),
            "vendi_score": lambda: m.vendi_score(made),
            "vendi_ratio": lambda: m.vendi_ratio(real, made, level=None),
            "feature_likelihood_divergence": lambda: m.feature_likelihood_divergence(
                real, held, made
            ),
        }
    )
    near = m.precision_recall_density_coverage(real, made, level=None)
    names = ("precision", "recall", "density", "coverage")
    return values | {name: _number(getattr(near, name)) for name in names}


def costly(draw: Draw, encoder: str) -> dict[str, float]:
    """What takes a second: transport, clusters, copies, modes, probes, subgroups."""
    real = draw.clean.features[encoder][draw.real]
    made = draw.made.features[encoder][draw.rows]
    held = draw.clean.features[encoder][draw.holdout]
    labels = [draw.clean.labels[draw.real], draw.made.labels[draw.rows]]
    tested = draw.clean.labels[draw.holdout]
    values = _all(
        {
            "sinkhorn_divergence": lambda: m.sinkhorn_divergence(real, made),
            "mauve": lambda: m.mauve(real, made, seeds=1),
            "tstr_ratio": lambda: (
                m.utility_tests(
                    (real, labels[0]), (made, labels[1]), (held, tested),
                    probes=("knn",), repeats=1, bootstrap=100,
                )
                .probes["knn"]
                .value
            ),
        }
    )  # fmt: skip
    values |= _worst_group(real, made, labels)
    return values | _copies(real, held, made) | _modes(real, made)


def _copies(real: Any, held: Any, made: Any) -> dict[str, float]:
    copies = m.copy_tests(real, held, made, permutations=1)
    return {
        "near_duplicate_share": _number(copies.near_duplicates),
        "dcr_share": _number(copies.dcr),
        "authenticity": _number(copies.authenticity),
        "c_t": _number(copies.c_t),
        "membership_auc": _number(copies.membership),
    }


def _modes(real: Any, made: Any) -> dict[str, float]:
    if len(real) < 40:  # what they need
        return {}
    modes = m.mode_tests(real, made, permutations=1, splits=5)
    support = modes.birthday.support
    return {
        "ndb": _number(modes.ndb),
        "effective_hits": _number(modes.hits),
        "birthday_support": float("nan") if support is None else support,
    }


def _worst_group(real: Any, made: Any, labels: list[Any]) -> dict[str, float]:
    found = m.subgroup_tests(
        real, made, *labels, kernels=("polynomial",), min_n=10, splits=2, permutations=1
    )
    worst = found.worst
    gap = worst.kernels["polynomial"].relative if worst is not None else None
    return {"worst_group_gap": _number(gap)}


def drift(draw: Draw, encoder: str) -> dict[str, float]:  # noqa: ARG001 - as the others
    """The readable properties: the column that drifted most; of the labels, total variation."""
    real = {name: column[draw.real] for name, column in draw.clean.columns.items()}
    made = {name: column[draw.rows] for name, column in draw.made.columns.items()}
    found = m.drift_tests(
        {**real, "label": list(draw.clean.labels[draw.real])},
        {**made, "label": list(draw.made.labels[draw.rows])},
        permutations=1,
    )
    numeric = [c.numeric for c in found.columns if c.numeric is not None]
    labels = [c.categorical for c in found.columns if c.categorical is not None]
    return {
        "ks": max(_number(c.ks) for c in numeric),
        "wasserstein": max(_number(c.wasserstein) for c in numeric),
        "psi": max(_number(c.psi) for c in numeric),
        "jensen_shannon": max(_number(c.js) for c in numeric),
        "total_variation": max((_number(c.total_variation) for c in labels), default=float("nan")),
    }


def scores(draw: Draw, encoder: str) -> dict[str, float]:
    """Mean grades of speech: each is its own metric, and higher is better."""
    names = [name for name in draw.made.others if name.startswith(encoder)]
    return {name: float(np.nanmean(draw.made.others[name][draw.rows])) for name in names}


def words(draw: Draw, encoder: str) -> dict[str, float]:  # noqa: ARG001 - as the others
    """Word errors of the recogniser on the set, and the gap to the reference's."""
    said = [[s.texts[i] for i in rows] for s, rows in _sides(draw)]
    heard = [[s.heard[i] for i in rows] for s, rows in _sides(draw)]
    return _all(
        {
            "wer": lambda: m.word_errors(said[1], heard[1]),
            "wer_gap": lambda: m.wer_gap(said[0], heard[0], said[1], heard[1]),
        }
    )


def _sides(draw: Draw) -> list[tuple[Rows, Indices]]:
    return [(draw.clean, draw.real), (draw.made, draw.rows)]


def naturalness(draw: Draw, encoder: str) -> dict[str, float]:
    """Prosody, and one encoder's view of the same clips."""
    prosody = [
        np.stack([s.others[name][rows] for name in PROSODY], axis=1) for s, rows in _sides(draw)
    ]
    views = tuple(s.features[encoder][rows] for s, rows in _sides(draw))
    return _all(
        {
            "naturalness": lambda: m.naturalness_gap(
                prosody[0], prosody[1], embeddings={encoder: (views[0], views[1])}, B=19
            )
        }
    )


def wording(draw: Draw, encoder: str) -> dict[str, float]:  # noqa: ARG001 - as the others
    """What is written, without an encoder."""
    real = [draw.clean.texts[i] for i in draw.real]
    made = [draw.made.texts[i] for i in draw.rows]
    found = m.text_diversity(made)
    return {
        "vocabulary": _number(found.vocabulary),
        "distinct_2": _number(found.distinct_2),
        "self_bleu": _number(found.self_bleu),
    } | _all(
        {
            "near_copy_share": lambda: m.near_copies(made, real=real).of_real,
            "label_leakage": lambda: (
                m.label_leakage(
                    real, list(draw.clean.labels[draw.real]),
                    made, list(draw.made.labels[draw.rows]),
                ).share
            ),
        }
    )  # fmt: skip


def pairs(draw: Draw, encoder: str) -> dict[str, float]:
    """Image and caption: the tie between them, and who finds whom."""
    sides = []
    for rows, which in _sides(draw):
        pictures, captions = (
            rows.features[f"{encoder} {part}"][which] for part in ("image", "text")
        )
        sides.append((pictures, captions, [rows.texts[i] for i in which]))
    (real, said, contents), (made, told, tales) = sides
    score = [m.clip_score(a, b) for a, b in ((real, said), (made, told))]
    right = draw.made.features[f"{encoder} right"][draw.rows]
    # Each real picture with the caption of another content.
    partners = np.array(
        [next(j for j in np.roll(np.arange(len(contents)), -i - 1) if contents[j] != contents[i])
         for i in range(len(contents))]
    )  # fmt: skip
    shuffled = m.clip_score(real, said[partners])
    return {
        "clip_score": float(score[1].mean()),
        "ref_clip_score": float(
            m.ref_clip_score(made, told, right, np.arange(len(made))).mean()
        ),
    } | _all(
        {
            "mismatched_share": lambda: m.consistency(score[1], score[0], shuffled).share,
            "consistency_gap": lambda: (
                m.consistency_gap(score[0], score[1], shuffled, permutations=1).relative
            ),
            "retrieval_recall": lambda: (
                m.retrieval_recall(made, told, ks=(1,), contents=tales).image_to_text[0]
            ),
            "recall_gap": lambda: m.recall_gap(
                real, said, made, told, ks=(1,), contents_real=contents, contents_synthetic=tales
            ),
        }
    )  # fmt: skip


# ---- sources -------------------------------------------------------------------------------------


def _kept(work: Path, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Make arrays once: they are kept, without pickle, under a name that says what they are of."""
    path = work / "features" / f"{re.sub(r'[^a-z0-9_]', '-', name.lower())}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in make().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)
    part.replace(path)
    return arrays


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little")


@cache
def _image_encoder() -> Any:
    from evalsuite.encoders import load_encoder

    return load_encoder("efficientnet_lite0")


def _picture_arrays(pictures: Sequence[Image.Image]) -> dict[str, Any]:
    encoder = _image_encoder()
    rows = [
        encoder.forward(np.stack([encoder.prepare(p) for p in pictures[k : k + 16]]))
        for k in range(0, len(pictures), 16)
    ]
    found = {"features efficientnet_lite0": np.concatenate(rows)}
    listed = [m.image_attributes(np.asarray(p)) for p in pictures]
    return found | {f"column {name}": np.array([d[name] for d in listed]) for name in listed[0]}


def _rows(arrays: Mapping[str, Any], labels: Any, **more: Any) -> Rows:
    def part(kind: str) -> dict[str, Any]:
        return {k[len(kind) + 1 :]: v for k, v in arrays.items() if k.startswith(kind + " ")}

    others = part("prosody") | part("grade")
    return Rows(part("features"), np.asarray(labels), part("column"), others, **more)


def _pictures(
    work: Path, name: str, items: list[tuple[Image.Image, str]], base: int
) -> tuple[Callable[[], Rows], Callable[[str, int], Rows]]:
    labels = np.array([label for _, label in items])

    @cache
    def clean() -> Rows:
        made = _kept(work, f"{name}-clean", lambda: _picture_arrays([p for p, _ in items]))
        return _rows(made, labels)

    def damage(kind: str, level: int) -> Rows:
        def make() -> dict[str, Any]:
            changed = [
                corrupt(picture, kind, level, seed=_seed(name, kind, i))
                for i, (picture, _) in enumerate(items[:base])
            ]
            return _picture_arrays(changed)

        return _rows(_kept(work, f"{name}-{kind}-{level}", make), labels[:base])

    return clean, damage


def _cells(count: int) -> list[tuple[Image.Image, str]]:
    """Solar cells; eight classes: the module's kind and how likely the cell is broken."""
    from evalsuite.pipeline.demo import cells

    listed = cells()
    broken = {
        row.split()[0]: row.split()[1]
        for row in (listed[0][0].parents[1] / "labels.csv").read_text("utf-8").splitlines()
        if len(row.split()) == 3
    }
    chosen = np.random.default_rng(0).permutation(len(listed))[:count]
    items = []
    for i in chosen:
        path, kind = listed[i]
        with Image.open(path) as opened:
            small = opened.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        items.append((small, f"{kind} {float(broken[f'images/{path.name}']):.2f}"))
    return items


def _crops(count: int) -> list[tuple[Image.Image, str]]:
    """Crops of scikit-image's photographs; the class is what the photograph shows."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    opened = {}
    for name in PICTURES:
        with Image.open(folder / name) as file:
            whole = file.convert("RGB")
        whole.thumbnail((640, 640), Image.Resampling.LANCZOS)
        opened[name] = whole
    rng = np.random.default_rng(1)
    items = []
    for k in range(count):
        name = list(PICTURES)[k % len(PICTURES)]
        whole = opened[name]
        side = int(rng.integers(96, min(*whole.size, 224) + 1))
        x, y = (int(rng.integers(0, length - side + 1)) for length in whole.size)
        crop = whole.crop((x, y, x + side, y + side))
        items.append((crop.resize((112, 112), Image.Resampling.LANCZOS), PICTURES[name]))
    return [items[i] for i in rng.permutation(count)]


def _sound_damages() -> dict[str, Callable[[float], Any]]:
    from evalsuite.generators.audio import effects as e

    return {
        "white noise": lambda v: e.AddNoise(snr_db=v),
        "room": lambda v: e.Room(t60=v, direct_to_reverberant_db=6 - 6 * v),
        "pitch": lambda v: e.Pitch(semitones=v),
        "time stretch": lambda v: e.TimeStretch(factor=v),
        "speed": lambda v: e.Speed(factor=v),
        "band limit": lambda v: e.BandLimit(low_hz=0.0, high_hz=v),
        "mp3": lambda v: e.Codec(kind="mp3", compression=v),
        "few bits": lambda v: e.BitCrush(bits=v),
        "clipping": lambda v: e.Clip(share=v),
        "lower gain": lambda v: e.Gain(gain_db=v),
    }


SOUND_LEVELS: dict[str, tuple[float, ...]] = {
    "white noise": (30, 20, 10, 5, 0),
    "room": (0.2, 0.4, 0.8, 1.2, 2.0),
    "pitch": (1, 2, 4, 6, 8),
    "time stretch": (1.1, 1.2, 1.35, 1.55, 1.8),
    "speed": (1.05, 1.1, 1.2, 1.35, 1.5),
    "band limit": (3400, 2500, 1800, 1200, 800),
    "mp3": (0.3, 0.6, 0.8, 0.9, 0.99),
    "few bits": (9, 7, 6, 5, 4),
    "clipping": (0.01, 0.03, 0.08, 0.15, 0.3),
    "lower gain": (-6, -12, -18, -24, -30),
}
"""Strength by level, in the unit of each effect in generators/audio/effects.py."""


@cache
def _prompts() -> list[tuple[str, str, str]]:
    """Files, topics (ten prompts or more, or "other") and texts of two words or more, shuffled."""
    listed = []
    for line in gzip.decompress(TEXTS.read_bytes()).decode("latin-1").splitlines():
        found = re.match(r"^([\w/-]+): ([^\[].+)$", line.strip())
        if found and len(found[2].split()) >= 2 and (SOUNDS / f"{found[1]}.wav").is_file():
            topic = re.split(r"[-_/]", found[1])[0]
            if topic == "silence":
                continue
            listed.append((found[1], topic, found[2]))
    common = {t for t, k in Counter(topic for _, topic, _ in listed).items() if k >= 10}
    listed = [(clip, topic if topic in common else "other", text) for clip, topic, text in listed]
    return [listed[i] for i in np.random.default_rng(0).permutation(len(listed))]


def _sound_arrays(clips: Sequence[Any], model: str) -> dict[str, Any]:
    """Encode, grade, transcribe or describe decoded clips."""
    from evalsuite.encoders.asr import load_transcriber
    from evalsuite.encoders.speech import load_audio_encoder, load_scorer

    if model == "attributes":
        listed = [m.audio_attributes(c.native, c.source_rate) for c in clips]
        prosody = np.stack([m.prosody_features(c.native, c.source_rate) for c in clips])
        return {f"column {k}": np.array([d[k] for d in listed]) for k in listed[0]} | {
            f"prosody {k}": prosody[:, j] for j, k in enumerate(PROSODY)
        }
    if model in ("dnsmos", "plcmos"):
        scorer = load_scorer(model)
        grades = scorer.score(clips)
        return {f"grade {k}": grades[:, j] for j, k in enumerate(scorer.scores)}
    if model == "whisper_base":
        heard = load_transcriber(model).transcribe(clips, language="en")
        return {"heard": np.array([h.text for h in heard])}
    return {f"features {model}": load_audio_encoder(model).embed(clips)}


def _sound(clip: str, damage: str | None, level: int) -> Any:
    """Give a prompt, damaged or not, as evalsuite reads it from a file."""
    import soundfile

    from evalsuite.data import decode_audio
    from evalsuite.generators.values import Audio

    samples, rate = soundfile.read(SOUNDS / f"{clip}.wav", dtype="float32")
    if damage is not None:
        effect = _sound_damages()[damage](SOUND_LEVELS[damage][level - 1])
        rng = np.random.default_rng(_seed(clip, damage))
        made = effect.apply(Audio(samples, rate), effect.sample_params(rng))
        samples, rate = made.samples, made.rate
    file = io.BytesIO()
    # Rounded here: libsndfile rounds floats down, half a bit of offset that drift tests see.
    soundfile.write(file, Audio(samples, rate).to_pcm(), rate, format="WAV", subtype="PCM_16")
    return decode_audio(file.getvalue())


def _encoded(model: str, clips: Callable[[], list[Any]]) -> dict[str, Any]:
    return _sound_arrays(clips(), model)


def _speech(
    work: Path, models: Sequence[str], base: int, end: int
) -> tuple[Callable[[], Rows], Callable[[str, int], Rows]]:
    prompts = _prompts()[:end]
    labels = np.array([topic for _, topic, _ in prompts])
    texts = [text for *_, text in prompts]

    def rows(name: str, damage: str | None, level: int, count: int) -> Rows:
        @cache
        def clips() -> list[Any]:
            return [_sound(clip, damage, level) for clip, *_ in prompts[:count]]

        found: dict[str, Any] = {}
        for model in models:
            made = partial(_encoded, model, clips)
            found |= _kept(work, f"speech-{model}-{name}-{count}", made)
        heard = [str(text) for text in found.pop("heard", ())]
        return _rows(found, labels[:count], texts=texts[:count], heard=heard)

    @cache
    def clean() -> Rows:
        return rows("clean", None, 0, end)

    return clean, lambda kind, level: rows(f"{kind}-{level}", kind, level, base)


def _texts(work: Path) -> Callable[[], Rows]:
    prompts = _prompts()
    texts = [text for *_, text in prompts]

    def make() -> dict[str, Any]:
        from evalsuite.encoders.text import load_text_encoder

        names = ("minilm_l6", "char_ngrams")
        return {f"features {name}": load_text_encoder(name).embed(texts) for name in names}

    @cache
    def clean() -> Rows:
        return _rows(_kept(work, "texts", make), [topic for _, topic, _ in prompts], texts=texts)

    return clean


def _pairs(work: Path, count: int, base: int) -> tuple[Callable[[], Rows], Any]:
    items = _crops(count)
    captions = [f"a photo of {what}" for _, what in items]

    def make() -> dict[str, Any]:
        from evalsuite.encoders.imagetext import load_image_text

        model = load_image_text("conse")
        listed = sorted(set(captions))
        told = model.text_features(listed)[[listed.index(c) for c in captions]]
        seen = [
            model.image_features([p for p, _ in items[k : k + 16]])
            for k in range(0, len(items), 16)
        ]
        return {
            "features conse image": np.concatenate(seen),
            "features conse text": told,
            "features conse right": told,
        }

    @cache
    def clean() -> Rows:
        return _rows(_kept(work, "pairs", make), captions, texts=captions)

    def swapped(kind: str, level: int) -> Rows:  # noqa: ARG001 - there is one damage
        whole = clean()
        rows = np.arange(base)
        order = np.random.default_rng(_seed("swaps")).permutation(base)
        chosen = order[: round(SWAPS[level - 1] * base)]
        # A ring of the chosen, sorted by caption and turned by half: each gets another's caption.
        ring = sorted(chosen, key=lambda i: captions[i])
        rows[ring] = np.roll(ring, len(ring) // 2)
        features = {k: v[:base] for k, v in whole.features.items()}
        features["conse text"] = whole.features["conse text"][rows]
        return Rows(features, whole.labels[:base], texts=[captions[i] for i in rows])

    return clean, swapped


def sources(work: Path) -> list[Source]:
    """Give all that is studied, the quick first."""
    listed = []
    lite, n = "efficientnet_lite0", len(_prompts())
    clean, swapped = _pairs(work, 720, 120)
    tie = Plan("pairs", "conse", (50, 100), 6, pairs, levels=(1, 2, 3, 4))
    damages: tuple[str, ...] = ("caption swaps",)
    listed.append(Source("captions", clean, swapped, damages, 120, 420, 720, (tie,), classes=False))
    whole = (
        Plan("distances", lite, (50, 100), 3, distances),
        Plan("drift", "attributes", (50, 100), 3, drift),
        Plan("costly", lite, (50,), 2, costly),
        Plan("distances", lite, (200,), 3, distances, damaged=False),
    )
    clean, damaged = _pictures(work, "cells", _cells(1500), 100)
    listed.append(Source("cells", clean, damaged, CORRUPTIONS, 100, 800, 1500, whole))
    plans = [
        Plan(name, encoder, (50,), 3, battery)
        for encoder in ("minilm_l6", "char_ngrams")
        for name, battery in (("distances", distances), ("costly", costly))
    ]
    plans.append(Plan("wording", "none", (50,), 6, wording))
    listed.append(Source("texts", _texts(work), _undamaged, (), 0, n // 2, n, tuple(plans)))
    clean, damaged = _speech(work, ("logmel_stats", "ge2e", "attributes"), 30, n)
    damages = tuple(SOUND_LEVELS)
    plans = [
        Plan(name, encoder, (30,), 3, battery)
        for encoder in ("logmel_stats", "ge2e")
        for name, battery in (
            ("distances", distances), ("costly", costly), ("naturalness", naturalness),
        )
    ]  # fmt: skip
    plans.append(Plan("drift", "attributes", (30,), 3, drift))
    middle = 30 + (n - 30) // 2
    listed.append(Source("speech", clean, damaged, damages, 30, middle, n, tuple(plans)))
    for model, size, name, battery, levels in (
        ("plcmos", 16, "scores", scores, LEVELS),
        ("whisper_base_encoder", 8, "distances", distances, (2, 4)),
        ("dnsmos", 6, "scores", scores, (2, 4)),
        ("whisper_base", 5, "words", words, (2, 4)),
    ):
        pool = 3 * size
        clean, damaged = _speech(work, (model,), size, size + 2 * pool)
        slow = Plan(name, model, (size,), 3, battery, levels)
        limits = (size, size + pool, size + 2 * pool)
        title = f"speech {model}"
        listed.append(Source(title, clean, damaged, damages, *limits, (slow,), classes=False))
    return listed


def _undamaged(kind: str, level: int) -> Rows:
    raise ValueError(f"there is no damage {kind!r} at level {level} for this source")


# ---- the journal ---------------------------------------------------------------------------------

COLUMNS = ("source", "plan", "encoder", "damage", "level", "n", "draw", "metric", "value")
Unit = tuple[str, str, str, str, int, int, int]


class Journal:
    """Append-only CSV; a unit (one battery on one draw) counts when its last row is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[Unit, dict[str, float]] = {}
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(",".join(COLUMNS) + "\n")
        open_units: dict[Unit, dict[str, float]] = {}
        for row in csv.reader(path.read_text("utf-8").splitlines()[1:]):
            if len(row) != len(COLUMNS):
                continue  # where a run was killed
            unit = (row[0], row[1], row[2], row[3], int(row[4]), int(row[5]), int(row[6]))
            if row[7] == "done":
                self.values[unit] = open_units.pop(unit, {})
            else:
                open_units.setdefault(unit, {})[row[7]] = float(row[8] or "nan")

    def add(self, unit: Unit, values: Mapping[str, float]) -> None:
        """Append a unit."""
        file = io.StringIO()
        out = csv.writer(file, lineterminator="\n")
        for name, value in values.items():
            out.writerow([*unit, name, "" if np.isnan(value) else repr(float(value))])
        out.writerow([*unit, "done", "0"])
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(file.getvalue())
            stream.flush()
            os.fsync(stream.fileno())
        self.values[unit] = dict(values)


def _units(source: Source, round_: int) -> Iterator[tuple[Plan, Unit]]:
    """Give what a round measures: the yardstick in round 0, then a draw of everything."""
    for plan in source.plans:
        for n in plan.sizes:
            head = (source.name, plan.name, plan.encoder)
            if round_ == 0:
                for kind in ("null", "alarm"):
                    for k in range(NULLS):
                        yield plan, (*head, kind, 0, n, k)
            if round_ >= plan.draws:
                continue
            if plan.damaged and source.damages:
                yield plan, (*head, "none", 0, n, round_)
                for kind in source.damages:
                    for level in plan.levels:
                        yield plan, (*head, kind, level, n, round_)
            if source.classes:
                for kind in ("dropped classes", "copied samples"):
                    for level in (0, *LEVELS):
                        yield plan, (*head, kind, level, n, round_)


def draw_of(source: Source, damage: str, level: int, n: int, k: int) -> Draw:
    """Give the rows that a unit compares; levels of one draw differ in nothing but the damage."""
    clean = source.clean()
    rng = np.random.default_rng(_seed(source.name, damage == "alarm", damage == "null", n, k))
    reference = source.base + rng.permutation(source.middle - source.base)
    others = source.middle + rng.permutation(source.end - source.middle)
    if damage in ("null", "alarm"):
        pool = reference if damage == "null" else others
        return Draw(clean, pool[:n], pool[2 * n : 3 * n], clean, pool[n : 2 * n])
    real, holdout = reference[:n], reference[n : 2 * n]
    if damage == "dropped classes":
        found, count = np.unique(clean.labels[clean.labels != "other"], return_counts=True)
        # The largest stays, so that enough are left; of the rest the larger go first.
        dropped = found[np.argsort(-count, kind="stable")[1 : 1 + level]]
        left = others[~np.isin(clean.labels[others], dropped)]
        if left.size < n:
            raise ValueError(f"{source.name}: {left.size} rows are left of {n} at level {level}")
        return Draw(clean, real, holdout, clean, left[:n])
    if damage == "copied samples":
        rows = others[:n].copy()
        copied = round(SHARES[level - 1] * n) if level else 0
        rows[:copied] = rng.permutation(real)[:copied]
        return Draw(clean, real, holdout, clean, rows)
    rows = rng.permutation(source.base)[:n]
    made = clean if damage == "none" else source.damage(damage, level)
    return Draw(clean, real, holdout, made, rows)


def measure(work: Path, seconds: float, names: Sequence[str]) -> Journal:
    """Measure what the journal lacks, until the time is over."""
    journal = Journal(work / "journal.csv")
    began = time.monotonic()
    listed = [s for s in sources(work) if not names or s.name in names]
    for round_ in range(max(p.draws for s in listed for p in s.plans)):
        for source in listed:
            count = 0
            for plan, unit in _units(source, round_):
                if unit in journal.values:
                    continue
                if time.monotonic() - began > seconds:
                    print("the time is over; what is measured is kept", flush=True)
                    return journal
                draw = draw_of(source, *unit[3:])
                journal.add(unit, plan.measure(draw, plan.encoder))
                count += 1
            if count:
                took = time.monotonic() - began
                print(
                    f"{took:6.0f} s ({time.process_time():.0f} s CPU): "
                    f"{source.name}, round {round_}, {count} units",
                    flush=True,
                )
    return journal


# ---- what it says --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One metric on one kind of damage of one source at one size."""

    family: str
    source: str
    encoder: str
    metric: str
    damage: str
    n: int
    taus: tuple[float, ...]
    found: Mapping[int, float]
    """Share of the draws in which a level was detected."""
    alarms: float


def _family(source: str, damage: str) -> str:
    if damage in ("dropped classes", "copied samples", "caption swaps"):
        return damage
    return "image corruptions" if source == "cells" else "sound damages"


def _worse(metric: str, null: Floats) -> Callable[[float], float]:
    """Give how a value is turned so that more is worse."""
    info = {row.name: row for row in METRICS}.get(metric)
    if info is None or info.direction == "higher":  # grades of speech are no rows of the catalogue
        return lambda value: -value
    if info.direction == "lower":
        return lambda value: value
    best = info.best if info.best is not None else float(np.nanmedian(null))
    return lambda value: abs(value - best)


@dataclass(frozen=True)
class Series:
    """All numbers of one metric on one source at one size."""

    source: str
    encoder: str
    metric: str
    n: int
    numbers: Mapping[tuple[str, int, int], float]
    """By damage, level and draw."""
    null: Floats
    alarm: Floats

    def damages(self) -> Iterator[tuple[str, str, list[int]]]:
        """Give each damage, where its level 0 stands, and its levels."""
        for damage in sorted({d for d, *_ in self.numbers} - {"null", "alarm", "none"}):
            own = ("none", 0, 0) not in self.numbers or (damage, 0, 0) in self.numbers
            levels = sorted({level for d, level, _ in self.numbers if d == damage and level})
            yield damage, damage if own else "none", levels


def series_of(journal: Journal) -> Iterator[Series]:
    """Give what can be judged: a metric that half of the real-vs-real sets gave a number."""
    found: dict[tuple[str, str, str, int], dict[tuple[str, int, int], float]] = {}
    for (source, _, encoder, damage, level, n, k), values in journal.values.items():
        for metric, value in values.items():
            found.setdefault((source, encoder, metric, n), {})[damage, level, k] = value
    for key, numbers in sorted(found.items()):
        kinds = ("null", "alarm")
        real = [[v for (d, *_), v in numbers.items() if d == kind] for kind in kinds]
        null, alarm = (np.array([v for v in values if np.isfinite(v)]) for values in real)
        if null.size >= NULLS / 2 and alarm.size:
            yield Series(*key, numbers, null, alarm)


def rows_of(journal: Journal) -> list[Row]:
    """Judge all that the journal has."""
    found = []
    for s in series_of(journal):
        worse = _worse(s.metric, s.null)
        yardstick = np.array([worse(v) for v in s.null])
        seen = partial(_detected, worse, yardstick)
        share = float(np.mean([seen(v) for v in s.alarm]))
        for damage, clean, levels in s.damages():
            taus: list[float] = []
            hits: dict[int, list[bool]] = {level: [] for level in levels}
            for k in sorted({k for d, _, k in s.numbers if d == damage}):
                ladder = [(0, s.numbers.get((clean, 0, k), float("nan")))]
                ladder += [(x, s.numbers.get((damage, x, k), float("nan"))) for x in levels]
                known = [(x, worse(v)) for x, v in ladder if np.isfinite(v)]
                if len(known) < 3:
                    continue
                tau = kendalltau(*zip(*known, strict=True)).statistic
                taus.append(0.0 if np.isnan(tau) else float(tau))  # the same at all levels
                for x, v in ladder[1:]:
                    if np.isfinite(v):
                        hits[x].append(seen(v))
            if taus:
                rates = {x: float(np.mean(h)) for x, h in hits.items() if h}
                family = _family(s.source, damage)
                found.append(
                    Row(family, s.source, s.encoder, s.metric, damage, s.n, tuple(taus), rates,
                        share)
                )  # fmt: skip
    return found


def _detected(worse: Callable[[float], float], yardstick: Floats, value: float) -> bool:
    p = (1 + np.count_nonzero(yardstick >= worse(value))) / (1 + yardstick.size)
    return bool(p < 0.05)


@dataclass(frozen=True)
class Standing:
    """One metric over all damages of a family, at one size."""

    source: str
    encoder: str
    metric: str
    n: int
    damages: int
    tau: float
    low: float
    high: float
    found: tuple[float, ...]
    """Mean detection rate at the weakest, the middle and the strongest level."""
    first: str
    """The smallest level that is found in 80 % of the draws, in the median damage."""
    alarms: float


def standings(rows: Sequence[Row], family: str) -> list[Standing]:
    """Give the leaderboard of a family: those that rank its damages best come first."""
    grouped: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in rows:
        if row.family == family:
            grouped.setdefault((row.source, row.encoder, row.metric, row.n), []).append(row)
    listed = []
    for (source, encoder, metric, n), mine in grouped.items():
        rng = np.random.default_rng(0)
        means = [
            np.mean(
                [
                    rng.choice(mine[i].taus, len(mine[i].taus)).mean()
                    for i in rng.integers(0, len(mine), len(mine))
                ]
            )
            for _ in range(400)
        ]
        low, high = (float(q) for q in np.quantile(means, (0.025, 0.975)))
        levels = sorted(mine[0].found)
        places = (levels[0], levels[len(levels) // 2], levels[-1])
        firsts = [
            next((x for x in levels if all(r.found.get(y, 0) >= 0.8 for y in levels if y >= x)), 99)
            for r in mine
        ]
        middle = float(np.median(firsts))
        tau = float(np.mean([np.mean(r.taus) for r in mine]))
        listed.append(
            Standing(
                source, encoder, metric, n, len(mine), tau, low, high,
                tuple(float(np.mean([r.found.get(x, 0) for r in mine])) for x in places),
                f"{middle:g}" if middle <= max(levels) else "none", mine[0].alarms,
            )
        )  # fmt: skip
    return sorted(listed, key=lambda s: (-s.tau, -s.found[-1], s.metric))


FAMILIES = (
    "image corruptions", "sound damages", "caption swaps", "dropped classes", "copied samples",
)  # fmt: skip


def _largest(listed: Sequence[Standing]) -> list[Standing]:
    """Of each metric and encoder, the largest size."""
    top: dict[tuple[str, str, str], int] = {}
    for s in listed:
        key = (s.source, s.encoder, s.metric)
        top[key] = max(top.get(key, 0), s.n)
    return [s for s in listed if s.n == top[s.source, s.encoder, s.metric]]


def summary_csv(rows: Sequence[Row]) -> str:
    """Give every metric on every damage at every size."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(
        ["family", "source", "encoder", "metric", "damage", "n", "draws", "tau", "tau_least",
         "tau_most", *(f"found_at_{x}" for x in LEVELS), "false_alarms"]
    )  # fmt: skip
    for r in rows:
        rates = ["" if x not in r.found else f"{r.found[x]:.3g}" for x in LEVELS]
        out.writerow(
            [r.family, r.source, r.encoder, r.metric, r.damage, r.n, len(r.taus),
             f"{np.mean(r.taus):.3f}", f"{min(r.taus):.3f}", f"{max(r.taus):.3f}", *rates,
             f"{r.alarms:.3g}"]
        )  # fmt: skip
    return file.getvalue()


def curves_csv(journal: Journal) -> str:
    """Give every metric's values by level, with what real sets of the same size show.

    Of several sizes the largest: the smaller ones are in summary.csv, judged.
    """
    largest: dict[tuple[str, ...], tuple[int, list[list[object]]]] = {}
    for s in series_of(journal):
        null = [f"{q:.4g}" for q in np.quantile(s.null, (0.05, 0.5, 0.95))]
        for damage, clean, levels in s.damages():
            head = (_family(s.source, damage), s.source, s.encoder, s.metric, damage)
            lines: list[list[object]] = []
            # What was cut off has fewer draws of a damage than of undamaged sets: the same ones.
            draws = sorted({k for d, _, k in s.numbers if d == damage})
            for level in (0, *levels):
                kind = damage if level else clean
                values = [s.numbers.get((kind, level, k), float("nan")) for k in draws]
                known = [v for v in values if np.isfinite(v)]
                if known:
                    shown = [f"{v:.4g}" for v in (np.mean(known), min(known), max(known))]
                    lines.append([*head, s.n, level, len(known), *shown, *null])
            if s.n >= largest.get(head, (0, []))[0]:
                largest[head] = s.n, lines
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(
        ["family", "source", "encoder", "metric", "damage", "n", "level", "draws", "mean", "least",
         "most", "null_5", "null_50", "null_95"]
    )  # fmt: skip
    for _, lines in largest.values():
        out.writerows(lines)
    return file.getvalue()


def _table(listed: Sequence[Standing]) -> list[str]:
    lines = [
        "| metric | encoder | set | n | tau (95 % CI) | found at the weakest, middle, strongest "
        "level | first level found | alarms on real sets |",
        "|---|---|---|--:|---|---|--:|--:|",
    ]
    return lines + [
        f"| {s.metric} | {s.encoder} | {s.source} | {s.n} | {s.tau:.2f} ({s.low:.2f} to "
        f"{s.high:.2f}) | {', '.join(f'{100 * f:.0f} %' for f in s.found)} | {s.first} | "
        f"{100 * s.alarms:.0f} % |"
        for s in listed
    ]


def readme(journal: Journal, rows: Sequence[Row]) -> str:
    """Give results/record/README.md."""
    units, numbers = len(journal.values), sum(map(len, journal.values.values()))
    lines = [
        "# Which metrics rank known degradations rightly",
        "",
        f"{numbers:,} numbers of {len({r.metric for r in rows})} metrics by "
        f"{len({r.encoder for r in rows if r.encoder not in ('none', 'attributes')})} encoders, "
        f"in {units:,} comparisons of real photographs, recordings, texts and pairs with damaged "
        "ones. **tau**: Kendall's rank correlation of the number (turned so that more is worse) "
        "with the severity, the undamaged set being level 0; 1 is a perfect ranking; mean over "
        "the damages, with a 95 % bootstrap interval over damages and draws (where there is one "
        "damage and one draw it says nothing: summary.csv has the draws). **Found**: share of "
        f"draws whose number lies above that of at least 39 of {NULLS} pairs of real sets of the "
        "same size (p < 0.05), mean over the damages. **First level found**: the smallest "
        "severity from which on 80 % of the draws are found, in the median damage. **Alarms**: "
        "the same on other real sets; 5 % are nominal, and of "
        f"{NULLS} sets 0 to 12 % is within chance.",
        "",
        "The page for readers: [leaderboard.html](leaderboard.html) "
        "([日本語](leaderboard.ja.html)); every damage at every size: [summary.csv](summary.csv); "
        "the values by level: [curves.csv](curves.csv), drawn on the site's page of each metric; "
        "figures of papers: [papers.md](papers.md).",
        "",
        "## Sets",
        "",
        "| set | what | damaged items | encoders |",
        "|---|---|--:|---|",
        f"| cells | 1,500 photographs of solar cells (elpv-dataset), {SIDE} pixels | 100 | "
        "efficientnet_lite0, readable properties |",
        "| speech | 323 prompts of one speaker (Debian's asterisk-core-sounds-en-wav, 8 kHz) | "
        "30; plcmos 16, whisper_base_encoder 8, dnsmos 6, whisper_base 5 | logmel_stats, ge2e, "
        "those |",
        "| texts | the prompts' 323 texts; classes are topics | | minilm_l6, char_ngrams |",
        "| captions | 720 crops of 15 photographs of scikit-image, each with its caption | 120 | "
        "conse |",
        "",
        "Sizes are what two shared cores allow: corruptions of images are measured at n = 50 and "
        "100, dropped classes and copies also at 200; the models that take a quarter of a second "
        "and more for a recording see few of them, at two levels of the five; what they see was "
        "still written with half a unit of the last of 16 bits as offset (libsndfile rounds floats "
        "down), which moves a distance of features by 0.1 % in the median. Classes are dropped "
        "from the second largest down, so that enough samples are left. Draws of one set overlap.",
        "",
    ]
    for family in FAMILIES:
        listed = _largest(standings(rows, family))
        if listed:
            lines += [f"## {family.capitalize()}", "", *_table(listed), ""]
    lines += [
        *_lessons(rows),
        f"Machine: {machine()}.",
        "",
        "Made by `python -m benchmarks.record`.",
        "",
    ]
    return "\n".join(lines)


def _lessons(rows: Sequence[Row]) -> list[str]:
    """Say which damages most metrics miss, and which metrics fall as sets get worse."""
    lines = ["## What is missed", ""]
    for family in FAMILIES[:2]:
        mine = [r for r in rows if r.family == family]
        for damage in sorted({r.damage for r in mine}):
            top = {}
            for r in mine:
                if r.damage == damage and max(r.n for r in mine if r.damage == damage) == r.n:
                    top[r.metric, r.encoder] = r.found.get(max(r.found), 0.0)
            if top:
                share = float(np.mean([rate >= 0.8 for rate in top.values()]))
                lines.append(
                    f"- {damage}: {100 * share:.0f} % of {len(top)} metrics find its strongest "
                    "level in 80 % of the draws."
                )
    wrong = [
        f"{s.metric} ({s.encoder}, {s.source}: {s.tau:.2f})"
        for s in _largest(standings(rows, "copied samples"))
        if s.high < 0
    ]
    if wrong:
        lines += [
            "",
            "Copies of real samples make these better, not worse (tau below 0): "
            + ", ".join(wrong) + ". A gate needs a test of copies beside them.",
        ]  # fmt: skip
    return [*lines, ""]


WORDS = {
    "en": {
        "title": "Metrics on known degradations",
        "question": "Which metrics rank known degradations rightly?",
        "lead": "Each metric was asked to rank sets of known severity, and to tell them from real "
        "sets of the same size.",
        "metric": "Metric", "encoder": "Encoder", "set": "Set", "tau": "Tau",
        "low": "Tau, from", "high": "to", "weak": "Found, weakest", "mid": "middle",
        "strong": "strongest", "first": "First level found", "alarms": "Alarms on real sets",
        "image corruptions": "Image corruptions", "sound damages": "Sound damages",
        "caption swaps": "Caption swaps", "dropped classes": "Dropped classes",
        "copied samples": "Copied samples", "numbers": "Numbers", "headline": "Best on images: {0}",
        "note": "Tau is Kendall's rank correlation with the severity (1 is best). Found is the "
        "share of draws with p < 0.05 against real sets. 5 % of alarms are nominal.",
    },
    "ja": {
        "title": "既知の劣化に対する指標の成績",
        "question": "既知の劣化を正しく順位付けできる指標はどれか",
        "lead": "各指標に、程度の分かっている劣化を順に並べさせ、"
        "同じ大きさの実データと区別できるかを調べました。",
        "metric": "指標", "encoder": "エンコーダー", "set": "データ", "tau": "タウ",
        "low": "タウの下限", "high": "上限", "weak": "検出率(最弱)", "mid": "検出率(中)",
        "strong": "検出率(最強)", "first": "検出できる最小の段階", "alarms": "実データでの誤報",
        "image corruptions": "画像の劣化", "sound damages": "音声の劣化",
        "caption swaps": "キャプションの入れ替え", "dropped classes": "クラスの欠落",
        "copied samples": "実データのコピー", "numbers": "測定値の数",
        "headline": "画像で最良: {0}",
        "note": "タウは劣化の程度との順位相関(ケンドール)で、1 が最良です。"
        "検出率は、実データどうしの比較に対して p < 0.05 となった割合です。"
        "誤報の公称値は 5 % です。",
    },
}  # fmt: skip


def page(journal: Journal, rows: Sequence[Row], lang: str) -> str:
    """Give the leaderboard as a page that loads nothing."""
    import evalsuite
    from evalsuite.gate.findings import Status
    from evalsuite.report.i18n import Translator
    from evalsuite.report.page import Cell, Section, Table, render_page

    words, tr = WORDS[lang], Translator(lang)
    columns = [
        words[k] for k in ("metric", "encoder", "set", "n", "tau", "low", "high", "weak", "mid",
                           "strong", "first", "alarms") if k != "n"
    ]  # fmt: skip
    columns.insert(3, "n")
    sections = []
    for family in FAMILIES:
        listed = _largest(standings(rows, family))
        cells: list[list[Cell]] = [
            [tr.metric(s.metric), s.encoder, s.source, s.n, round(s.tau, 2), round(s.low, 2),
             round(s.high, 2), *(f"{100 * f:.0f}%" for f in s.found),
             "–" if s.first == "none" else s.first, f"{100 * s.alarms:.0f}%"]
            for s in listed
        ]  # fmt: skip
        if cells:
            sections.append(Section(words[family], "", [Table(columns, cells)], [words["note"]]))
    best = _largest(standings(rows, "image corruptions"))[:3]
    return render_page(
        title=words["title"],
        question=words["question"],
        headline=words["headline"].format(", ".join(tr.metric(s.metric) for s in best)),
        lead=words["lead"],
        status=Status.PASS,
        facts=[(words["numbers"], f"{sum(map(len, journal.values.values())):,}")],
        sections=sections,
        version=evalsuite.__version__,
        lang=lang,
    )


def publish(journal: Journal) -> None:
    """Write results/record/."""
    rows = rows_of(journal)
    write("record/README.md", readme(journal, rows))
    write("record/summary.csv", summary_csv(rows))
    write("record/curves.csv", curves_csv(journal))
    write("record/leaderboard.html", page(journal, rows, "en"))
    write("record/leaderboard.ja.html", page(journal, rows, "ja"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=7200.0, help="the longest that it may run")
    parser.add_argument("--only", action="append", default=[], help="one source")
    parser.add_argument("--report", action="store_true", help="only write what the journal has")
    parser.add_argument(
        "--work", type=Path, default=Path.home() / ".cache" / "evalsuite" / "record",
        help="where features and the journal are kept",
    )  # fmt: skip
    given = parser.parse_args(arguments or [])
    if not given.report:
        measure(given.work, given.seconds, given.only)
    publish(Journal(given.work / "journal.csv"))


if __name__ == "__main__":
    main(sys.argv[1:])
