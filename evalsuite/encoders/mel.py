"""Mel spectra, as the networks that are fed with them were trained on."""

from __future__ import annotations

from functools import cache as cached
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .base import Features

_Samples: TypeAlias = npt.NDArray[np.float32]

RATE = 16_000
"""Hz, where no other rate is given."""


@cached
def mel_filters(
    n_fft: int,
    bands: int,
    *,
    rate: int = RATE,
    low: float = 0.0,
    high: float | None = None,
    scale: Literal["slaney", "htk"] = "slaney",
    area: bool = True,
    slopes: Literal["hz", "mel"] = "hz",
) -> npt.NDArray[np.float32]:
    """Give triangular mel filters.

    Parameters
    ----------
    n_fft : int
        Length of the Fourier transform.
    bands : int
        Filters from ``low`` to ``high``.
    rate : int
        Hz, of the recording.
    low, high : float
        Hz; ``high`` is half of ``rate`` by default.
    scale : str
        ``slaney``: linear up to 1000 Hz (15 mel) and logarithmic above (27 mel from 1 to 6.4 kHz),
        after Slaney's Auditory Toolbox; ``htk``: 2595 log₁₀(1 + f / 700).
    area : bool
        Whether each filter has unit area, after Slaney, or unit height.
    slopes : str
        Whether the triangles are straight in Hz, or in mel as VGGish has them.

    Returns
    -------
    ndarray of float32, shape (bands, n_fft // 2 + 1)
    """
    to_mel, to_hz = _SCALES[scale]
    ends = to_mel(np.array([low, rate / 2 if high is None else high]))
    mel = np.linspace(ends[0], ends[1], bands + 2)
    hz = to_hz(mel)
    f = np.arange(n_fft // 2 + 1) * rate / n_fft
    corner, at = (hz, f) if slopes == "hz" else (mel, to_mel(f))
    rise = (at - corner[:-2, None]) / np.diff(corner)[:-1, None]
    fall = (corner[2:, None] - at) / np.diff(corner)[1:, None]
    weights = np.maximum(0, np.minimum(rise, fall))
    if area:
        weights = weights * (2 / (hz[2:] - hz[:-2]))[:, None]
    return np.asarray(weights, dtype=np.float32)


def _slaney(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4)
    return np.where(hz < 1000, hz * 3 / 200, above)


def _slaney_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))


def _htk(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 2595 * np.log10(1 + hz / 700)


def _htk_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 700 * (10 ** (mel / 2595) - 1)


_SCALES = {"slaney": (_slaney, _slaney_hz), "htk": (_htk, _htk_hz)}


def mel_power(frames: _Samples, bands: int) -> Features:
    """Give the mel power of frames at 16 kHz, under a periodic Hann window.

    Parameters
    ----------
    frames : ndarray of float32, shape (m, n)
    bands : int
        Slaney's filters of unit area, from 0 to 8000 Hz.

    Returns
    -------
    ndarray of float32, shape (m, bands)
    """
    n = frames.shape[-1]
    spectrum = short_spectrum(frames, n)
    power = spectrum.real**2 + spectrum.imag**2
    return np.ascontiguousarray((_sparse_filters(n, bands) @ power.T).T, dtype=np.float32)


def short_spectrum(frames: _Samples, n_fft: int) -> npt.NDArray[np.complex64]:
    """Give the spectra of frames, shape (m, n), under a periodic Hann window: (m, n_fft // 2 + 1).

    Frames that are shorter than the transform are filled up with zeros.
    """
    from scipy import fft

    n = frames.shape[-1]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)
    spectrum: npt.NDArray[np.complex64] = fft.rfft(frames * window, n_fft)
    return spectrum


@cached
def _sparse_filters(n_fft: int, bands: int) -> Any:
    """Give :func:`mel_filters` without its zeros, which are most of it.

    A dense product would also wake BLAS's threads, which wait busily beside the other recordings.
    """
    from scipy import sparse

    return sparse.csr_array(mel_filters(n_fft, bands))


def framed(samples: _Samples, size: int, hop: int) -> _Samples:
    """Give overlapping frames as a view, shape (m, size)."""
    return np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]


def mel_spectrogram(samples: _Samples, n_fft: int, hop: int, bands: int) -> Features:
    """Give the mel power of frames centred on every ``hop``-th sample, zeros outside."""
    padded = np.pad(samples, n_fft // 2)
    return mel_power(framed(padded, n_fft, hop), bands)
