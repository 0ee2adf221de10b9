"""What a set is seen by: the policy's encoders, and a second look in which nothing is fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoders import encode
from ..errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..data import Dataset
    from ..encoders import Encoded, FeatureCache
    from ..gate.policy import Policy

GRADE = "dnsmos_ovrl"
"""The grade of quality that single recordings get."""


class Looks:
    """The encoders that judge: the policy's, and one that shares nothing with them."""

    def __init__(
        self,
        modality: str,
        policy: Policy,
        cache: FeatureCache | None,
        device: str = "auto",
        allow_download: bool = False,
        progress: bool | None = None,
    ) -> None:
        self.modality, self.policy, self.cache, self.progress = modality, policy, cache, progress
        self.device, self.allow_download = device, allow_download
        specs = list(policy.encoders.get(modality, ()))
        if not specs:
            raise UsageError(f"the policy names no encoder for {modality}")
        encoders: list[Any]
        if modality == "image":
            from ..encoders import load_encoder
            from ..encoders.random_conv import load_random_conv

            encoders = [
                load_encoder(s, device=device, allow_download=allow_download, cache=cache)
                for s in specs
            ]
            second: Any = load_random_conv("image")
        elif modality == "audio":
            from ..encoders.random_conv import load_random_conv
            from ..encoders.speech import load_audio_encoder

            encoders = [load_audio_encoder(s, cache=cache) for s in specs]
            second = load_random_conv("audio")
        else:
            from ..encoders.text import CHAR_NGRAMS, DEFAULT, load_text_encoder

            encoders = [load_text_encoder(s, cache=cache) for s in specs]
            second = load_text_encoder(DEFAULT if CHAR_NGRAMS in specs else CHAR_NGRAMS)
        self.own = [e.info.id for e in encoders]
        self.second = str(second.info.id)
        if self.second in self.own:
            raise UsageError(
                f"the policy's encoders include {self.second}, which is the second look: name "
                "another one"
            )
        self._encoders = [*encoders, second]

    def at(self, data: Dataset, label: str, *, second: bool = True) -> Encoded:
        """Encode a set with all of them, or without the second look."""
        encoders = self._encoders if second else self._encoders[:-1]
        if self.modality == "image":
            return encode(
                data,
                encoders,
                cache=self.cache,
                progress=self.progress,
                thumbnails=False,
                label=label,
            )
        from ..encoders.encode_media import encode_media

        return encode_media(
            data,
            "audio" if self.modality == "audio" else "text",
            encoders,
            cache=self.cache,
            progress=self.progress,
            label=label,
        )

    def grades(self, data: Dataset, part: Encoded) -> list[float]:
        """Give the grade of quality of each sample of ``part``, which ``data`` was encoded to.

        NaN where no speech is heard: such a recording has none.
        """
        from ..encoders.encode_media import encode_media
        from ..encoders.speech import load_scorer

        found = encode_media(
            data,
            "audio",
            (),
            scorers=[load_scorer("dnsmos")],
            cache=self.cache,
            progress=self.progress,
            label="quality",
        )
        known = dict(zip((s.id for s in found.samples), found.attributes[GRADE], strict=True))
        return [float(known.get(s.id, float("nan"))) for s in part.samples]


def in_real_units(
    calibration: npt.NDArray[np.float32], *others: npt.NDArray[np.float32]
) -> list[npt.NDArray[np.float32]]:
    """Give features of the second look in the calibration half's standard deviations.

    They are not trained, so their scales mean nothing: unscaled, tone would be nearly all that
    they see.
    """
    spread = calibration.std(axis=0, dtype=np.float64)
    varied = spread > 1e-6 * max(float(spread.max()), 1e-30)
    # A filter that hardly ever answers must not outweigh all others the one time it does.
    spread = np.maximum(spread, 0.5 * np.median(spread[varied]))
    mean = calibration.mean(axis=0, dtype=np.float64)
    return [((x[:, varied] - mean[varied]) / spread[varied]).astype(np.float32) for x in others]
