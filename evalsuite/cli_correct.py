"""`evalsuite correct` and `evalsuite tune`: bring a synthetic set nearer to the real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import (
    AllowDownload,
    AllowHost,
    Cache,
    Device,
    Lang,
    Language,
    PolicyFile,
    RealData,
    Redact,
    Seed,
    Threads,
)

SHOWN = 5


def correct(
    real: RealData,
    synthetic: Annotated[str, typer.Argument(help="Synthetic data, likewise.")],
    out: Annotated[Path, typer.Option(help="New folder for the corrected set and the reports.")],
    using: Annotated[
        str, typer.Option("--with", help="Corrections and selections, with commas; or auto.")
    ] = "auto",
    policy: PolicyFile = None,
    modality: Annotated[
        str | None, typer.Option(help="What to correct, where records hold several media.")
    ] = None,
    keep: Annotated[float, typer.Option(help="Share that selection by size keeps.")] = 0.5,
    seed: Seed = None,
    workers: Threads = 1,
    lang: Lang = Language.EN,
    redact: Redact = False,
    device: Device = "auto",
    cache: Cache = True,
    allow_download: AllowDownload = False,
    allow_host: AllowHost = None,
) -> None:
    """Correct a synthetic set and judge it on real data that nothing was fitted on.

    Exit codes: 0 improved, 1 not improved, 2 usage or policy error, 3 data or run error.
    """
    from .correct import correct as run
    from .correct.selecting import selections_for

    result = run(
        real,
        synthetic,
        out=out,
        using=_names(using),
        policy=policy,
        modality=modality,
        keep=keep,
        seed=seed,
        cache=cache,
        device=device,
        allow_download=allow_download,
        allow_hosts=allow_host or (),
        workers=workers,
        lang=lang.value,
        redact=redact,
    )
    typer.echo("IMPROVED" if result.improved else "NOT IMPROVED")
    for reason in result.reasons[:SHOWN]:
        typer.echo(f"  {reason.text}")
    for drifted in result.drifted[:SHOWN]:
        acting = ", ".join(drifted.corrections) or f"nothing here changes it ({drifted.acts})"
        if keeping := selections_for(drifted.attribute):
            acting += f"; --with {', '.join(keeping)} keeps samples by it"
        typer.echo(f"  drifted: {drifted.attribute} by {drifted.effect:.2g} real sd: {acting}")
    if (more := len(result.drifted) - SHOWN) > 0:
        typer.echo(f"  drifted: {more} more, on the page")
    if result.corrections:
        typer.echo(f"  applied: {', '.join(c['name'] for c in result.corrections)}")
    for name, why in result.skipped:
        typer.echo(f"  not applied: {name}: {why.text}")
    for name, what in result.selections:
        typer.echo(f"  {name}: {'; '.join(m.text for m in what)}")
    for tie in result.ties:
        typer.echo(
            f"  {tie.metric}: {tie.before:.3g} → {tie.after:.3g} {tie.unit} (told, not judged)"
        )
    if result.n_failed:
        typer.echo(f"  {result.n_failed} samples could not be corrected and are left out")
    typer.echo(f"  gate: {result.verdict_before} before, {result.verdict_after or 'not run'} after")
    if result.verdict_after is None:
        typer.echo(f"report: {out / 'before' / 'report.html'}")
    else:
        typer.echo(f"corrected set: {out / 'corrected'} ({result.n_corrected} samples)")
        typer.echo(f"report: {out / 'after' / 'report.html'}")
    typer.echo(f"page: {out / 'correction.html'}")
    raise typer.Exit(result.exit_code)


def tune(
    recipe: Annotated[Path, typer.Argument(help="Recipe whose knobs are searched.")],
    real: Annotated[str, typer.Option("--input", help="Real data to generate from, and to match.")],
    out: Annotated[Path, typer.Option(help="Folder for the study; goes on where it stopped.")],
    knobs: Annotated[
        list[str],
        typer.Option("--knob", help="Argument and range: steps.0.corrupt.severity=1:5"),
    ],
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, with those done.")] = 20,
    n: Annotated[int, typer.Option("--n", min=1, help="Samples to make in each trial.")] = 100,
    coverage: Annotated[
        float, typer.Option(help="Least coverage, as a share of what real data reaches.")
    ] = 0.8,
    policy: PolicyFile = None,
    seed: Annotated[int | None, typer.Option(min=0, help="In place of the recipe's.")] = None,
    cache: Cache = True,
    allow_host: AllowHost = None,
) -> None:
    """Search a recipe's knobs for the smallest gap at a stated coverage.

    Exit codes: 0 found, 1 no trial reached the coverage, 2 usage or recipe error, 3 data or run
    error.
    """
    from .tune import tune as run

    result = run(
        recipe, real, out=out, knobs=knobs, trials=trials, n=n, coverage=coverage, policy=policy,
        seed=seed, cache=cache, allow_hosts=allow_host or (),
    )  # fmt: skip
    if result.best is None:
        most = max(result.trials, key=lambda t: (t.coverage, -t.gap))
        typer.echo(
            f"no trial of {len(result.trials)} reached the coverage of {coverage:g}; the most was "
            f"{most.coverage:.3g}, at {_settings(most.knobs)} (gap {most.gap:.4g})"
        )
        typer.echo("next: the same with more --trials, which goes on; or other ranges in a new "
                   "folder; or less --coverage")  # fmt: skip
    else:
        best = result.best
        typer.echo(f"best of {len(result.trials)} trials: {_settings(best.knobs)}")
        typer.echo(f"  gap {best.gap:.4g} in the search, coverage {best.coverage:.3g}")
        typer.echo(
            f"  on real data that the search did not see: gap {result.judged_gap:.4g}, coverage "
            f"{result.judged_coverage:.3g}; by the second look: gap {result.second_gap:.4g}"
        )
        typer.echo(f"recipe: {result.recipe}")
    raise typer.Exit(0 if result.best is not None else 1)


def _settings(knobs: Mapping[str, object]) -> str:
    return ", ".join(
        f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}"
        for path, value in knobs.items()
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
