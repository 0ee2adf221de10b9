"""The cache: right after kills, damage, races and full disks, or not used at all."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from evalsuite.encoders import FeatureCache, default_cache_dir
from evalsuite.encoders import cache as module

KEY = "0" * 64


def digest(i: int) -> bytes:
    return i.to_bytes(32, "big")


def filled(folder: Path, n: int = 10) -> Path:
    """Write one segment, and give its path."""
    records = FeatureCache(folder).records("features", KEY)
    for i in range(n):
        records.put(digest(i), bytes([i % 256]) * (i % 7 + 1))
    records.flush()
    (segment,) = (folder / module.FORMAT / "features" / KEY).iterdir()
    return segment


def test_records_come_back(tmp_path: Path) -> None:
    filled(tmp_path, 10)
    records = FeatureCache(tmp_path).records("features", KEY)
    assert [records.get(digest(i)) for i in range(10)] == [
        bytes([i]) * (i % 7 + 1) for i in range(10)
    ]
    assert records.get(digest(10)) is None
    assert FeatureCache(tmp_path).records("features", "1" * 64).get(digest(0)) is None
    records.put(digest(10), b"")
    assert records.get(digest(10)) == b""  # before it is on disk, and after
    records.flush()
    assert records.get(digest(10)) == b""
    for i in (20, 21, 22):
        records.put(digest(i), bytes([i]))
    records.flush()
    assert [records.get(digest(i)) for i in (22, 20, 21)] == [b"\x16", b"\x14", b"\x15"]
    assert FeatureCache(tmp_path).records("features", KEY).get(digest(10)) == b""


def test_records_are_flushed_by_number_and_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_disk() -> int:
        return sum(1 for _ in tmp_path.rglob("*") if _.is_file())

    records = FeatureCache(tmp_path).records("features", KEY)
    for i in range(module.FLUSH_ROWS - 1):
        records.put(digest(i), b"x")
    assert on_disk() == 0
    records.put(digest(300), b"x")
    assert on_disk() == 1
    records.put(digest(301), b"x")
    assert on_disk() == 1
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.0)
    records.put(digest(302), b"x")
    assert on_disk() == 2


def test_every_flipped_bit_and_every_cut_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segment = filled(tmp_path, 10)
    content = segment.read_bytes()
    rng = np.random.default_rng(0)
    places = rng.choice(len(content), 150, replace=False)
    damaged = [
        content[:place] + bytes([content[place] ^ 1 << int(bit)]) + content[place + 1 :]
        for place, bit in zip(places, rng.integers(0, 8, 150), strict=True)
    ]
    damaged += [b"", content[:7], content[: len(content) // 2], content[:-1], content + b"\0"]
    for bad in damaged:
        segment.write_bytes(bad)
        caplog.clear()
        cache = FeatureCache(tmp_path)
        records = cache.records("features", KEY)
        assert [records.get(digest(i)) for i in range(10)] == [None] * 10
        assert cache.corrupt == 1
        assert len(cache.warnings) == 1
        assert "is damaged" in caplog.text
        assert not segment.exists()
        records.put(digest(3), b"again")
        assert records.get(digest(3)) == b"again"
    segment.write_bytes(content)
    assert FeatureCache(tmp_path).records("features", KEY).get(digest(6)) == b"\6" * 7


def test_two_thousand_look_ups_are_quick(tmp_path: Path) -> None:
    records = FeatureCache(tmp_path).records("features", KEY)
    rows = np.random.default_rng(0).standard_normal((2000, 1280)).astype(np.float32)
    for i, row in enumerate(rows):
        records.put(digest(i), row.tobytes())
    records.flush()
    start = time.process_time()
    records = FeatureCache(tmp_path).records("features", KEY)
    again = np.stack(
        [np.frombuffer(records.get(digest(i)) or b"", np.float32) for i in range(2000)]
    )
    assert time.process_time() - start < 0.5
    assert np.array_equal(again, rows)


def test_memory_does_not_grow_with_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_ROWS", 1)
    monkeypatch.setattr(module, "_OPEN_SEGMENTS", 4)
    records = FeatureCache(tmp_path).records("features", KEY)
    for i in range(20):
        records.put(digest(i), bytes([i]))
    for i in (*range(20), 0):
        assert records.get(digest(i)) == bytes([i])
    assert len(records._open) == 4


def test_memo_computes_once_and_checks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def compute() -> bytes:
        calls.append(1)
        return b"result"

    for _ in range(3):
        assert FeatureCache(tmp_path).memo("stage", "any key / at all", compute) == b"result"
    assert len(calls) == 1
    assert FeatureCache(tmp_path).memo("stage", "another", compute) == b"result"
    assert len(calls) == 2
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1] + b"T")
    cache = FeatureCache(tmp_path)
    assert cache.memo("stage", "another", compute) == b"result"
    assert cache.corrupt == 1
    assert "is damaged" in caplog.text
    assert len(calls) == 3
    with pytest.raises(ValueError, match="may hold letters"):
        cache.memo("../stage", "key", compute)


@pytest.mark.parametrize("failure", ["not a folder", "full disk"])
def test_a_folder_that_cannot_be_written_costs_a_warning_only(
    failure: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "cache"
    if failure == "not a folder":
        folder.write_text("a file")
    else:

        def fsync(handle: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", fsync)
    cache = FeatureCache(folder)
    records = cache.records("features", KEY)
    for i in range(3):
        records.put(digest(i), b"x")
        records.flush()
    assert cache.memo("stage", "key", lambda: b"result") == b"result"
    assert cache.memo("stage", "key", lambda: b"result") == b"result"
    told = [r for r in caplog.records if "cannot write the cache" in r.message]
    assert len(told) == 1
    assert told[0].levelno == logging.WARNING
    assert "goes on without caching" in told[0].message
    assert cache.prune() == 0
    assert not folder.is_dir() or not [p for p in folder.rglob("*") if p.is_file()]


def test_prune_takes_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    paths: list[Path] = []
    for i in (2, 0, 1, 3):
        cache.memo("stage", str(i), lambda: bytes(1000))
        (new,) = {p for p in tmp_path.rglob("*") if p.is_file()} - set(paths)
        paths.append(new)
        os.utime(new, (len(paths), len(paths)))
    cache.memo("stage", "2", lambda: bytes(1000))  # the oldest, but used now
    killed = paths[0].parent / f"{module._TEMPORARY}abc"
    killed.write_bytes(bytes(500))
    assert cache.size() == 4 * 1032 + 500
    assert cache.prune(4 * 1032) == 0  # another run may be writing it now
    os.utime(killed, (1, 1))
    assert cache.prune(2 * 1032) == 2 * 1032 + 500
    assert not killed.exists()
    computed = []
    cache.memo("stage", "2", lambda: computed.append(1) or b"")
    assert computed == []
    assert cache.prune(0) == 2 * 1032
    assert cache.size() == 0
    with pytest.raises(ValueError, match="at least 0"):
        FeatureCache(tmp_path, max_bytes=-1)


def test_records_that_another_run_pruned_are_made_anew(tmp_path: Path) -> None:
    segment = filled(tmp_path)
    cache = FeatureCache(tmp_path)
    records = cache.records("features", KEY)
    segment.unlink()
    assert records.get(digest(1)) is None
    assert cache.warnings == []


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "mine"))
    assert default_cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("EVALSUITE_CACHE")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert default_cache_dir() == tmp_path / "evalsuite"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert default_cache_dir() == Path.home() / ".cache" / "evalsuite"


WRITER = """
import sys
from evalsuite.encoders import FeatureCache, cache
cache.FLUSH_ROWS = 3
records = FeatureCache(sys.argv[1]).records("features", "0" * 64)
for i in range(200):
    name = i.to_bytes(32, "big")
    if records.get(name) is None:
        records.put(name, bytes([i]) * 100)
records.flush()
"""


def test_runs_at_once_on_one_cache(tmp_path: Path) -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=60)
        assert (run.returncode, errors) == (0, b"")
    cache = FeatureCache(tmp_path)
    records = cache.records("features", KEY)
    for i in range(200):
        assert records.get(digest(i)) == bytes([i]) * 100
    assert cache.warnings == []
    assert not list(tmp_path.rglob(f"{module._TEMPORARY}*"))
