"""`evalsuite generate`: make a synthetic set by a recipe."""

from __future__ import annotations

import shlex
from collections import Counter
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_options import Threads
from .errors import UsageError

if TYPE_CHECKING:
    from .data import Dataset
    from .generators import FolderReport

SHOWN_REASONS = 3


class Format(StrEnum):
    """How the made samples are written."""

    FOLDER = "folder"
    PARQUET = "parquet"
    WEBDATASET = "webdataset"


def generate(
    recipe: Annotated[Path, typer.Argument(help="Recipe: a YAML file of operations and a seed.")],
    real: Annotated[
        str, typer.Option("--input", help="Real data: folder, manifest, Parquet, tar.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for what is made; goes on where it stopped.")],
    n: Annotated[int | None, typer.Option("--n", min=1, help="Samples to make in all.")] = None,
    per_item: Annotated[
        int | None, typer.Option(min=1, help="Samples to make of each; in place of the recipe's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="In place of the recipe's.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Only the samples of this split of the input.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.FOLDER,
    workers: Threads = 1,
    endpoint: Annotated[
        str | None,
        typer.Option(help="Server of operations that ask a model: on premise, such as vLLM."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Public host that may be asked; repeat it.")
    ] = None,
    max_calls: Annotated[int | None, typer.Option(min=1, help="Requests to pay for.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens to pay for.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0, help="Time of requests.")] = None,
    retry_refused: Annotated[
        bool, typer.Option(help="Ask again what an earlier run was refused.")
    ] = False,
    strict: Annotated[
        bool, typer.Option(help="Exit code 3 if any sample could not be made.")
    ] = False,
) -> None:
    """Make a synthetic set of a real one.

    Exit codes: 0 made (with --strict: all of it), 2 usage or recipe error, 3 data or run error.
    """
    from . import hops  # noqa: F401 - makes its operations known to recipes
    from .data import open_dataset
    from .generators import generate_dataset, items_of, load_recipe
    from .generators.endpoints.client import Budget, Session

    loaded = load_recipe(recipe)
    changes = {"seed": seed, "variants": per_item}
    loaded = loaded.model_copy(update={k: v for k, v in changes.items() if v is not None})
    if n is not None and per_item is not None:
        raise UsageError("give --n or --per-item, not both")
    data = open_dataset(real, split=split, allow_hosts=allow_host or ())
    with ExitStack() as stack:
        session = None
        if asks_an_endpoint(loaded.steps):
            session = Session(
                out / ".evalsuite" / "answers.sqlite",
                url=endpoint,
                budget=Budget(calls=max_calls, tokens=max_tokens, seconds=max_seconds),
                allow_hosts=tuple(allow_host or ()),
                retry_refused=retry_refused,
            )
            stack.enter_context(session)
        report = generate_dataset(
            loaded,
            items_of(data),
            out,
            form=form.value,
            n=n,
            source=data.name,
            workers=workers,
        )
    _say(report, data)
    if session is not None:
        used = session.usage
        typer.echo(
            f"  endpoint: {used.calls} requests, {used.from_journal} answers from the journal, "
            f"{used.tokens_in + used.tokens_out} tokens, {used.refused} refused, "
            f"{used.truncated} cut off, {used.failed} failed"
        )
    typer.echo(f"next: evalsuite gate {shlex.quote(real)} {shlex.quote(str(out))}")
    if strict and report.failures:
        raise typer.Exit(3)


def asks_an_endpoint(steps: object) -> bool:
    """Say whether a recipe's steps hold an operation that asks a server, at any depth."""
    from .generators.registry import operation_module

    if isinstance(steps, str):
        return ".endpoints." in operation_module(steps)
    if isinstance(steps, dict):
        return any(asks_an_endpoint(part) for item in steps.items() for part in item)
    return isinstance(steps, list | tuple) and any(map(asks_an_endpoint, steps))


def _say(report: FolderReport, data: Dataset) -> None:
    made = report.n_written + report.n_kept
    wanted = made + len(report.failures)
    typer.echo(f"made {made} of {wanted} samples of {report.n_items} in {report.path}")
    if report.n_kept:
        typer.echo(f"  {report.n_kept} were there from an earlier run")
    if report.n_unchanged:
        typer.echo(f"  {report.n_unchanged} equal their parent")
    lost = Counter(problem.kind for problem in data.problems if problem.lost)
    for problem, count in sorted(lost.items()):
        typer.echo(f"  input: {count} {problem}")
    for kind in ("failed", "dropped", "refused"):
        missing = [f for f in report.failures if f.kind == kind]
        if missing:
            typer.echo(f"  {kind}: {len(missing)}")
        for failure in missing[:SHOWN_REASONS]:
            typer.echo(f"    {failure.id}: {failure.reason}")
        if len(missing) > SHOWN_REASONS:
            typer.echo(f"    and {len(missing) - SHOWN_REASONS} more in .evalsuite/failures.jsonl")
