"""What fuzzing found, and its like: each was another error than ours once, or no error at all."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from benchmarks.fuzz import _SIDECARS, _small_result, _tensor_graph
from evalsuite.encoders import FeatureCache, load_audio_encoder
from evalsuite.encoders.onnxfile import load_onnx_pictures, load_onnx_sound
from evalsuite.encoders.perplexity import load_text_scorer
from evalsuite.errors import DataError, EvalsuiteError, ModelError, UsageError
from evalsuite.gate.findings import GateResult
from evalsuite.generators import (
    ClassSampler,
    Item,
    generate_folder,
    parse_recipe,
    produce,
    replay,
)
from evalsuite.generators.endpoints.journal import Journal
from evalsuite.generators.local.folder import model_folder
from evalsuite.generators.protocol import ReplayError
from evalsuite.generators.record import Record
from evalsuite.history.report import write_history
from evalsuite.history.store import History
from evalsuite.hosts import Cut, Server
from evalsuite.report import render_html, render_junit, render_markdown
from evalsuite.study.design import new_study, read_key
from evalsuite.tune import Knob, _same_job

DEEP = "[" * 100_000


# --- networks of the user's -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"hop": 10**400}, {"mean": float("nan")}, {"sd": float("inf")}, {"bands": 10**400}]
)
def test_a_sidecar_of_impossible_numbers_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(_tensor_graph(3))
    said = {**_SIDECARS[1], "input": {**_SIDECARS[1]["input"], **change}}
    path.with_suffix(".json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match="is not valid"):
        load_onnx_sound(path, None)
    path.with_suffix(".json").write_text(json.dumps(_SIDECARS[1]))
    assert load_onnx_sound(path, None).info.dim == 20


def test_a_sidecar_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(_tensor_graph(4))
    path.with_suffix(".json").write_text(DEEP[:60_000])
    with pytest.raises(ModelError, match="is not valid"):
        load_onnx_pictures(path, None)


@pytest.mark.parametrize(
    "config",
    ['{"model_type": "wav2vec2", "hidden_size": 1e999, "sampling_rate": 16000}',
     '{"model_type": "wav2vec2", "hidden_size": -3, "sampling_rate": 16000}',
     '{"model_type": "wav2vec2", "sampling_rate": 0}', DEEP],
)  # fmt: skip
def test_a_configuration_of_impossible_numbers_is_refused(config: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(save({"a": np.zeros(2, dtype=np.float32)}))
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text(config)
    with pytest.raises(ModelError, match="is not valid"):
        load_audio_encoder(f"transformers/{tmp_path}")


@pytest.mark.parametrize("room", ["1e999", "-1", '{"a": 1}'])
def test_a_language_model_with_impossible_room_is_refused(room: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(save({"a": np.zeros(2, dtype=np.float32)}))
    (tmp_path / "config.json").write_text(f'{{"max_position_embeddings": {room}}}')
    with pytest.raises(ModelError, match="is not valid"):
        load_text_scorer(f"perplexity/{tmp_path}")


@pytest.mark.parametrize("part", [[["diffusers"], "x"], [{}, "x"], [], [3, "x"]])
def test_a_pipelines_part_from_nowhere_is_refused(part: list[Any], tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(save({"a": np.zeros(2, dtype=np.float32)}))
    index = {"_class_name": "DDIMPipeline", "unet": part}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="not of diffusers"):
        model_folder(str(tmp_path), "pipeline")


# --- studies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["set", "sets", "kind", "pair"])
def test_a_key_that_does_not_fit_itself_is_refused(change: str, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        for k in range(6):
            Image.new("L", (16, 16), 9 * k + len(name)).save(tmp_path / name / f"{k}.png")
    sets = [tmp_path / "first", tmp_path / "second"]
    new_study(sets, tmp_path / "study", kind="mos", n=4)
    path = tmp_path / "study" / "key.json"
    key = json.loads(path.read_text())
    read_key(path)
    if change == "set":
        next(iter(key["items"].values()))["set"] = "third"
    elif change == "sets":
        del key["sets"][0]
    elif change == "kind":
        key["kind"] = "ab"
    else:
        next(iter(key["trials"].values()))["items"] *= 2
    path.write_text(json.dumps(key))
    with pytest.raises(DataError, match="is damaged"):
        read_key(path)


# --- what runs of ours keep -----------------------------------------------------------------------


def test_a_learned_operation_is_as_it_was_saved_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    path = tmp_path / "m.npz"
    items = [Item(str(k), Image.fromarray(p), "ab"[k % 2]) for k, p in enumerate(pixels)]
    model = ClassSampler.fit(items, size=8)
    model.save(path)
    whole = path.read_bytes()
    assert ClassSampler.load(path).model_sha256 == model.model_sha256
    refused = 0
    cuts = [whole[:k] for k in range(0, len(whole), 997)]
    flips = []
    for k in rng.integers(0, len(whole), 150):
        flipped = bytearray(whole)
        flipped[k] ^= 1 << rng.integers(8)
        flips.append(bytes(flipped))
    for data in (*cuts, *flips, b"", b"PK"):
        path.write_bytes(data)
        try:
            found = ClassSampler.load(path)
        except DataError:
            refused += 1
        else:  # what was flipped is a date, say
            assert found.model_sha256 == model.model_sha256
    assert refused > len(cuts)


@pytest.mark.parametrize(
    ("name", "content"),
    [("job.json", "{"), ("job.json", "[]"), ("job.json", DEEP), ("journal.jsonl", "[]\n"),
     ("journal.jsonl", "{}\n"), ("journal.jsonl", '{"id": 3, "variant": 0}\n'),
     ("journal.jsonl", DEEP + "\n"), ("journal.jsonl", "\udcff\n")],
)  # fmt: skip
def test_a_damaged_state_of_generate_is_named(name: str, content: str, tmp_path: Path) -> None:
    recipe = parse_recipe("{version: 1, seed: 7, steps: [corrupt: {kind: fog}]}")
    items = [Item("a", Image.new("L", (8, 8), 99), None)]
    generate_folder(recipe.operation(), items, tmp_path, seed=7)
    file = tmp_path / ".evalsuite" / name
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(EvalsuiteError, match=f"{name} is damaged"):
        generate_folder(recipe.operation(), items, tmp_path, seed=7)


def test_a_state_of_generate_with_impossible_numbers_is_another_run(tmp_path: Path) -> None:
    recipe = parse_recipe("{version: 1, seed: 7, steps: [corrupt: {kind: fog}]}")
    items = [Item("a", Image.new("L", (8, 8), 99), None)]
    generate_folder(recipe.operation(), items, tmp_path, seed=7)
    file = tmp_path / ".evalsuite" / "job.json"
    file.write_text(file.read_text().replace(": 7", ": NaN"))
    with pytest.raises(UsageError, match="made with another seed"):
        generate_folder(recipe.operation(), items, tmp_path, seed=7)


def test_a_damaged_search_is_named(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(DEEP)
    with pytest.raises(UsageError, match="is damaged"):
        _same_job(tmp_path / "job.json", {})


def test_a_record_without_end_is_refused() -> None:
    row: dict[str, Any] = dict.fromkeys(Record.__dataclass_fields__, "x")
    row |= {"operation": DEEP, "params": "{}", "trace": "[]"}
    with pytest.raises(ReplayError, match="not a generation record"):
        Record.from_row(row)


@pytest.mark.parametrize(
    "change",
    [{"params": "3.5"}, {"params": "[]"}, {"params": "{}"}, {"parents": [{}]}, {"trace": "[3]"},
     {"sha256": 3}, {"operation": '{"name": {}, "version": 1, "params": {}}'}],
)  # fmt: skip
def test_a_record_of_other_kinds_is_not_replayed(change: dict[str, Any]) -> None:
    picture = Image.new("L", (8, 8), 99)
    recipe = parse_recipe("{version: 1, seed: 7, steps: [corrupt: {kind: fog}]}")
    _, record = produce(recipe.operation(), Item("a", picture, None), seed=3)
    row = record.to_row()
    replay(Record.from_row(row), picture)
    with pytest.raises(ReplayError):
        replay(Record.from_row({**row, **change}), picture)


def test_a_segment_of_the_cache_that_is_none_is_left_out(tmp_path: Path) -> None:
    """Its name fits its content, which is not what we write."""
    one, whole = {"a": np.zeros(3)}, np.zeros(32, dtype=np.uint8)
    odd = {"digests": whole, "offsets": np.array([0, 9]), "data": np.zeros(3, dtype=np.uint8)}
    folder = tmp_path / "v1" / "features" / "ab"
    folder.mkdir(parents=True)
    for tensors in (one, odd, {"digests": whole}, {**odd, "offsets": np.array([1.0, 3.0])}):
        content = save(tensors)
        (folder / hashlib.sha256(content).hexdigest()).write_bytes(content)
        cache = FeatureCache(tmp_path)
        assert cache.records("features", "ab").get(bytes(32)) is None
        assert cache.corrupt == 1
        assert not list(folder.iterdir())


HISTORY = (
    "UPDATE run SET verdict = 'odd'",
    "UPDATE finding SET status = 'odd'",
    "UPDATE reason SET status = 'odd'",
    "ALTER TABLE finding ADD COLUMN more TEXT",
    "DROP TABLE reason",
    "CREATE TABLE more (a)",
    "UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'finding'",
    "UPDATE sqlite_schema SET sql = CAST(x'8c8c8c' AS TEXT) WHERE name = 'finding'",
)


@pytest.mark.parametrize("statement", HISTORY)
def test_a_history_that_is_not_ours_any_more_is_refused(statement: str, tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    result = GateResult.model_validate_json(_small_result())
    History(path, create=True).add(result, series="s")
    write_history(History(path), tmp_path / "page.html", today=date(2026, 1, 1))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute(statement)
    with pytest.raises(DataError, match=r"damaged|cannot use"):
        write_history(History(path), tmp_path / "page.html", today=date(2026, 1, 1))


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE answers ADD COLUMN more",
        "DROP TABLE dead_letters",
        "UPDATE sqlite_schema SET sql = CAST(x'8c8c8c' AS TEXT) WHERE name = 'answers'",
    ],
)
def test_a_journal_that_is_not_ours_any_more_is_refused(statement: str, tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with closing(Journal(path)) as journal:
        journal.put("k", "ok", b"{}", model="m", path="/p", prompt=None)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute(statement)
    with pytest.raises(DataError, match=r"damaged|cannot be used"):
        Journal(path)


def test_an_answer_that_is_no_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with closing(Journal(path)) as journal:
        journal.put("k", "ok", b"{}", model="m", path="/p", prompt=None)
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("UPDATE answers SET body = 'text'")
        with pytest.raises(DataError, match="damaged at k"):
            journal.get("k")


def test_a_result_with_values_at_the_end_of_all_floats_is_shown() -> None:
    result = GateResult.model_validate_json(_small_result())
    for real, synthetic in (((1e308, -1e308, 0.5), (1.0, 2.0)), ((1e308, 1e308), (-1e308, 0.0))):
        odd = result.model_copy(
            update={"attributes": {"brightness": {"real": real, "synthetic": synthetic}}}
        )
        for form in (render_html, render_markdown, render_junit):
            assert "brightness" in form(odd) or form is not render_html


# --- what is typed --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a=[", "a=1:[", "a=!!python/object:os.system", "a=\x00", "a={"])
def test_a_knob_that_is_no_yaml_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Knob.parse(text)


def test_a_host_that_no_name_can_be_is_not_reached() -> None:
    for host in ("a\x00b", "x" * 300, "\udcff"):
        with pytest.raises((Cut, UsageError)):
            Server.parse(f"http://{host}:80/").addresses()
