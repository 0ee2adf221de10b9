from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from evalsuite.data import open_dataset
from evalsuite.errors import DataError
from evalsuite.generators import Audio, Item, build, items_of, produce, replay, spec
from evalsuite.generators.audio.effects import room_response
from evalsuite.generators.correction.audio import (
    CENTRES,
    MatchBandwidth,
    MatchEqualisation,
    MatchLoudness,
    MatchRoom,
    MatchSnr,
)
from evalsuite.generators.correction.base import (
    NotCorrectableError,
    correction_class,
    correction_names,
    corrections_for,
)
from evalsuite.generators.correction.text import MatchCase, MatchEnding
from evalsuite.generators.values import Modality
from evalsuite.metrics.audio.attributes import audio_attributes
from evalsuite.metrics.text.attributes import text_attributes

SPEECH = Path(__file__).parents[1] / "data" / "speech"


@pytest.fixture(scope="module")
def speech() -> list[Item]:
    """Eleven recorded prompts, 8 kHz, with a little noise so that every pause has a level."""
    rng = np.random.default_rng(0)
    items = [item.read(Modality.AUDIO) for item in items_of(open_dataset(SPEECH))]
    return [
        Item(id=i.id, audio=Audio(
            (i.audio.samples + 1e-4 * rng.standard_normal(i.audio.samples.size)).astype(np.float32),
            i.audio.rate))
        for i in items
    ]  # fmt: skip


def changed(items: list[Item], change) -> list[Item]:
    made = []
    for k, item in enumerate(items):
        x, rate = change(item.audio.samples.astype(float), item.audio.rate, k)
        made.append(Item(id=f"syn-{item.id}", audio=Audio(x.astype(np.float32), rate)))
    return made


def quiet(x, rate, _):
    return 0.1 * x, rate


def dull(x, rate, _):
    b, a = signal.butter(1, 1200, fs=rate)
    return signal.lfilter(b, a, x), rate


def hissing(x, rate, k):
    return x + 0.01 * np.random.default_rng(k).standard_normal(x.size), rate


def narrow(x, rate, _):
    return signal.sosfiltfilt(signal.butter(8, 1800, fs=rate, output="sos"), x), rate


def doubled(x, rate, _):
    return signal.resample_poly(x, 2, 1), 2 * rate


def mean_of(items: list[Item], name: str) -> float:
    return float(np.nanmean([audio_attributes(i.audio.samples, i.audio.rate)[name] for i in items]))


# The real calibration set, the synthetic fault, and what must come near. Real judge recordings are
# treated as the calibration ones.
CASES = [
    (MatchLoudness, None, quiet, "loudness", 1.0),
    (MatchEqualisation, None, dull, "spectral_tilt", 0.6),
    (MatchSnr, hissing, None, "snr", 3.0),
    (MatchSnr, hissing, None, "noise_floor", 3.0),
    (MatchBandwidth, narrow, None, "bandwidth", 250.0),
    (MatchBandwidth, doubled, None, "sample_rate", 1.0),
]


@pytest.mark.parametrize(("cls", "to_real", "fault", "name", "tolerance"), CASES)
def test_a_correction_brings_its_attribute_to_real_recordings_it_has_not_heard(
    cls, to_real, fault, name, tolerance, speech
) -> None:
    real = changed(speech, to_real) if to_real else speech
    calibration, judge = real[::2], real[1::2]
    synthetic = changed(speech[1::2], fault) if fault else speech[1::2]
    correction = cls.fit(calibration, synthetic)
    fixed = [Item(id=i.id, audio=produce(correction, i, seed=0)[0]) for i in synthetic]
    wanted, before, after = (mean_of(s, name) for s in (judge, synthetic, fixed))
    assert name in cls.acts_on
    assert abs(before - wanted) > 2 * tolerance, "the fault is too small to show anything"
    assert abs(after - wanted) < tolerance, (wanted, before, after)


def test_the_filter_undoes_a_known_one(speech) -> None:
    synthetic = changed(speech, dull)
    gain = MatchEqualisation.fit(speech, synthetic).gain
    b, a = signal.butter(1, 1200, fs=8000)
    _, response = signal.freqz(b, a, worN=CENTRES, fs=8000)
    wanted = -20 * np.log10(np.abs(response))
    wanted -= np.interp(1000, CENTRES, wanted)
    inside = (CENTRES > 60) & (CENTRES < 2600)
    assert np.abs(gain - wanted)[inside].max() < 0.5


def test_a_dry_set_is_put_into_the_real_room(speech) -> None:
    # Single prompts are too short for their decays to be heard: three in a row.
    x = [i.audio.samples for i in speech]
    dry = [
        Item(id=str(k), audio=Audio(np.concatenate([x[k], x[k + 1], x[k + 2]]), 8000))
        for k in range(9)
    ]

    def hall(y, rate, k):
        response = room_response(rate, 0.9, 3.0, np.random.default_rng(k))
        wet = signal.fftconvolve(y, response)[: y.size]
        return wet * 0.5 / np.abs(wet).max(), rate

    real = changed(dry, hall)
    room = MatchRoom.fit(real[:5], dry)
    fixed = [Item(id=i.id, audio=produce(room, i, seed=0)[0]) for i in dry]
    wanted, before, after = (mean_of(s, "decay_time") for s in (real[5:], dry, fixed))
    assert abs(after - wanted) < 0.5 * abs(before - wanted), (wanted, before, after)
    with pytest.raises(NotCorrectableError, match="reverberation cannot be taken away"):
        MatchRoom.fit(dry, real)


def test_what_cannot_be_taken_away_is_refused(speech) -> None:
    with pytest.raises(NotCorrectableError, match="noise cannot be taken away"):
        MatchSnr.fit(speech, changed(speech, hissing))
    with pytest.raises(NotCorrectableError, match="cannot be brought back"):
        MatchBandwidth.fit(speech, changed(speech, narrow))


def test_nothing_clips_and_silence_stays_silent(speech) -> None:
    loud = MatchLoudness(-20.0, 1.0, 0.0, 1.0)
    made, _ = produce(loud, speech[0], seed=0)
    assert 0.9 < np.abs(made.samples).max() <= 1.0
    silence = Item(id="s", audio=Audio(np.zeros(8000, np.float32), 8000))
    assert not produce(loud, silence, seed=0)[0].samples.any()
    noise = MatchSnr.fit(changed(speech, hissing), speech)
    assert not produce(noise, silence, seed=0)[0].samples.any()


@pytest.mark.parametrize("name", correction_names("audio"))
def test_the_description_alone_gives_the_same_sound(name, speech) -> None:
    made_with = {
        "match_room": MatchRoom(0.4),
        "match_bandwidth": MatchBandwidth(16000, 3000.0),
        "match_snr": MatchSnr.fit(changed(speech, hissing), speech),
    }
    correction = made_with.get(name) or correction_class(name).fit(speech, changed(speech, dull))
    described = json.loads(json.dumps(spec(correction)))
    assert spec(build(described)) == described
    sound, record = produce(correction, speech[0], seed=1)
    again = replay(record, speech[0].audio)
    assert np.array_equal(again.samples, sound.samples)
    assert again.rate == sound.rate


def test_attributes_of_sound_choose_corrections_in_order() -> None:
    assert corrections_for(["loudness", "snr", "spectral_tilt"], "audio") == (
        "match_equalisation",
        "match_snr",
        "match_loudness",
    )
    assert corrections_for(["pitch"], "audio") == ()


REAL_TEXTS = ["all circuits are busy", "please try again", "goodbye", "nobody is here"] * 10
MADE_TEXTS = ["All Circuits are busy now.", "Please try again.", "Thank you!", "Bye."] * 10


def texts(values: list[str], name: str) -> list[Item]:
    return [Item(id=f"{name}{k}", text=text) for k, text in enumerate(values)]


def test_casing_and_endings_become_those_of_the_real_texts() -> None:
    real, synthetic = texts(REAL_TEXTS, "r"), texts(MADE_TEXTS, "s")
    for cls, name in ((MatchCase, "upper_case"), (MatchEnding, "punctuation")):
        correction = cls.fit(real[:20], synthetic)
        made = [produce(correction, i, seed=0)[0] for i in synthetic]
        wanted, before, after = (
            np.mean([text_attributes(t)[name] for t in s]) for s in (REAL_TEXTS, MADE_TEXTS, made)
        )
        assert name in cls.acts_on
        assert before > wanted + 0.02
        assert abs(after - wanted) < 0.01, (name, wanted, before, after)
        record = produce(correction, synthetic[0], seed=0)[1]
        assert replay(record, MADE_TEXTS[0]) == made[0]


def test_only_the_surplus_of_a_style_changes() -> None:
    # Half of the real texts end with a mark, all of the synthetic ones do.
    real = texts(["it is here.", "it is there"] * 50, "r")
    synthetic = texts([f"number {k} is here." for k in range(400)], "s")
    correction = MatchEnding.fit(real, synthetic)
    made = [produce(correction, i, seed=0)[0] for i in synthetic]
    dotted = np.mean([t.endswith(".") for t in made])
    assert 0.42 < dotted < 0.58
    # A set that is right as it is stays as it is, to the letter.
    same = MatchEnding.fit(real, real)
    assert [produce(same, i, seed=0)[0] for i in real] == [i.text for i in real]


def test_a_name_keeps_its_capital_where_only_a_first_letter_is_asked_for() -> None:
    to_sentence = MatchCase({"lower": 1.0}, {"sentence": 1.0})
    item = Item(id="a", text="the train to Tokyo")
    assert MatchCase._style("the train to Tokyo") == "other"
    lower = Item(id="b", text="the train leaves")
    assert produce(to_sentence, lower, seed=0)[0] == "The train leaves"
    assert produce(to_sentence, item, seed=0)[0] == "the train to Tokyo"
    with pytest.raises(DataError, match="no text of the 1 real"):
        MatchCase.fit([Item(id="x")], [item])
