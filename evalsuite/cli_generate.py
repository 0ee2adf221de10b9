"""`evalsuite generate`: make a synthetic set by a recipe."""

from __future__ import annotations

import shlex
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    workers: Annotated[int, typer.Option(min=1, help="Threads; the result is the same.")] = 1,
    strict: Annotated[
        bool, typer.Option(help="Exit code 3 if any sample could not be made.")
    ] = False,
) -> None:
    """Make a synthetic set of a real one.

    Exit codes: 0 made (with --strict: all of it), 2 usage or recipe error, 3 data or run error.
    """
    from .data import open_dataset
    from .generators import generate_dataset, items_of, load_recipe

    loaded = load_recipe(recipe)
    changes = {"seed": seed, "variants": per_item}
    loaded = loaded.model_copy(update={k: v for k, v in changes.items() if v is not None})
    if n is not None and per_item is not None:
        raise UsageError("give --n or --per-item, not both")
    data = open_dataset(real, split=split)
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
    typer.echo(f"next: evalsuite gate {shlex.quote(real)} {shlex.quote(str(out))}")
    if strict and report.failures:
        raise typer.Exit(3)


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
