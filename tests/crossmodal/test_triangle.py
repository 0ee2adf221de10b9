"""Where a record of three parts breaks, and at which rate intact ones are called broken."""

from __future__ import annotations

import numpy as np
import pytest

from evalsuite.metrics.crossmodal.triangle import triangle_breaks

LOW, HIGH = 0.001, 0.5


@pytest.mark.parametrize(
    ("image_text", "audio_text", "image_audio", "place"),
    [
        (HIGH, HIGH, HIGH, ""),
        (LOW, HIGH, LOW, "image"),
        (LOW, LOW, HIGH, "text"),
        (HIGH, LOW, LOW, "audio"),
        (LOW, HIGH, HIGH, "image+text"),
        (HIGH, LOW, HIGH, "audio+text"),
        (HIGH, HIGH, LOW, "image+audio"),
        (LOW, LOW, LOW, "several"),
        (np.nan, LOW, HIGH, "audio+text"),
    ],
)
def test_the_part_that_both_broken_ties_share_is_the_one(
    image_text: float, audio_text: float, image_audio: float, place: str
) -> None:
    found = triangle_breaks([image_text, HIGH], [audio_text, HIGH], [image_audio, HIGH])
    assert found.places == (place, "")
    assert found.counts == ({place: 1} if place else {})
    assert found.share == (0.5 if place else 0.0)
    assert found.share in found.interval


def test_intact_records_are_called_broken_at_most_at_alpha() -> None:
    p = np.random.default_rng(0).random((3, 200_000))
    found = triangle_breaks(*p, alpha=0.05)
    assert found.false_alarms == pytest.approx(0.05)
    assert found.share == pytest.approx(1 - (1 - 0.05 / 3) ** 3, abs=0.002)
    alike = triangle_breaks(p[0], p[0], p[0], alpha=0.05)  # ties that fail together: fewer
    assert alike.share == pytest.approx(0.05 / 3, abs=0.001)


def test_few_real_pairs_raise_the_rate_and_say_so() -> None:
    found = triangle_breaks([0.04], [0.9], [0.04], alpha=0.05, least=0.04)
    assert found.places == ("image",)
    assert found.false_alarms == pytest.approx(0.12)
    blind = triangle_breaks([0.04], [0.9], [np.nan], alpha=0.05, least=0.04)
    assert blind.false_alarms == pytest.approx(0.08)  # two ties are judged


def test_groups_widen_the_interval() -> None:
    p = np.repeat([LOW, HIGH, HIGH, HIGH], 25)
    whole = np.repeat(np.arange(20), 5)
    alone = triangle_breaks(p, p, p)
    grouped = triangle_breaks(p, p, p, groups=whole)
    assert grouped.share == alone.share == 0.25
    assert grouped.interval.high - grouped.interval.low > alone.interval.high - alone.interval.low


def test_what_is_no_p_value_is_refused() -> None:
    with pytest.raises(ValueError, match=r"within \[0, 1\]"):
        triangle_breaks([1.2], [0.1], [0.1])
    with pytest.raises(ValueError, match="one p-value for each record"):
        triangle_breaks([0.1], [0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="one p-value for each record"):
        triangle_breaks([], [], [])
    with pytest.raises(ValueError, match="alpha"):
        triangle_breaks([0.1], [0.1], [0.1], alpha=0.0)
