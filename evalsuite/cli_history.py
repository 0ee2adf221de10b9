"""`evalsuite history`: runs over time, in one database file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import Lang, Language

history_app = typer.Typer(no_args_is_help=True, help="Runs over time: trends, stages, waivers.")

Database = Annotated[
    Path | None, typer.Option("--db", help="Database file. [environment: EVALSUITE_HISTORY]")
]
Series = Annotated[str | None, typer.Option(help="Which series of runs. [the only one there is]")]
StagesFile = Annotated[Path | None, typer.Option(help="Stages and their targets, YAML.")]
WaiversFile = Annotated[Path | None, typer.Option(help="Waivers with reason and last day, YAML.")]


@history_app.command("add")
def add(
    results: Annotated[
        list[Path],
        typer.Argument(help="result.json, or the folder of a gate or comparison.", metavar="..."),
    ],
    db: Database = None,
    series: Annotated[
        str | None, typer.Option(help="Which runs belong together. [the real set's name]")
    ] = None,
) -> None:
    """Record runs; one that is there already is left as it is.

    Exit codes: 0 done, 2 usage error, 3 data error.
    """
    from .history.store import History, database
    from .report import read_result

    files = [file for path in results for file in _results(path)]
    read = [(file, read_result(file)) for file in files]  # all are read before one is recorded
    history = History(database(db), create=True)
    for file, result in read:
        new = history.add(result, series=series)
        what = "recorded" if new else "already there"
        typer.echo(f"{what}: {result.verdict.value} {result.synthetic.name} ({file})")


def _results(path: Path) -> list[Path]:
    """Give the result of a gate, or those of all candidates of a comparison."""
    if path.is_dir() and not (path / "result.json").exists():
        found = sorted(path.glob("*/result.json"))
        if found and (path / "comparison.json").exists():
            return found
    return [path]


@history_app.command("show")
def show(
    db: Database = None,
    series: Series = None,
    metric: Annotated[str | None, typer.Option(help="Only this metric.")] = None,
) -> None:
    """Show the verdicts, and each metric's latest gap and change.

    Exit codes: 0 done, 2 usage error, 3 data error.
    """
    from .history.store import History, database
    from .history.trend import trends
    from .report.text import number, p_value

    history = History(database(db))
    name = history.choose(series)
    runs = history.runs(name)
    typer.echo(f"{name}: {len(runs)} runs")
    for run in runs[-10:]:
        typer.echo(f"  {run.began}  {run.verdict.value:<12}  {run.synthetic}")
    for trend in trends(runs, history.findings(runs, metric)):
        f, d = trend.points[-1][1], trend.delta
        line = f"{f.status.value:<12}  {trend.key}: gap {number(f.gap)}"
        if f.gap_low is not None:
            line += f" [{number(f.gap_low)}, {number(f.gap_high)}]"
        if d is not None:
            line += f"; change {number(d.change)}, adjusted p {p_value(d.p_adjusted)}"
            line += "" if d.same_weights else " (other weights: not comparable)"
            line += "" if d.same_real else " (other real data)"
        typer.echo(line)


@history_app.command("page")
def page(
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("history.html"),
    db: Database = None,
    series: Series = None,
    metric: Annotated[str | None, typer.Option(help="Only this metric's trends.")] = None,
    stages: StagesFile = None,
    waivers: WaiversFile = None,
    lang: Lang = Language.EN,
) -> None:
    """Write one page: verdict, stages, changes, trends with their bands, waivers.

    Exit codes: 0 done, 2 usage error, 3 data error.
    """
    from .gate.waivers import load_waivers
    from .history.report import write_history
    from .history.stages import load_stages
    from .history.store import History, database

    file = write_history(
        History(database(db)),
        out,
        series=series,
        metric=metric,
        stages=load_stages(stages) if stages else None,
        waivers=load_waivers(waivers) if waivers else (),
        today=datetime.now(UTC).date(),
        lang=lang.value,
    )
    typer.echo(f"page: {file}")


@history_app.command("check")
def check(
    stages: Annotated[Path, typer.Option(help="Stages and their targets, YAML.")],
    stage: Annotated[str, typer.Option(help="The stage that must be reached.")],
    db: Database = None,
    series: Series = None,
    waivers: WaiversFile = None,
) -> None:
    """Ask whether a stage is reached, for CI.

    Exit codes: 0 reached, 1 not, 2 usage error, 3 data error or a target not measured,
    4 inconclusive.
    """
    from .gate.judge import exit_code
    from .gate.waivers import load_waivers
    from .history.stages import judge_stages, load_stages
    from .history.store import History, database

    plan = load_stages(stages)
    position = plan.find(stage)
    history = History(database(db))
    runs = history.runs(history.choose(series))
    findings = history.findings(runs)
    batches = [[f for f in findings if f.run == run.id] for run in runs]
    states = judge_stages(
        plan,
        batches,
        load_waivers(waivers) if waivers else (),
        today=datetime.now(UTC).date(),
    )
    for state in states[: position + 1]:
        held = f"{state.in_a_row} of {state.stage.batches} batches"
        typer.echo(f"{state.status.value:<12}  {state.stage.name} ({held})")
        for t in state.targets:
            waived = f", waived until {t.waiver.expires}: {t.waiver.reason}" if t.waiver else ""
            gap = "not measured" if t.gap is None else f"gap {t.gap:.3g}"
            typer.echo(
                f"  {t.status.value:<12}  {t.target.metric}: {gap}, at most "
                f"{t.target.max_gap:g}{waived}"
            )
    raise typer.Exit(exit_code(states[position].status))


@history_app.command("mlflow")
def mlflow(
    result: Annotated[Path, typer.Argument(help="result.json of a gate.")],
    store: Annotated[str, typer.Option(help="A folder, or another tracking URI of MLflow.")],
    experiment: Annotated[str, typer.Option(help="MLflow's experiment.")] = "evalsuite",
) -> None:
    """Log a result to MLflow (the extra `mlflow`)."""
    from .history.trackers import log_to_mlflow
    from .report import read_result

    run = log_to_mlflow(read_result(result), store, experiment=experiment)
    typer.echo(f"MLflow run {run}")


@history_app.command("wandb")
def wandb(
    result: Annotated[Path, typer.Argument(help="result.json of a gate.")],
    out: Annotated[Path, typer.Option(help="Folder in which W&B's offline run is written.")],
    project: Annotated[str, typer.Option(help="W&B's project.")] = "evalsuite",
) -> None:
    """Write a result as an offline run of Weights & Biases (the extra `wandb`)."""
    from .history.trackers import log_to_wandb
    from .report import read_result

    typer.echo(f"W&B run {log_to_wandb(read_result(result), out, project=project)}")
