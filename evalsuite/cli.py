"""The commands. Each one reads its arguments, calls the library and says what came of it."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import __version__
from .cli_audit import audit
from .cli_correct import correct, tune
from .cli_generate import generate
from .cli_history import history_app
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
)
from .cli_plugins import plugins_app
from .cli_study import study_app
from .cli_study import suggest as policy_suggest
from .errors import EvalsuiteError, UsageError, ran_out

if TYPE_CHECKING:
    from .gate.findings import GateResult

app = typer.Typer(
    name="evalsuite",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Says whether synthetic or vendor data is fit to train on. Offline by default.",
)
policy_app = typer.Typer(no_args_is_help=True, help="Show or check a policy.")
models_app = typer.Typer(no_args_is_help=True, help="The models that encode samples.")
app.add_typer(policy_app, name="policy")
app.add_typer(models_app, name="models")
app.add_typer(plugins_app, name="plugins")
app.add_typer(study_app, name="study")
app.add_typer(history_app, name="history")
policy_app.command("suggest")(policy_suggest)


SHOWN_REASONS = 5


class MapLayout(StrEnum):
    """How the map puts samples in a plane."""

    PCA = "pca"
    UMAP = "umap"


class Engine(StrEnum):
    """Where samples are encoded."""

    LOCAL = "local"
    RAY = "ray"


def _version(show: bool) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    _shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)


def _say(result: GateResult, out: Path) -> None:
    from .report.text import clean

    # Names come from data: on a terminal they must not move the cursor, nor command a CI server.
    synthetic, real = clean(result.synthetic.name, 120), clean(result.real.name, 120)
    typer.echo(f"{result.verdict.value.upper()}: {synthetic} against {real}")
    for reason in result.reasons[:SHOWN_REASONS]:
        waived = f" (waived until {reason.waiver.expires})" if reason.waiver else ""
        typer.echo(f"  {reason.status.value}: {clean(reason.message.text, 600)}{waived}")
    if len(result.reasons) > SHOWN_REASONS:
        typer.echo(f"  and {len(result.reasons) - SHOWN_REASONS} more in the report")
    for message in result.explanations[:SHOWN_REASONS]:
        typer.echo(f"  seen: {clean(message.text, 600)}")
    for data in (result.real, result.synthetic):
        kinds = ", ".join(f"{n} {kind}" for kind, n in data.problems.items())
        if data.n_used < data.n_found:
            typer.echo(f"  {data.role}: {data.n_used} of {data.n_found} samples used ({kinds})")
        elif kinds:  # no sample is lost, but labels may be, or a partner
            typer.echo(f"  {data.role}: all {data.n_found} samples used, with notes ({kinds})")
    typer.echo(f"report: {out / 'report.html'}")


@app.command()
def gate(
    real: RealData,
    synthetic: Annotated[str, typer.Argument(help="Synthetic or vendor data, likewise.")],
    policy: PolicyFile = None,
    out: Annotated[Path, typer.Option(help="Folder for the report and its twins.")] = Path(
        "evalsuite-out"
    ),
    seed: Seed = None,
    strict: Annotated[bool, typer.Option(help="A warning ends in exit code 1.")] = False,
    waivers: Annotated[
        Path | None, typer.Option(help="File of findings that are let pass until a day.")
    ] = None,
    layout: Annotated[
        MapLayout, typer.Option("--map", help="How the map is laid out; umap is an extra.")
    ] = MapLayout.PCA,
    lang: Lang = Language.EN,
    redact: Redact = False,
    device: Device = "auto",
    cache: Cache = True,
    allow_download: AllowDownload = False,
    engine: Annotated[Engine, typer.Option(help="Where samples are encoded.")] = Engine.LOCAL,
    address: Annotated[
        str | None, typer.Option(help="With ray: host:port of a cluster that runs, or auto.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads, or with ray processes; one for each core.")
    ] = None,
    allow_host: AllowHost = None,
) -> None:
    """Judge a synthetic set against the real one.

    Exit codes: 0 pass or warn, 1 fail, 2 usage or policy error, 3 data or run error,
    4 inconclusive.
    """
    from .pipeline.run import run_gate
    from .report import write_outputs

    run = run_gate(
        real,
        synthetic,
        policy=policy,
        cache=cache,
        seed=seed,
        device=device,
        allow_download=allow_download,
        strict=strict,
        waivers=waivers,
        layout=layout.value,
        engine=engine.value,
        address=address,
        workers=workers,
        allow_hosts=allow_host or (),
    )
    write_outputs(
        run.result,
        out,
        thumbnails=run.thumbnails,
        clips=run.clips,
        lang=lang.value,
        redact=redact,
    )
    _say(run.result, out)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from .report.github import github_outputs

        for line in github_outputs(run.result, lang=lang.value, redact=redact):
            typer.echo(line)
    raise typer.Exit(run.result.exit_code)


@app.command()
def compare(
    real: RealData,
    candidates: Annotated[
        list[str], typer.Argument(help="Two or more synthetic sets to rank.", metavar="A B ...")
    ],
    policy: PolicyFile = None,
    out: Annotated[Path, typer.Option(help="Folder for the leaderboard and the reports.")] = Path(
        "evalsuite-compare"
    ),
    name: Annotated[
        list[str] | None, typer.Option(help="Name of each candidate, in order; repeat it.")
    ] = None,
    dose: Annotated[
        list[float] | None,
        typer.Option(help="Setting of a knob that each candidate was made with; repeat it."),
    ] = None,
    knob: Annotated[
        list[str] | None,
        typer.Option(help="Parameter to read from the generated records; or CANDIDATE=VALUE."),
    ] = None,
    seed: Seed = None,
    lang: Lang = Language.EN,
    redact: Redact = False,
    device: Device = "auto",
    allow_host: AllowHost = None,
) -> None:
    """Rank synthetic sets by how near they are to the real one.

    Exit codes: 0 where a candidate passes or warns, 1 where all fail, 4 where none can be judged,
    2 usage or policy error, 3 data or run error.
    """
    import shlex

    from .gate.judge import exit_code
    from .pipeline.compare import best_verdict
    from .pipeline.compare import compare as run
    from .report import write_outputs
    from .report.comparison import write_comparison
    from .report.redact import redact_comparison
    from .report.text import clean

    options: list[tuple[str, object]] = [("--policy", policy), ("--seed", seed)]
    options += [("--name", n) for n in name or ()] + [("--dose", d) for d in dose or ()]
    options += [("--knob", k) for k in knob or ()]
    options += [("--allow-host", host) for host in allow_host or ()]
    words = ["evalsuite", "compare", real, *candidates]
    words += [w for key, value in options if value is not None for w in (key, str(value))]
    comparison, runs = run(
        real,
        candidates,
        names=name,
        doses=dose,
        knobs=knob or (),
        policy=policy,
        seed=seed,
        device=device,
        allow_hosts=allow_host or (),
        command=shlex.join(words),
    )
    for k, gated in enumerate(runs.values(), 1):
        write_outputs(
            gated.result,
            out / f"{k}",
            thumbnails=gated.thumbnails,
            clips=gated.clips,
            lang=lang.value,
            redact=redact,
        )
    shown = redact_comparison(comparison, names=not name) if redact else comparison
    write_comparison(shown, out, lang=lang.value)
    folders = {label: out / f"{k}" for k, label in enumerate(runs, 1)}
    for c in comparison.candidates:
        ranks = (
            f"{c.rank}" if c.rank_low == c.rank_high else f"{c.rank} ({c.rank_low}-{c.rank_high})"
        )
        typer.echo(f"{ranks:>10}  {c.verdict.value:<12}  {clean(c.name, 120)}  {folders[c.name]}")
    typer.echo(f"leaderboard: {out / 'comparison.html'}")
    raise typer.Exit(exit_code(best_verdict(comparison)))


app.command()(audit)
app.command()(generate)
app.command()(correct)
app.command()(tune)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data and reports.")] = Path("demo"),
) -> None:
    """Gate real solar-cell photographs against a second sample and two generated sets."""
    from .pipeline.demo import run_demo

    raise typer.Exit(run_demo(out, typer.echo))


@policy_app.command("show")
def policy_show(
    path: Annotated[str | None, typer.Argument(help="A policy file; else the default.")] = None,
) -> None:
    """Print a policy with every default filled in."""
    import yaml

    from .gate.policy import load_policy

    typer.echo(yaml.safe_dump(load_policy(path).canonical(), sort_keys=False), nl=False)


@policy_app.command("check")
def policy_check(path: Annotated[str, typer.Argument(help="A policy file.")]) -> None:
    """Check a policy file: exit code 0 if it is valid, 2 if not."""
    from .gate.policy import load_policy

    policy = load_policy(path)
    typer.echo(f"{path}: valid, {len(policy.rules)} rules, sha256 {policy.sha256()[:12]}")


@policy_app.command("schema")
def policy_schema() -> None:
    """Print the JSON Schema of a policy, for editors."""
    from .gate.policy import policy_schema as schema

    typer.echo(json.dumps(schema(), indent=2))


@app.command()
def metrics() -> None:
    """List every metric: direction, range, unit, smallest n, source."""
    from .metrics import list_metrics

    longer = ["question", "formula", "call", "p_value"]  # what a line has no room for
    typer.echo(list_metrics().drop(columns=longer).to_string(index=False))


@models_app.command("list")
def models_list() -> None:
    """List the models that are at hand on this machine, and what the others need."""
    from .encoders import list_models

    for row in list_models():
        typer.echo(f"{'yes' if row.available else 'no ':3} {row.id:24} {row.detail}")


@models_app.command("check")
def models_check() -> None:
    """Check the weights of every model at hand against their recorded sha256."""
    from .encoders import check_models

    bad = [row for row in check_models() if not row.ok]
    for row in bad:
        typer.echo(f"{row.id}: {row.detail}", err=True)
    if bad:
        raise typer.Exit(3)
    typer.echo("all weights at hand are the recorded ones")


INTERRUPTED = "interrupted: run the same command again to go on where it stopped"


def main() -> None:
    """Run the command line; every error of our own ends in its message and its exit code."""
    # Before torch starts its threads: where a core is taken by somebody else, waiting ones that
    # spin made it up to eight times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Text of data goes to the terminal: a name that it cannot show must not end the run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as ended:
        if ended.code == 130:  # typer has caught the interrupt itself
            typer.echo(INTERRUPTED, err=True)
        raise
    except UsageError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except EvalsuiteError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo(INTERRUPTED, err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        said = ran_out(error)  # wherever it happened, and whichever library said it
        if said is None:
            # Python's own exit code would be 1: to a CI server, data that failed.
            traceback.print_exc()
            said = "this is a fault of evalsuite, please report it with the lines above"
        typer.echo(f"error: {said}", err=True)
        sys.exit(EvalsuiteError.exit_code)


if __name__ == "__main__":
    main()
