"""What the streaming metrics share, and those that need all features of both sides at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from .._check import Array, features

if TYPE_CHECKING:
    from collections.abc import Sequence


class Stream(Metric):
    """A metric whose states merge, and keep their precision whatever becomes of the module."""

    is_differentiable = False
    full_state_update = False

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add what another instance has seen, as :meth:`torchmetrics.Metric.merge_state`."""
        super().merge_state(incoming_state)
        # torchmetrics keeps a value that was computed before the merge.
        self._computed = None
        self._update_count += getattr(incoming_state, "_update_count", 1)

    def _apply(
        self, fn: Callable[[torch.Tensor], torch.Tensor], exclude_state: Sequence[str] = ""
    ) -> torch.nn.Module:
        """Follow a module to its device, but not to its dtype.

        A model that is cast, ``model.to(torch.bfloat16)``, would take float64 states with it:
        torchmetrics keeps them from ``half()`` and the like only.
        """
        if fn(torch.empty(0)).device.type == "mps":
            # It has no float64: states stay where they are, and batches come to them.
            return self

        def move(t: torch.Tensor) -> torch.Tensor:
            kind = fn(t.new_empty(0))
            return fn(t) if kind.dtype == t.dtype else t.to(kind.device)

        moved: torch.nn.Module = super()._apply(move, exclude_state)
        return moved


class FeaturePair(Stream):
    """Collects the features of both sides; order and partition of the batches are kept by rank.

    Parameters
    ----------
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side.
    **kwargs
        To :class:`torchmetrics.Metric`.
    """

    real: list[torch.Tensor]
    synthetic: list[torch.Tensor]

    def __init__(self, *, reset_real_features: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reset_real_features = reset_real_features
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("synthetic", [], dist_reduce_fx="cat")

    def update(self, features: Array, real: bool) -> None:
        """Add a batch, shape (n, d), of one side.

        Raises
        ------
        TypeError, ValueError
            If the batch is not valid, or has another number of columns.
        """
        x = rows_of(features)
        for side in (self.real, self.synthetic):
            if len(side) and side[0].shape[1] != x.shape[1]:
                raise ValueError(f"features must have {side[0].shape[1]} columns, got {x.shape[1]}")
        # A copy: the caller may fill the same buffer with the next batch.
        (self.real if real else self.synthetic).append(x.to(self.device, copy=True))

    def both(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Give all features of both sides.

        Raises
        ------
        ValueError
            If a side has seen no batch.
        """
        for name in ("real", "synthetic"):
            if not len(getattr(self, name)):
                raise ValueError(
                    f"no {name} features yet: call update(features, real={name == 'real'})"
                )
        return dim_zero_cat(self.real), dim_zero_cat(self.synthetic)

    def _sync_dist(
        self,
        dist_sync_fn: Callable[..., list[torch.Tensor]] = gather_all_tensors,
        process_group: Any | None = None,
    ) -> None:
        """Agree on columns and dtype first: a rank without rows of a side does not know them.

        torchmetrics would offer a 1-d tensor for such a rank, and the gathering would fail.
        """
        parts = [*self.real, *self.synthetic]
        columns = parts[0].shape[1] if parts else 0
        wide = any(part.dtype == torch.float64 for part in parts)
        kind = torch.tensor([columns, int(wide)], device=self.device)
        kinds = torch.stack(dist_sync_fn(kind, group=process_group or self.process_group))
        columns, wide = int(kinds[:, 0].max()), bool(kinds[:, 1].max())
        dtype = torch.float64 if wide else torch.float32
        for name in ("real", "synthetic"):
            rows = getattr(self, name) or [torch.empty((0, columns), device=self.device)]
            setattr(self, name, [dim_zero_cat([part.to(dtype) for part in rows])])
        super()._sync_dist(dist_sync_fn, process_group)

    def reset(self) -> None:
        """Forget both sides; with ``reset_real_features=False`` the synthetic side only."""
        # A copy: torchmetrics empties the list itself.
        kept = list(self.real)
        super().reset()
        if not self.reset_real_features:
            self.real = kept


class OfPair(FeaturePair):
    """A function of all features of both sides, with options that are fixed beforehand.

    A subclass names its ``function``; its value is the number that the result stands for.

    Parameters
    ----------
    options : dict
        Keyword arguments of every call of the function.
    reset_real_features, **kwargs
        As for :class:`FeaturePair`.
    """

    function: ClassVar[Callable[..., Any]]

    def __init__(self, options: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options = options

    def result(self, **more: Any) -> Any:
        """Give the function's full result on everything seen so far, for this process alone.

        Parameters
        ----------
        **more
            Further keyword arguments of the function, such as ``ci=True``.

        Raises
        ------
        ValueError
            As the function; also if a side has seen no batch.
        """
        return type(self).function(*self.both(), **self.options, **more)

    def compute(self) -> torch.Tensor:
        """Give the value over all that was seen, on all ranks: float64, no dimensions.

        Raises
        ------
        ValueError
            As :meth:`result`.
        """
        return torch.tensor(float(self.result()), dtype=torch.float64, device=self.device)


class TrainedOn(FeaturePair):
    """A :class:`FeaturePair` beside fixed training features, which move with the module.

    Parameters
    ----------
    train : array, shape (n, d)
        Features that the generator was trained on.
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side.
    **kwargs
        To :class:`torchmetrics.Metric`.
    """

    train_features: torch.Tensor

    def __init__(self, train: Array, *, reset_real_features: bool = True, **kwargs: Any) -> None:
        super().__init__(reset_real_features=reset_real_features, **kwargs)
        rows = features(train, "train", dtype=None).clone()
        self.register_buffer("train_features", rows, persistent=False)

    def numbers(self, values: dict[str, float]) -> dict[str, torch.Tensor]:
        """Give values as float64 scalars on the metric's device."""
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in values.items()
        }


class Labelled(FeaturePair):
    """A :class:`FeaturePair` whose rows have classes, under 2**24."""

    def update(self, features: Array, real: bool, labels: torch.Tensor | None = None) -> None:
        """Add a batch, shape (n, d), of one side, with its classes, shape (n,).

        Raises
        ------
        TypeError, ValueError
            If the batch is not valid, has another number of columns, or labels do not fit.
        """
        rows = rows_of(features)
        if labels is None:
            raise ValueError("labels are needed: call update(features, real=..., labels=...)")
        # A column of its own, so that rows and labels are merged and gathered together.
        column = whole_labels(labels, len(rows)).to(rows)[:, None]
        super().update(torch.cat([rows, column], dim=1), real)

    def with_labels(self) -> tuple[tuple[torch.Tensor, list[int]], tuple[torch.Tensor, list[int]]]:
        """Give features and classes of both sides.

        Raises
        ------
        ValueError
            If a side has seen no batch.
        """
        real, synthetic = self.both()
        return (
            (real[:, :-1], real[:, -1].long().tolist()),
            (synthetic[:, :-1], synthetic[:, -1].long().tolist()),
        )


def whole_labels(labels: torch.Tensor, n: int) -> torch.Tensor:
    """Check that labels are n whole numbers that stay exact beside float32 features."""
    t = torch.as_tensor(labels)
    if t.is_floating_point() or t.ndim != 1 or len(t) != n:
        raise ValueError(f"labels must be {n} whole numbers, got {t.dtype} of {tuple(t.shape)}")
    if n and (int(t.min()) < 0 or int(t.max()) >= 2**24):
        raise ValueError("labels must lie in 0..2**24 - 1, to be exact beside float32 features")
    return t


def rows_of(x: Array) -> torch.Tensor:
    """Give a batch as a tensor of its own precision."""
    return features(x, "features", dtype=None)
