"""The network of SQUIM's objective scores, for weights that torchaudio published.

torchaudio itself is not needed: 2.11, its last version, refuses to be imported beside a torch that
was built for another version of CUDA, and then transformers, which imports it, fails as well.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as fn

_WIDTH, _HEADS = 256, 4
_FILTER = 64  # samples, every 32
_BLOCKS = 2
_CHUNK, _SHIFT = 71, 35  # frames in a chunk; every other one begins so much later
_LOUDNESS = 20  # the waveform's RMS is brought to 1 / 20
_PESQ = (1.0, 4.643889)  # of ITU-T P.862.2, whose highest value is that of a raw score of 4.5


class _Recurrent(nn.Module):
    """A bidirectional LSTM, and back to the width."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(_WIDTH, _WIDTH, batch_first=True, bidirectional=True)
        self.proj = nn.Linear(2 * _WIDTH, _WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.proj(self.rnn(x)[0])
        return made


class _DualPath(nn.Module):
    """Recurrent layers within chunks and across them, in turn (Luo, Chen and Yoshioka 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.row_rnn = nn.ModuleList(_Recurrent() for _ in range(_BLOCKS))
        self.col_rnn = nn.ModuleList(_Recurrent() for _ in range(_BLOCKS))
        self.row_norm = nn.ModuleList(nn.GroupNorm(1, _WIDTH, eps=1e-8) for _ in range(_BLOCKS))
        self.col_norm = nn.ModuleList(nn.GroupNorm(1, _WIDTH, eps=1e-8) for _ in range(_BLOCKS))
        self.conv = nn.Sequential(nn.Conv2d(_WIDTH, _WIDTH, 1), nn.PReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take frames, shape (width, t), give (t, width)."""
        frames = x.shape[1]
        rest = _CHUNK - (_SHIFT + frames % _CHUNK) % _CHUNK
        x = fn.pad(x, (_SHIFT, rest + _SHIFT))
        first = torch.arange(0, x.shape[1] - _SHIFT, _CHUNK)
        starts = torch.stack((first, first + _SHIFT), dim=1).ravel()
        at = starts[:, None] + torch.arange(_CHUNK)  # (chunks, frames of a chunk)
        y = x[:, at]
        for within, norm, across, other in zip(
            self.row_rnn, self.row_norm, self.col_rnn, self.col_norm, strict=True
        ):
            y = y + norm(within(y.permute(1, 2, 0)).permute(2, 0, 1)[None])[0]
            y = y + other(across(y.permute(2, 1, 0)).permute(2, 1, 0)[None])[0]
        y = self.conv(y[None])[0]
        whole = torch.zeros(_WIDTH, x.shape[1]).index_add(1, at.ravel(), y.flatten(1))
        return whole[:, _SHIFT : _SHIFT + frames].T


class _Pool(nn.Module):
    """A weighted mean over time that leans to what is high, as far as was learned."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * torch.softmax(x * self.alpha, dim=0)).sum(dim=0)


class _Attention(nn.TransformerEncoderLayer):
    """A layer of self-attention whose memory does not grow with the square of time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        given = fn.linear(x, self.self_attn.in_proj_weight, self.self_attn.in_proj_bias)
        q, k, v = given.view(len(x), 3, _HEADS, _WIDTH // _HEADS).permute(1, 2, 0, 3)[:, None]
        seen = fn.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).reshape(x.shape)
        x = self.norm1(x + self.self_attn.out_proj(seen))
        made: torch.Tensor = self.norm2(x + self.linear2(fn.relu(self.linear1(x))))
        return made


class Squim(nn.Module):
    """STOI, PESQ and SI-SDR of speech, without its clean reference.

    The names of the weights are those of torchaudio's ``squim_objective_base``.

    References
    ----------
    A. Kumar et al., "TorchAudio-Squim: reference-less speech quality and intelligibility measures
    in TorchAudio", ICASSP 2023.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict(
            {"conv1d": nn.Conv1d(1, _WIDTH, _FILTER, stride=_FILTER // 2, bias=False)}
        )
        self.dprnn = _DualPath()
        self.branches = nn.ModuleList(
            nn.Sequential(
                _Attention(_WIDTH, _HEADS, 4 * _WIDTH, dropout=0.0, batch_first=True),
                _Pool(),
                nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.PReLU(), nn.Linear(_WIDTH, 1)),
            )
            for _ in range(3)
        )

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Grade one recording at 16 kHz.

        Parameters
        ----------
        samples : Tensor, shape (n,)
            At least 64, not all of them 0.

        Returns
        -------
        Tensor, shape (3,)
            STOI (0 to 1), PESQ (1 to 4.64), SI-SDR (dB).
        """
        x = samples / (samples.square().mean().sqrt() * _LOUDNESS)
        x = self.dprnn(torch.relu(self.encoder["conv1d"](x[None])))
        stoi, pesq, si_sdr = (branch(x)[0] for branch in self.branches)
        low, high = _PESQ
        return torch.stack((torch.sigmoid(stoi), low + (high - low) * torch.sigmoid(pesq), si_sdr))
