"""`evalsuite study` and `evalsuite policy suggest`: what people say, and what follows from it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import AllowHost, Lang, Language, Ratings

study_app = typer.Typer(no_args_is_help=True, help="Ask people: rating studies in one page.")


class StudyKind(StrEnum):
    """What raters are asked."""

    MOS = "mos"
    AB = "ab"
    REAL_OR_SYNTHETIC = "real-or-synthetic"
    LABEL = "label"


@study_app.command("new")
def new(
    sets: Annotated[
        list[str], typer.Argument(help="Data sets; the real one first.", metavar="SETS...")
    ],
    out: Annotated[Path, typer.Option(help="New folder for study.html and key.json.")],
    kind: Annotated[StudyKind, typer.Option(help="What raters are asked.")] = StudyKind.MOS,
    n: Annotated[
        int | None, typer.Option("--n", help="Items of each set, or pairs of each two. [30]")
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(help="In place of --n: half the width that intervals shall have."),
    ] = None,
    raters: Annotated[int, typer.Option(help="People who will rate, for --precision.")] = 8,
    name: Annotated[
        list[str] | None, typer.Option(help="Name of each set, in order; repeat it.")
    ] = None,
    catch: Annotated[
        int | None, typer.Option(help="Trials with a known answer. [a tenth, at least 3]")
    ] = None,
    lang: Annotated[Language, typer.Option(help="Language of the raters' page.")] = Language.EN,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    allow_host: AllowHost = None,
) -> None:
    """Draw a blinded sample into one page that works offline.

    Exit codes: 0 done, 2 usage error, 3 data error.
    """
    from .study.design import new_study

    key = new_study(
        sets,
        out,
        kind=kind.value,
        n=n,
        precision=precision,
        raters=raters,
        names=name,
        catch=catch,
        lang=lang.value,
        seed=seed,
        allow_hosts=allow_host or (),
    )
    questions = len(key.trials)
    typer.echo(
        f"{questions} questions ({questions - len(key.ordinary())} of them catch trials), "
        f"{key.n} items of each set, {key.bytes / 1e6:.1f} MB, {key.encoding} media"
    )
    for why, count in key.left_out.items():
        typer.echo(f"  left out: {count} {why}")
    typer.echo(f"send to the raters:  {out / 'study.html'}")
    typer.echo(f"keep to yourself:    {out / 'key.json'}")


@study_app.command("score")
def score(
    folder: Annotated[Path, typer.Argument(help="That `study new` wrote.")],
    ratings: Ratings,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page and JSON. [the study's]")
    ] = None,
    result: Annotated[
        list[Path] | None, typer.Option(help="result.json of a gate on one of the sets; repeat it.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="CSV of sample, set, and metrics of single samples.")
    ] = None,
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="Count raters who failed the screening too.")
    ] = False,
    lang: Lang = Language.EN,
) -> None:
    """Score the raters' files: marks or win rates with intervals, agreement, screening.

    Exit codes: 0 done, 2 usage error, 3 data error.
    """
    from .report import read_result
    from .report.text import number
    from .study.report import write_study_report
    from .study.score import score_study

    found = score_study(
        folder,
        ratings,
        results=[read_result(path) for path in result or ()],
        scores=scores,
        keep_all=keep_all,
    )
    page = write_study_report(found, out or folder, lang=lang.value)[1]
    for refused in found.refused:
        typer.echo(f"not used: {refused.file} {refused.why}", err=True)
    for rater in found.raters:
        if rater.reasons:
            typer.echo(f"screened: {rater.rater}: {', '.join(rater.reasons)}", err=True)
    lines = [(s.set, s.estimate) for s in found.scores]
    lines += [(f"{c.first} over {c.second}", c.estimate) for c in found.contrasts]
    for name, e in lines:
        ends = f" [{number(e.interval.low)}, {number(e.interval.high)}]" if e.interval else ""
        typer.echo(f"{number(e.value)}{ends}  {name}")
    typer.echo(f"page: {page}")


def suggest(
    folder: Annotated[Path, typer.Argument(help="A study of opinion scores (mos).")],
    ratings: Ratings,
    result: Annotated[
        list[Path], typer.Option(help="result.json of the gate on each set; repeat it.")
    ],
    out: Annotated[Path | None, typer.Option(help="Policy file. [standard output]")] = None,
    margin: Annotated[
        float, typer.Option(help="Loss against the first set that is still acceptable.")
    ] = 0.5,
) -> None:
    """Read tolerances off a rating study; refuse where the marks do not bear them out.

    Exit codes: 0 done, 2 usage error, 3 too few sets, or no tolerance that holds.
    """
    from .report import read_result
    from .report.render import write_atomically
    from .study.score import score_study
    from .study.suggest import suggest_tolerances, suggested_policy

    results = [read_result(path) for path in result]
    found = score_study(folder, ratings)
    suggestions = suggest_tolerances(found, results, margin=margin)
    text = suggested_policy(suggestions, found, margin=margin)
    for s in suggestions:
        if s.tolerance is None:
            typer.echo(
                f"no tolerance for {s.metric} ({s.encoder or s.modality}): {s.why}", err=True
            )
    if out is None:
        typer.echo(text, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, text.encode())
    typer.echo(f"policy: {out}")
