"""Where the work is done, and in which portions, changes no number."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite.data import open_dataset
from evalsuite.encoders.encoding import merged
from evalsuite.errors import DataError, UsageError
from evalsuite.gate.policy import load_policy
from evalsuite.metrics.distribution.frechet import frechet_distance
from evalsuite.pipeline.engines import LocalEngine, open_engine
from evalsuite.pipeline.plan import make_plan

MODELS = {"image": ("efficientnet_lite0",), "audio": ("logmel_stats",), "text": ("minilm_l6",)}


def planned(folder: Path, modality: str | None = None) -> tuple[Any, Any]:
    data = open_dataset(folder)
    policy = load_policy(None)
    no_ties = policy.ties.model_copy(update={"image_text": None, "audio_text": None})
    policy = policy.model_copy(update={"encoders": MODELS, "ties": no_ties})
    plan = make_plan(
        policy, {"real": data, "synthetic": data}, device="cpu", allow_download=False, cache=None
    )
    return plan, data


def assert_same(one: Any, other: Any) -> None:
    """Bit for bit, but for the time that it took."""
    assert [s.id for s in one.samples] == [s.id for s in other.samples]
    assert one.samples == other.samples
    assert one.hashes == other.hashes
    assert one.problems == other.problems
    assert one.notes == other.notes
    assert one.fingerprint == other.fingerprint
    assert one.thumbnails == other.thumbnails
    assert one.infos == other.infos
    assert one.transcripts == other.transcripts
    for kind in ("features", "attributes"):
        mine, theirs = getattr(one, kind), getattr(other, kind)
        assert list(mine) == list(theirs)
        for key in mine:
            assert mine[key].dtype == theirs[key].dtype
            assert mine[key].tobytes() == theirs[key].tobytes(), (kind, key)


def encode(engine: Any, plan: Any, modality: str, data: Any, cache: Any = None) -> Any:
    return engine.encode(plan, modality, data, "real", cache=cache, progress=False)


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_parts_encoded_apart_are_the_whole_bit_for_bit(records: Path, modality: str) -> None:
    """What a worker does: models of its own, a part that was sent to it, one thread."""
    plan, data = planned(records)
    whole = encode(LocalEngine(), plan, modality, data)
    assert len(whole.problems) == 1  # the damaged part, counted once
    assert len(whole) == 23
    parts = []
    for start in range(0, len(data), 5):
        part = data.part(data.located(data.samples[start : start + 5]))
        other, _ = planned(records)
        parts.append(
            other.encode(
                modality, pickle.loads(pickle.dumps(part)), "real", cache=None, progress=False,
                workers=1, may_be_empty=True,
            )
        )  # fmt: skip
    assert_same(whole, merged(parts, data.name))


def test_a_part_without_a_usable_sample_is_no_error_and_a_whole_is(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    plan, data = planned(tmp_path)
    parts = [
        plan.encode(
            "image", data.part(data.located(data.samples[start : start + 5])), "real",
            cache=None, progress=False, workers=1, may_be_empty=True,
        )
        for start in (0, 5)
    ]  # fmt: skip
    assert [len(part.problems) for part in parts] == [5, 4]
    with pytest.raises(DataError, match="none of the 9 samples") as apart:
        merged(parts, data.name)
    with pytest.raises(DataError) as alone:
        encode(LocalEngine(), plan, "image", data)
    assert str(apart.value) == str(alone.value)
    good, whole = planned(folders[0])
    some = encode(LocalEngine(), good, "image", whole)
    assert len(merged([parts[0], some], "both")) == len(some)


def test_threads_batches_and_blocks_change_nothing(folders: tuple[Path, Path]) -> None:
    plan, data = planned(folders[0])
    one = encode(LocalEngine(1), plan, "image", data)
    assert_same(one, encode(LocalEngine(3), plan, "image", data))
    # Another shape of batch may take other kernels: not the same bits, but the same to 1e-5.
    other, _ = planned(folders[0])
    other.encoders["image"][0].batch_size = 7
    seven = encode(LocalEngine(2), other, "image", data)
    x, y = (e.features["efficientnet_lite0"].astype(np.float64) for e in (one, seven))
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    plan, data = planned(folders[1])
    z = encode(LocalEngine(), plan, "image", data).features["efficientnet_lite0"]
    a, b = (frechet_distance(f, z).value for f in (x, y))
    assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "dask"}, "there is no engine 'dask'"),
        ({"name": "local", "address": "auto"}, "for --engine ray"),
        ({"name": "ray", "address": "ray://head:10001"}, "no address of a Ray cluster"),
        ({"name": "local", "workers": 0}, "workers must be at least 1"),
    ],
)
def test_wrong_use_is_said(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_engine(**options)
