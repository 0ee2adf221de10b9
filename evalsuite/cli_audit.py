"""`evalsuite audit`: look at a delivered set before it is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import AllowDownload, AllowHost, Cache, Device, Lang, Language, Redact, Seed

SHOWN = 8


def audit(
    vendor: Annotated[str, typer.Argument(help="The delivered set, in any format.")],
    real: Annotated[
        str | None, typer.Option(help="Real data that it is to be like; without it, less is said.")
    ] = None,
    holdout: Annotated[str | None, typer.Option(help="Test set that must not be in it.")] = None,
    claims: Annotated[str | None, typer.Option(help="What was promised, as YAML.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="Policy file; its section `audit` holds the thresholds.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and its twins.")] = Path(
        "evalsuite-audit"
    ),
    seed: Seed = None,
    lang: Lang = Language.EN,
    redact: Redact = False,
    device: Device = "auto",
    cache: Cache = True,
    allow_download: AllowDownload = False,
    allow_host: AllowHost = None,
) -> None:
    """Check a delivered set: files, labels, privacy, copies, quality, licence, promises.

    Exit codes: 0 pass or warn, 1 fail, 2 usage, policy or claims error, 3 data or run error,
    4 inconclusive.
    """
    import shlex

    from .gate.findings import Status
    from .pipeline.audit import audit as run
    from .report import write_outputs
    from .report.audit import write_audit

    options: list[tuple[str, object]] = [
        ("--real", real), ("--holdout", holdout), ("--claims", claims), ("--policy", policy),
        ("--seed", seed), *(("--allow-host", host) for host in allow_host or ()),
    ]  # fmt: skip
    words = ["evalsuite", "audit", vendor]
    words += [w for key, value in options if value is not None for w in (key, str(value))]
    found = run(
        vendor,
        real=real,
        holdout=holdout,
        claims=claims,
        policy=policy,
        cache=cache,
        seed=seed,
        device=device,
        allow_download=allow_download,
        allow_hosts=allow_host or (),
        command=shlex.join(words),
    )
    if found.gate is not None:
        write_outputs(
            found.gate.result,
            out / "gate",
            thumbnails=found.gate.thumbnails,
            clips=found.gate.clips,
            lang=lang.value,
            redact=redact,
        )
    write_audit(
        found.result,
        out,
        thumbnails=found.thumbnails,
        lang=lang.value,
        redact=redact,
        base=_base(vendor),
    )
    result = found.result
    typer.echo(f"{result.verdict.value.upper()}: {result.vendor.name}")
    bad = [c for c in result.checks if c.status not in (Status.PASS, Status.INFO)]
    for check in bad[:SHOWN]:
        typer.echo(f"  {check.status.value}: {check.key}: {check.message.text}")
    if len(bad) > SHOWN:
        typer.echo(f"  and {len(bad) - SHOWN} more on the page")
    if result.not_done:
        typer.echo(f"  not possible: {', '.join(dict.fromkeys(s.id for s in result.not_done))}")
    typer.echo(f"page: {out / 'audit.html'}")
    raise typer.Exit(result.exit_code)


def _base(vendor: str) -> str:
    """Give where the set lies beneath the working folder, as code hosts count from there."""
    from .data.remote import is_address

    if is_address(vendor):
        return ""
    path = Path(vendor)
    folder = (path if path.is_dir() else path.parent).resolve()
    here = Path.cwd().resolve()
    return folder.relative_to(here).as_posix() if here in folder.parents else ""
