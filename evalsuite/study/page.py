"""``study.html``: the one file that a rater gets. It works offline and tells nobody anything."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..report.html import content_security_policy
from ..report.i18n import Translator, catalogue
from ..report.text import clean
from ..report.view import encode
from .design import CHOICES
from .media import embed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Template

    from .design import Key
    from .media import Shown

_SCRIPT_TEXT = (
    "progress", "item", "left", "right", "not_kept", "resumed", "play_first", "choose_first",
    "saved", "no_name", "label",
)  # fmt: skip


def render_study(key: Key, shown: Mapping[str, Shown], prompts: Mapping[str, str]) -> str:
    """Give the page of a study.

    Trials and items stand in it in the order of their random names, so that neither order nor
    position says which set an item is of. Each rater sees the trials in an order of his own.

    Parameters
    ----------
    key : Key
    shown : mapping of str to Shown
        Item to what is shown of it.
    prompts : mapping of str to str
        Trial to what it tells the rater to choose, of trials that do.

    Returns
    -------
    str
        HTML that may load nothing: its Content-Security-Policy allows its own script and style by
        hash, and media that stand in it.
    """
    tr = Translator(key.lang)
    several = "pair" if len(key.modalities) > 1 else key.modalities[0]
    data: dict[str, Any] = {
        "study": key.study,
        "kind": key.kind,
        "lang": key.lang,
        "choices": CHOICES[key.kind],
        "answers": [tr.t(f"study.choice.{key.kind}.{c}") for c in CHOICES[key.kind]],
        "trials": [
            {
                "id": name,
                "items": sorted(trial.items),
                **({"prompt": prompts[name]} if name in prompts else {}),
            }
            for name, trial in sorted(key.trials.items())
        ],
        "items": {token: embed(part) for token, part in sorted(shown.items())},
        "text": {name: _raw(tr, f"study.page.{name}") for name in _SCRIPT_TEXT},
    }
    if key.kind == "label":
        for token in data["items"]:
            data["items"][token]["label"] = clean(key.items[token].label or "", 200)
    styles = (("study-style", _asset("assets", "study.css")),)
    script = _asset("assets", "study.js")
    return _template().render(
        tr=tr,
        kind=key.kind,
        question=tr.t(f"study.ask.{key.kind}.{several}"),
        how=tr.t(f"study.how.{key.kind}"),
        keys=tr.t(f"study.keys.{'ab' if key.kind == 'ab' else 'list'}"),
        audio="audio" in key.modalities,
        count=len(key.trials),
        minutes=max(1, round(len(key.trials) * _seconds(key) / 60)),
        styles=styles,
        script=script,
        csp=content_security_policy(styles, (script,)),
        data=encode(data),
        version=__version__,
    )


def _seconds(key: Key) -> float:
    """Guess how long a trial takes, for the rater's sake."""
    return (12.0 if "audio" in key.modalities else 6.0) * (1.6 if key.kind == "ab" else 1.0)


def _raw(tr: Translator, key: str) -> str:
    """Give a text that the page's script fills in."""
    return catalogue(tr.lang)[key]


def _asset(folder: str, name: str) -> str:
    return resources.files(__package__).joinpath(folder, name).read_text("utf-8")


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("templates", "study.html.j2"))
