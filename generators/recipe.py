"""Recipes: operations, seed and variants in a YAML file that people edit and machines check."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from evalsuite.strict_yaml import read_mapping, read_text

from .combine import Compose
from .folder import FolderReport, ItemLike, generate_folder
from .items import Item
from .null import duplicates, resampled
from .protocol import Operation, RecipeError
from .registry import operation_class, operation_known, operation_names, suggestion

_NESTED = ("operation", "operations")
"""Arguments of these names hold steps."""


class Drawn(BaseModel):
    """Which items a recipe works on, in place of each once: the null generators of items.

    Parameters
    ----------
    kind : {"resampled", "duplicates"}
        See :func:`~.null.resampled` and :func:`~.null.duplicates`.
    n : int
        How many items.
    distinct : int, optional
        How many different ones among them; ``duplicates`` needs it.
    replace : bool
        Whether ``resampled`` may draw an item twice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["resampled", "duplicates"]
    n: int = Field(ge=1)
    distinct: int | None = Field(default=None, ge=1)
    replace: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Drawn:
        if (self.kind == "duplicates") != (self.distinct is not None):
            raise ValueError("distinct is for duplicates, which need it")
        if self.kind == "duplicates" and self.replace:
            raise ValueError("replace is for resampled")
        return self

    def of(self, items: Iterable[ItemLike], seed: int) -> Iterable[Item]:
        """Draw the items.

        Raises
        ------
        DataError
            If there are too few.
        """
        given = [item if isinstance(item, Item) else Item(*item) for item in items]
        if self.distinct is not None:
            return duplicates(given, self.n, distinct=self.distinct, seed=seed)
        return resampled(given, self.n, seed=seed, replace=self.replace)


class Recipe(BaseModel):
    r"""What to generate.

    Parameters
    ----------
    version : int
        Of the recipe's form: 1.
    name : str
        For people; it has no effect.
    seed : int
        Settles everything that is drawn.
    variants : int
        Children per item.
    items : Drawn, optional
        ``{kind: resampled, n: 100}`` or ``{kind: duplicates, n: 100, distinct: 10}``; by default
        every item once.
    steps : list
        Operations, one after the other. Each is a mapping with one key, the operation's name, over
        its arguments (``corrupt: {kind: fog, severity: 3}``), or the name alone.

    Examples
    --------
    >>> recipe = parse_recipe("version: 1\nseed: 7\nsteps: [corrupt: {kind: fog, severity: 3}]")
    >>> recipe.operation().params
    {'kind': 'fog', 'severity': [3.0]}
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1]
    name: str = ""
    seed: int
    variants: int = Field(default=1, ge=1)
    items: Drawn | None = None
    steps: list[dict[str, Any] | str] = Field(min_length=1)

    @field_validator("steps")
    @classmethod
    def _fit(cls, steps: list[dict[str, Any] | str]) -> list[dict[str, Any] | str]:
        _chain(steps)
        return steps

    def operation(self) -> Operation:
        """Build the steps: one operation, or a :class:`~.protocol.Compose` of several."""
        return _chain(self.steps)

    def run(
        self,
        items: Iterable[ItemLike],
        out_dir: str | Path,
        *,
        n: int | None = None,
        split: str | None = None,
        workers: int = 1,
        progress: Callable[[int], None] | None = None,
    ) -> FolderReport:
        """Generate a folder (see :func:`~.folder.generate_folder`).

        With ``n``, the recipe's variants do not count.
        """
        return generate_folder(
            self.operation(),
            items if self.items is None else self.items.of(items, self.seed),
            out_dir,
            seed=self.seed,
            variants=1 if n is not None else self.variants,
            n=n,
            split=split,
            workers=workers,
            progress=progress,
        )


def parse_recipe(text: str, where: str = "the recipe") -> Recipe:
    """Read a recipe from YAML text.

    Raises
    ------
    RecipeError
        Naming each wrong key or value, with the one that was probably meant.
    """
    data = read_mapping(text, where, RecipeError)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{where} is not valid:\n{_explain(error, Recipe)}") from None
    except RecipeError as error:
        raise RecipeError(f"{where} is not valid:\n{error}") from None


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file.

    Raises
    ------
    RecipeError
        If it is missing, too large, not UTF-8, or not a valid recipe.
    """
    return parse_recipe(read_text(path, "recipe", RecipeError), str(path))


def recipe_schema() -> dict[str, Any]:
    """Give the JSON Schema of a recipe, for editors that complete and check YAML."""
    schema = Recipe.model_json_schema()
    step: dict[str, Any] = {"oneOf": [{"enum": list(operation_names())}]}
    definitions: dict[str, Any] = {**schema.pop("$defs", {}), "step": step}
    for name in operation_names():
        arguments = _arguments(name).model_json_schema()
        definitions.update(arguments.pop("$defs", {}))
        for nested in _NESTED:
            if nested in arguments["properties"]:
                reference = {"$ref": "#/$defs/step"}
                arguments["properties"][nested] = (
                    reference
                    if nested == "operation"
                    else {"type": "array", "items": reference, "minItems": 1}
                )
        step["oneOf"].append(
            {
                "type": "object",
                "properties": {name: arguments},
                "required": [name],
                "additionalProperties": False,
            }
        )
    schema["properties"]["steps"]["items"] = {"$ref": "#/$defs/step"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "evalsuite recipe",
        "$defs": definitions,
    }


def _chain(steps: list[dict[str, Any] | str]) -> Operation:
    operations = [_step(step, f"steps.{i}") for i, step in enumerate(steps)]
    return operations[0] if len(operations) == 1 else Compose(operations)


def _step(step: object, where: str) -> Operation:
    if isinstance(step, str):
        step = {step: {}}
    if not isinstance(step, Mapping) or len(step) != 1:
        raise RecipeError(
            f"  {where}: a step is one operation's name over its arguments, as in "
            f"corrupt: {{kind: fog}}; got {step!r}"
        )
    name, given = next(iter(step.items()))
    here = f"{where}.{name}"
    if not operation_known(str(name)):
        raise RecipeError(f"  {here}: unknown operation{suggestion(str(name), operation_names())}")
    try:
        # Steps within are checked as steps, so that their errors say where.
        arguments = _arguments(name).model_validate({} if given is None else given)
    except ValidationError as error:
        raise RecipeError(_explain(error, _arguments(name), here)) from None
    values = {key: getattr(arguments, key) for key in arguments.model_fields_set}
    if "operation" in values:
        values["operation"] = _step(values["operation"], f"{here}.operation")
    if "operations" in values:
        values["operations"] = [
            _step(inner, f"{here}.operations.{i}") for i, inner in enumerate(values["operations"])
        ]
    try:
        operation: Operation = _maker(name)(**values)
    except (RecipeError, TypeError, ValueError) as error:
        raise RecipeError(f"  {here}: {error}") from error
    return operation


def _maker(name: str) -> Any:
    """Give what makes an operation from a recipe's arguments: ``from_recipe``, or the class."""
    cls = operation_class(name)
    return getattr(cls, "from_recipe", cls)


def _arguments(name: str) -> type[BaseModel]:
    """Make the model of an operation's arguments from the signature of what makes it."""
    maker = _maker(name)
    function = maker.__init__ if inspect.isclass(maker) else maker
    hints = typing.get_type_hints(function)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(maker).parameters.values():
        kind = hints[parameter.name]
        if parameter.name in _NESTED:
            kind = list[Any] if parameter.name == "operations" else Any
        missing = parameter.default is inspect.Parameter.empty
        fields[parameter.name] = (kind, ... if missing else parameter.default)
    return create_model(name, __config__=ConfigDict(extra="forbid", strict=True), **fields)


def _explain(error: ValidationError, model: type[BaseModel], where: str = "") -> str:
    lines = []
    for item in error.errors():
        path = ".".join([*([where] if where else []), *map(str, item["loc"])]) or "recipe"
        if item["type"] == "extra_forbidden":
            known = list(model.model_fields)
            lines.append(f"  {path}: unknown key{suggestion(str(item['loc'][-1]), known)}")
        elif item["type"] == "missing":
            lines.append(f"  {path}: this key is needed")
        else:
            lines.append(f"  {path}: {item['msg']} (got {str(item['input'])[:80]!r})")
    return "\n".join(lines)
