"""Object stores: the same samples as on a disk, streamed, and nothing asked that is not allowed."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import socket
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.correct import correct
from evalsuite.data import open_dataset, remote
from evalsuite.data.dataset import BadSample, Limits
from evalsuite.data.files import read_file
from evalsuite.data.remote import RemotePath, Storage, StoreError
from evalsuite.errors import DataError, EvalsuiteError, UsageError
from evalsuite.gate.audit import AuditResult
from evalsuite.gate.comparison import Comparison
from evalsuite.pipeline.audit import audit
from evalsuite.pipeline.compare import compare
from evalsuite.pipeline.run import run_gate

PUBLIC = "https://8.8.8.8"  # an address, not a name: nobody is asked to resolve it


def keys_of_the_environment() -> list[bytes]:
    return [os.environ[name].encode() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]


@pytest.fixture(scope="module")
def kinds(bucket: Any, folders: tuple[Path, Path], tmp_path_factory: Any) -> dict[str, Path]:
    """The same images in each format: on the disk, and under the same name in the bucket."""
    home = tmp_path_factory.mktemp("kinds")
    real = folders[0]
    content = {path.name: path.read_bytes() for path in sorted(real.iterdir())}
    (home / "folder").mkdir()
    for i, (name, data) in enumerate(content.items()):
        (home / "folder" / "abc"[i % 3]).mkdir(exist_ok=True)
        (home / "folder" / "abc"[i % 3] / name).write_bytes(data)
    (home / "folder" / "empty.png").touch()
    (home / "folder" / ".hidden.png").write_bytes(data)
    (home / "folder" / "<b>é & ？.png").write_bytes(data)
    (home / "folder" / "README.md").write_text("Beside the media.")
    (home / "parquet").mkdir()
    table = pa.table({"image": list(content.values()), "label": ["x", "y"] * 20})
    pq.write_table(table, home / "parquet" / "train-0.parquet", row_group_size=7)
    (home / "parquet" / "broken.parquet").write_bytes(b"PAR1 and no more")
    (home / "shards").mkdir()
    with tarfile.open(home / "shards" / "0.tar", "w") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    (home / "shards" / "cut.tar").write_bytes((home / "shards" / "0.tar").read_bytes()[:100_000])
    shutil.copytree(real, home / "listed" / "pictures")
    rows = [{"file_name": f"pictures/{n}", "label": "z"} for n in content]
    rows += [{"file_name": "pictures/gone.png"}, {"file_name": "../folder/empty.png"}]
    (home / "listed" / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (home / "texts.jsonl").write_text('{"text": "a cup"}\n{"text": "of coffee"}\nno json\n')
    for path in home.rglob("*"):
        if path.is_file():
            bucket.pipe(f"bucket/kinds/{path.relative_to(home).as_posix()}", path.read_bytes())
    bucket.call_s3("put_object", Bucket="bucket", Key="kinds/folder/a/", Body=b"")
    return {
        "folder": home / "folder",
        "parquet": home / "parquet",
        "parquet/train-0.parquet": home / "parquet" / "train-0.parquet",
        "shards": home / "shards",
        "shards/0.tar": home / "shards" / "0.tar",
        "listed/list.jsonl": home / "listed" / "list.jsonl",
        "texts.jsonl": home / "texts.jsonl",
    }


@pytest.mark.parametrize(
    "kind",
    [
        "folder", "parquet", "parquet/train-0.parquet", "shards", "shards/0.tar",
        "listed/list.jsonl", "texts.jsonl",
    ],
)  # fmt: skip
def test_a_bucket_holds_what_a_folder_holds(kinds: dict[str, Path], kind: str) -> None:
    here, there = open_dataset(kinds[kind]), open_dataset(f"s3://bucket/kinds/{kind}")
    assert there.samples == here.samples
    assert there.format == here.format
    assert there.name == here.name
    assert there.ignored == here.ignored
    assert [(p.sample, p.kind, p.lost) for p in there.problems] == [
        (p.sample, p.kind, p.lost) for p in here.problems
    ]
    for mine, theirs in zip(here, there, strict=True):
        said = []
        for data, sample in ((here, mine), (there, theirs)):
            try:
                said.append(data.read(sample))
                with data.open(sample) as file:
                    assert file.read() == said[-1]
            except BadSample as bad:
                said.append(bad.kind.encode())
        assert said[0] == said[1]


def test_a_sample_is_read_without_the_rest(
    kinds: Any, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = RemotePath.read
    monkeypatch.setattr(
        RemotePath,
        "read",
        lambda path, o, n: read.append(n) or real(path, o, n),  # type: ignore[func-returns-value]
    )
    data = open_dataset("s3://bucket/kinds/shards/0.tar")
    read.clear()
    assert sum(read) == 0
    content = data.read(data.samples[30])
    assert sum(read) == len(content)


def test_findings_of_a_bucket_are_those_of_the_folder(
    bucket: Any, folders: tuple[Path, Path]
) -> None:
    one, other = (
        run_gate(f"{top}/real", f"{top}/synthetic", cache=False, command="same").result
        for top in (folders[0].parent, "s3://bucket")
    )
    alone, far = (r.model_copy(update={"times": {}}).model_dump(mode="json") for r in (one, other))
    assert alone == far


QUICK = (
    "{version: 1, min_samples: 12, rules: [{metric: kid, tolerance: 0.5}], "
    "calibration: {splits: 20, permutations: 99, costly_permutations: 99}}"
)
HOST = "store.example"


@pytest.fixture(scope="module")
def delivered(bucket: Any, folders: tuple[Path, Path], tmp_path_factory: Any) -> Path:
    """Two sets with rows that say how they were made, one with a description that does not hold."""
    home = tmp_path_factory.mktemp("delivered")
    for name, severity, sides in (("a", 1.0, folders), ("b", 3.0, reversed(folders))):
        (home / name).mkdir()
        content = [path.read_bytes() for side in sides for path in sorted(side.iterdir())[:12]]
        rows = []
        for i, data in enumerate(content):
            (home / name / f"{i:02d}.png").write_bytes(data)
            made = json.dumps({"severity": severity})
            rows.append(json.dumps({"file_name": f"{i:02d}.png", "params": made}))
        (home / name / "metadata.jsonl").write_text("\n".join(rows))
    (home / "a" / "03.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    files = [
        {"contentUrl": "01.png", "sha256": "0" * 64},
        {"contentUrl": "../b/01.png", "sha256": ""},
    ]
    described = {"name": "a", "license": "CC0-1.0", "distribution": files}
    (home / "a" / "croissant.json").write_text(json.dumps(described))
    (home / "quick.yaml").write_text(QUICK)
    for path in home.rglob("*.*"):
        bucket.pipe(f"bucket/delivered/{path.relative_to(home).as_posix()}", path.read_bytes())
    return home


def timeless(result: Any) -> Any:
    return result.model_copy(update={"times": {}, "command": ""}).model_dump(mode="json")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, fresh: Any) -> list[tuple[str, ...]]:
    """The names that each store was allowed by; what is checked of them stays checked."""
    seen: list[tuple[str, ...]] = []
    real = remote._check_server
    monkeypatch.setattr(remote, "_check_server", lambda e, a: seen.append(a) or real(e, a))
    return seen


def test_an_audit_of_a_bucket_is_that_of_the_folder(
    delivered: Path, folders: tuple[Path, Path], asked: list[Any], tmp_path: Path
) -> None:
    here = audit(delivered / "a", holdout=folders[0], cache=False).result
    words = ["audit", "s3://bucket/delivered/a", "--holdout", "s3://bucket/real", "--no-cache"]
    done = CliRunner().invoke(app, [*words, "--allow-host", HOST, "--out", str(tmp_path)])
    assert done.exit_code == here.exit_code, done.output
    there = AuditResult.model_validate_json((tmp_path / "audit.json").read_bytes())
    assert timeless(there) == timeless(here)
    assert f"--allow-host {HOST}" in there.command
    assert set(asked) == {(HOST,)}
    checks = {check.id: check for check in there.checks}
    assert checks["checksums"].count == 2  # the description was read, and its files
    (damaged,) = checks["unreadable"].examples
    assert (damaged.place.uri, damaged.place.line) == ("metadata.jsonl", 4)


def test_a_comparison_in_a_bucket_is_that_of_the_folders(
    delivered: Path, folders: tuple[Path, Path], asked: list[Any], tmp_path: Path
) -> None:
    policy = delivered / "quick.yaml"
    here, _ = compare(
        folders[0],
        [delivered / "a", delivered / "b"],
        knobs=["severity"],
        policy=policy,
        cache=False,
    )
    words = ["compare", "s3://bucket/real", "s3://bucket/delivered/a", "s3://bucket/delivered/b"]
    options = ["--knob", "severity", "--policy", str(policy), "--allow-host", HOST]
    done = CliRunner().invoke(app, [*words, *options, "--out", str(tmp_path)])
    assert done.exit_code in {0, 1, 4}, done.output
    there = Comparison.model_validate_json((tmp_path / "comparison.json").read_bytes())
    assert timeless(there) == timeless(here)
    assert [c.dose for c in sorted(there.candidates, key=lambda c: c.name)] == [1.0, 3.0]
    assert f"--allow-host {HOST}" in there.command
    assert set(asked) == {(HOST,)}


def test_generators_read_a_store(delivered: Path, asked: list[Any], tmp_path: Path) -> None:
    recipe = tmp_path / "blur.yaml"
    recipe.write_text("{version: 1, seed: 7, steps: [corrupt: {kind: gaussian_blur}]}")
    words = ["generate", str(recipe), "--n", "4", "--allow-host", HOST, "--input"]
    for name, source in (("here", str(delivered / "b")), ("there", "s3://bucket/delivered/b")):
        done = CliRunner().invoke(app, [*words, source, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    assert set(asked) == {(HOST,)}
    made = [
        {p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.png")}
        for name in ("here", "there")
    ]
    assert made[0]
    assert made[0] == made[1]


CORRECT = ["correct", "s3://bucket/real", "s3://bucket/delivered/b", "--with", "match_histogram"]
TUNE = ["tune", "RECIPE", "--input", "s3://bucket/real", "--knob", "steps.0.corrupt.severity=1:5"]
STUDY = ["study", "new", "s3://bucket/real", "s3://bucket/delivered/b", "--n", "4"]


@pytest.mark.parametrize("words", [CORRECT, TUNE, STUDY], ids=["correct", "tune", "study"])
def test_a_store_that_is_not_allowed_is_not_asked_by_any_command(
    words: list[str], server: str, fresh: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not a single connection is tried; with the host allowed, it would be."""
    recipe = tmp_path / "blur.yaml"
    recipe.write_text("{version: 1, seed: 7, steps: [corrupt: {kind: gaussian_blur, severity: 1}]}")
    command = [str(recipe) if w == "RECIPE" else w for w in words]
    monkeypatch.setenv("AWS_ENDPOINT_URL", PUBLIC)
    tried: list[Any] = []

    def refuse(_: Any, address: Any) -> None:
        tried.append(address)
        raise OSError("the network is cut for this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, UsageError)
    assert "--allow-host 8.8.8.8" in str(done.exception)
    assert tried == []


def test_a_correction_of_a_bucket_is_that_of_the_folder(
    delivered: Path, folders: tuple[Path, Path], asked: list[Any], tmp_path: Path
) -> None:
    policy = delivered / "quick.yaml"
    here = correct(
        folders[0], delivered / "b", out=tmp_path / "here", using=("match_histogram",),
        policy=policy, cache=False, progress=False,
    )  # fmt: skip
    options = ["--policy", str(policy), "--no-cache", "--allow-host", HOST]
    done = CliRunner().invoke(app, [*CORRECT, *options, "--out", str(tmp_path / "there")])
    assert done.exit_code == here.exit_code, done.output
    assert set(asked) == {(HOST,)}
    mine, theirs = (
        json.loads((tmp_path / side / "correction.json").read_text()) for side in ("here", "there")
    )
    assert f"--allow-host {HOST}" in theirs.pop("command")
    mine.pop("command")
    assert mine == theirs


def test_a_search_and_a_study_read_a_store(
    delivered: Path, asked: list[Any], tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, [*STUDY, "--allow-host", HOST, "--out", str(tmp_path / "study")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "study" / "study.html").stat().st_size > 10_000
    assert set(asked) == {(HOST,)}
    remote._file_system.cache_clear()
    asked.clear()
    recipe = tmp_path / "blur.yaml"
    recipe.write_text("{version: 1, seed: 7, steps: [corrupt: {kind: gaussian_blur, severity: 1}]}")
    words = [str(recipe) if w == "RECIPE" else w for w in TUNE]
    done = CliRunner().invoke(app, [*words, "--allow-host", HOST, "--out", str(tmp_path / "tune")])
    assert isinstance(done.exception, DataError), done.output  # 40 samples are too few to search by
    assert "real samples" in str(done.exception) or "real data" in str(done.exception)
    assert set(asked) == {(HOST,)}


def test_what_is_sent_to_workers_holds_no_keys(bucket: Any) -> None:
    data = open_dataset("s3://bucket/real")
    data.read(data.samples[0])
    sent = pickle.dumps(data.part(data.located(data.samples[:3])))
    assert not any(key in sent for key in keys_of_the_environment())


def test_outputs_hold_no_keys(bucket: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["gate", "s3://bucket/real", "s3://bucket/synthetic", "--no-cache", "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1, done.output  # one of 41 is damaged
    result = json.loads((out / "result.json").read_text())
    assert "s3://bucket/real" in result["command"]
    for path in out.rglob("*"):
        if path.is_file():
            assert not any(key in path.read_bytes() for key in keys_of_the_environment())


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://me:pass-word@bucket/x", "user or password"),
        ("s3://bucket/x?X-Amz-Signature=pass-word", "query or a signature"),
        ("s3://bucket/x#pass-word", "query or a signature"),
        ("https://me:pass-word@host/x", "are not read"),
        ("ftp://host/pass-word", "are not read"),
        ("s3://", "is not an address"),
        ("s3://bucket/a/../b", "is not an address"),
    ],
)
def test_an_address_that_is_refused_is_not_repeated(address: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        open_dataset(address)
    assert "pass-word" not in str(caught.value)


@pytest.fixture
def fresh() -> Any:
    """File systems made anew: after the environment has changed, and once more after the test."""
    remote._file_system.cache_clear()
    yield
    remote._file_system.cache_clear()


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_a_public_store_is_asked_only_if_allowed_by_name(
    server: str, fresh: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, PUBLIC)
    with pytest.raises(UsageError, match=r"not on premise.*--allow-host 8\.8\.8\.8"):
        open_dataset("s3://bucket/real")
    assert Storage("s3", ("8.8.8.8",)).files.endpoint_url == PUBLIC  # made; nothing was asked
    remote._file_system.cache_clear()
    monkeypatch.setenv(name, PUBLIC.replace("https", "http"))  # keys would be readable
    with pytest.raises(UsageError, match="not encrypted"):
        open_dataset("s3://bucket/real", allow_hosts=["8.8.8.8"])


def test_google_is_asked_only_if_allowed(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", PUBLIC)
    with pytest.raises(UsageError, match="not on premise"):
        open_dataset("gs://bucket/real")


def test_keys_come_from_the_environment_alone(
    bucket: Any, fresh: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither files of the user's, nor a proxy, nor the cloud's own address for secrets."""
    other = tmp_path / "config"
    other.write_text("[default]\nendpoint_url = http://127.0.0.1:9\naws_access_key_id = other\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(other))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(other))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert len(open_dataset("s3://bucket/real")) == 40
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    remote._file_system.cache_clear()
    assert Storage("s3").files.anon is True  # not signed: no secret is looked for


def test_a_store_that_does_not_answer_ends_the_run(
    server: str, fresh: Any, monkeypatch: pytest.MonkeyPatch, bucket: Any
) -> None:
    data = open_dataset("s3://bucket/real")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    remote._file_system.cache_clear()
    with pytest.raises(StoreError, match="s3://bucket/real"):
        open_dataset("s3://bucket/real")
    # In the middle of a run no sample is to blame: it must not count as a bad one.
    with pytest.raises(StoreError, match=r"s3://bucket/real/00\.png"):
        data.read(data.samples[0])


@pytest.mark.parametrize(
    ("address", "words"),
    [("s3://nowhere/x", "s3://nowhere/x"), ("s3://bucket/nothing", "nothing under")],
)
def test_nothing_there_is_said(bucket: Any, address: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(address)


def test_a_listing_is_bounded(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_OBJECTS", 39)
    with pytest.raises(DataError, match="more than 39 objects"):
        open_dataset("s3://bucket/real")


def test_an_object_that_is_gone_or_shorter_is_a_bad_sample(bucket: Any) -> None:
    content = bucket.cat_file("bucket/real/00.png")
    for name in ("stays.png", "goes.png", "shrinks.png"):
        bucket.pipe(f"bucket/changing/{name}", content)
    data = open_dataset("s3://bucket/changing")
    bucket.call_s3("delete_object", Bucket="bucket", Key="changing/goes.png")
    bucket.pipe("bucket/changing/shrinks.png", content[:50])
    kinds = {}
    for sample in data:
        try:
            data.read(sample)
        except BadSample as bad:
            kinds[sample.id] = bad.kind
    assert kinds == {"goes.png": "missing", "shrinks.png": "truncated"}


def test_names_that_lead_elsewhere_are_not_read(bucket: Any) -> None:
    content = bucket.cat_file("bucket/real/00.png")
    keys = ("ok.png", "a/../../real/00.png", "//x.png", "a/./y.png", ".secret/z.png")
    for key in keys:
        bucket.call_s3("put_object", Bucket="bucket", Key=f"odd/{key}", Body=content)
    data = open_dataset("s3://bucket/odd")
    assert [s.id for s in data] == ["ok.png"]
    assert {p.kind for p in data.problems} == {"outside_folder"}
    assert len(data.problems) + sum(data.ignored.values()) == len(keys) - 1


def test_a_table_cannot_name_files_of_this_machine(bucket: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(bucket.cat_file("bucket/real/00.png"))
    for i, path in enumerate((str(secret), "../real/00.png", f"file://{secret}", "s3://x/y.png")):
        rows = pa.table({"image": [path], "label": ["x"]})
        file = io.BytesIO()
        pq.write_table(rows, file)
        bucket.pipe(f"bucket/named{i}/0.parquet", file.getvalue())
        data = open_dataset(f"s3://bucket/named{i}")
        with pytest.raises(BadSample) as caught:
            data.read(data.samples[0])
        assert caught.value.kind == "outside_folder"


def test_file_addresses_keep_the_rules_of_folders(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "in.png").write_bytes((folders[0] / "00.png").read_bytes())
    (tmp_path / "out.png").symlink_to(folders[0] / "01.png")
    data = open_dataset(f"file://{tmp_path}")
    assert [s.id for s in data] == ["in.png"]
    assert [p.kind for p in data.problems] == ["outside_folder"]


def test_limits_hold_for_objects_before_they_are_read(bucket: Any) -> None:
    path = next(p for p in remote.listed(remote.parse("s3://bucket/real")))
    with pytest.raises(BadSample, match="at most 10 are read"):
        read_file(path, Limits(max_bytes=10))


def test_without_its_library_the_extra_is_named(
    server: str, fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(EvalsuiteError, match=r"evalsuite\[s3\]"):
        open_dataset("s3://bucket/real")
    assert os.environ["AWS_ENDPOINT_URL"] == server
