"""The options that several commands take: each is worded once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Language(StrEnum):
    """Language that a page opens in, and that of texts beside it."""

    EN = "en"
    JA = "ja"


RealData = Annotated[str, typer.Argument(help="Real data: folder, manifest, Parquet, tar.")]
PolicyFile = Annotated[
    str | None, typer.Option("--policy", help="Policy file; without it the default policy.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="In place of the policy's.")]
Lang = Annotated[
    Language, typer.Option("--lang", help="Language that the page opens in, and of Markdown.")
]
Redact = Annotated[
    bool, typer.Option("--redact", help="Leave private media and names out of the outputs.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="Keep features for the next run.")]
AllowDownload = Annotated[
    bool, typer.Option("--allow-download", help="Allow asking a model hub for weights.")
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host", help="Server of an object store that is not on premise; repeat it."
    ),
]
Threads = Annotated[int, typer.Option("--workers", min=1, help="Threads; the result is the same.")]
Ratings = Annotated[list[Path], typer.Argument(help="The raters' files.", metavar="RATINGS...")]
