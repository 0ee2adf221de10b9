"""Checks that every metric makes of its input, with errors that say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

Array: TypeAlias = npt.NDArray[np.floating] | torch.Tensor
"""Features: numpy or torch, ``(n, d)``, any float dtype, any device."""


def features(
    x: Array, name: str, *, min_n: int = 1, dtype: torch.dtype | None = torch.float64
) -> torch.Tensor:
    """Check one feature array and give it as a tensor.

    Parameters
    ----------
    x : array, shape (n, d)
        Features; float or integer. A torch tensor stays on its device, unless that is ``mps``.
    name : str
        What to call it in an error.
    min_n : int
        The fewest rows that make sense.
    dtype : torch.dtype or None
        The dtype of the result; None keeps float32 and float64, and widens the rest to float32.

    Raises
    ------
    TypeError
        If it is neither a numpy array nor a tensor, or not numeric.
    ValueError
        If it is not 2-d, has too few rows, no columns, or a value that is not finite.
    """
    if isinstance(x, np.ndarray):
        if x.dtype.kind not in "fiu":
            raise TypeError(f"{name} must be numeric, got dtype {x.dtype}")
        # What torch cannot share (backwards, read-only, foreign byte order) is copied.
        native = x.astype(x.dtype.newbyteorder("="), copy=False)
        shareable = native.flags.writeable and min(native.strides, default=0) >= 0
        t = torch.from_numpy(np.ascontiguousarray(native) if shareable else native.copy())
    elif isinstance(x, torch.Tensor):
        if x.is_complex() or x.dtype == torch.bool:
            raise TypeError(f"{name} must be real-valued, got dtype {x.dtype}")
        # Apple's MPS has no float64, and no metric here can do without.
        t = x.detach().cpu() if x.device.type == "mps" else x.detach()
    else:
        raise TypeError(f"{name} must be a numpy array or a torch tensor, got {type(x).__name__}")
    if t.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d), got {tuple(t.shape)}")
    if t.shape[1] == 0:
        raise ValueError(f"{name} has no columns: shape {tuple(t.shape)}")
    if t.shape[0] < min_n:
        raise ValueError(f"{name} needs at least {min_n} rows, got {t.shape[0]}")
    if dtype is None:
        dtype = t.dtype if t.dtype in (torch.float32, torch.float64) else torch.float32
    t = t.to(dtype)
    # The sum is not finite if one value is not, and costs a tenth of looking at each.
    if not bool(torch.isfinite(t.sum())):
        bad = torch.nonzero(~torch.isfinite(t).all(dim=1)).flatten()
        if len(bad):
            raise ValueError(
                f"{name} has NaN or infinite values in {len(bad)} rows (first: "
                f"{bad[:5].tolist()}); drop or repair these samples before measuring"
            )
    return t


def pair(
    real: Array, synthetic: Array, *, min_n: int = 1, dtype: torch.dtype | None = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Check two feature arrays that are to be compared: same d, same device, same dtype.

    Raises
    ------
    ValueError
        As :func:`features`; also if the dimensions or devices differ.
    """
    a = features(real, "real", min_n=min_n, dtype=dtype)
    b = features(synthetic, "synthetic", min_n=min_n, dtype=dtype)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"real and synthetic must have the same number of columns, got {a.shape[1]} and "
            f"{b.shape[1]}: were they made by the same encoder?"
        )
    if a.device != b.device:
        raise ValueError(f"real is on {a.device} and synthetic on {b.device}: move one of them")
    if a.dtype != b.dtype:
        wide = torch.promote_types(a.dtype, b.dtype)
        a, b = a.to(wide), b.to(wide)
    return a, b


def groups_of(groups: Sequence[object] | np.ndarray | None, n: int, name: str) -> np.ndarray | None:
    """Check group labels and give them as integer codes, shape (n,)."""
    if groups is None:
        return None
    if len(groups) != n:
        raise ValueError(f"{name} must name a group for each of {n} rows, got {len(groups)}")
    _, codes = np.unique(np.asarray([str(g) for g in groups]), return_inverse=True)
    return np.asarray(codes)
