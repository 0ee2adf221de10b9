"""A class-conditional image sampler that is learned on the spot: no download, seconds to fit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import DataError
from ..fitted import Fitted, model_or_unfitted, training
from ..items import Item
from ..protocol import Operation, derive_seed, rng_of
from ..values import Modality, Params

F64: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Class:
    """x = mean + basis @ t + sigma · (noise outside the basis); t from a mixture of Gaussians."""

    mean: F64  # (d,)
    basis: F64  # (d, q), orthonormal columns
    weights: F64  # (m,)
    centres: F64  # (m, q)
    factors: F64  # (m, q, q), Cholesky factors of the covariances
    sigma: float

    def draw(self, rng: np.random.Generator, residual: float) -> F64:
        component = int(rng.choice(len(self.weights), p=self.weights))
        t = self.centres[component] + _dot(
            self.factors[component], np.asarray(rng.standard_normal(self.basis.shape[1]))
        )
        x: F64 = self.mean + _dot(self.basis, t)
        if residual and self.sigma:
            noise = rng.standard_normal(self.mean.size)
            noise -= _dot(self.basis, _dot(self.basis.T, noise))
            x += residual * self.sigma * noise
        return x


class ClassSampler(Fitted):
    """Draw images of a class from probabilistic PCA of its pixels.

    Each class has a model of its own: probabilistic PCA of the downsampled pixels; with
    ``mixtures`` above 1, a mixture of Gaussians on the principal coordinates in place of one
    Gaussian. A drawn vector of pixels is the image.

    What it cannot do: its images are what a mean and a few smooth modes of variation can show.
    They are blurred or grainy, small, and without sharp edges, texture or rare defects; objects
    must sit at about the same place in every image. It knows nothing outside its training images,
    cannot give a class that it was not fitted on, and with few images per component it draws near
    copies of them: check with a copying metric. It is an honest baseline that any generator should
    beat, and a source of synthetic data with known faults; it is no model to train on.

    Make one with :meth:`fit` or :meth:`load`.

    References
    ----------
    Tipping, M. and Bishop, C. (1999). Probabilistic principal component analysis. Journal of the
    Royal Statistical Society B 61(3), 611-622.
    """

    name: ClassVar[str] = "class_sampler"
    input: ClassVar[Modality] = Modality.LABEL
    output: ClassVar[Modality] = Modality.IMAGE

    @classmethod
    def fit(
        cls,
        items: Iterable[Item],
        *,
        size: int = 64,
        components: int = 32,
        mixtures: int = 1,
        residual: float = 1.0,
        seed: int = 0,
    ) -> ClassSampler:
        """Learn every class of the items.

        Parameters
        ----------
        items : iterable of Item
            With image (``L`` or ``RGB``) and label, at least 3 per class. All of one split, or of
            none: a model fitted on a held-out split must not make training data.
        size : int
            Side of the square images it works in, in pixels. The aspect ratio is not kept.
        components : int
            Principal components per class; at most the class's number of images less 2.
        mixtures : int
            Gaussians per class, on the principal coordinates.
        residual : float
            How much of the noise outside the components is added, from 0 (none, smooth) to 1
            (as the model says, grainy).
        seed : int
            For the mixture's start.

        Returns
        -------
        ClassSampler

        Raises
        ------
        DataError
            If there is nothing to learn from, or too little in a class.
        LeakError
            If items of a held-out split are mixed with others.
        ValueError
            If an argument is out of range, or an image is neither ``L`` nor ``RGB``.
        """
        if size < 8 or components < 1 or mixtures < 1:
            raise ValueError(
                "need size of 8 or more, components and mixtures of 1 or more; got "
                f"size={size}, components={components}, mixtures={mixtures}"
            )
        if not residual >= 0:
            raise ValueError(f"residual must be 0 or more, got {residual}")

        def small(item: Item, image: Image.Image) -> Image.Image:
            if image.mode not in {"L", "RGB"}:
                raise ValueError(f"item {item.id!r} has mode {image.mode}: convert it to L or RGB")
            return image.resize((size, size), Image.Resampling.BOX, reducing_gap=None)

        images, facts = training(items, Modality.IMAGE, labelled=True, prepare=small)
        mode = "RGB" if any(i.mode == "RGB" for of in images.values() for i in of) else "L"
        arrays: dict[str, npt.NDArray[np.float64]] = {}
        for k, (label, of) in enumerate(images.items()):
            rows = np.stack([np.asarray(i.convert(mode), np.float64) / 255 for i in of])
            if len(rows) < 3:
                raise DataError(
                    f"class {label!r} has {len(rows)} images, at least 3 are needed: leave it out "
                    "or add some"
                )
            model = _fit_class(
                rows.reshape(len(rows), -1), components, mixtures, derive_seed(seed, label)
            )
            arrays |= {f"{k}.{name}": array for name, array in _arrays(model).items()}
        facts |= {
            "size": size,
            "mode": mode,
            "components": components,
            "mixtures": mixtures,
            "residual": float(residual),
            "seed": seed,
            "labels": list(images),
        }
        return cls(facts, arrays)

    @classmethod
    def from_recipe(
        cls,
        model: str | None = None,
        size: int = 64,
        components: int = 32,
        mixtures: int = 1,
        residual: float = 1.0,
        seed: int = 0,
    ) -> Operation:
        """Load the model that a recipe names, or learn from the run's items with these settings."""
        settings = {
            "size": size,
            "components": components,
            "mixtures": mixtures,
            "residual": residual,
            "seed": seed,
        }
        return model_or_unfitted(cls, model, settings)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that it can draw."""
        return tuple(self._facts["labels"])

    @cached_property
    def _classes(self) -> dict[str, _Class]:
        found = {}
        for k, label in enumerate(self.labels):
            arrays: dict[str, Any] = {
                n: self._arrays[f"{k}.{n}"] for n in _Class.__dataclass_fields__
            }
            found[label] = _Class(**{**arrays, "sigma": float(arrays["sigma"])})
        return found

    def apply(self, value: str | int, params: Params) -> Image.Image:
        """Draw one image of a class.

        Raises
        ------
        ValueError
            If it was not fitted on the class.
        """
        model = self._classes.get(str(value))
        if model is None:
            raise ValueError(f"class {value!r} is not one it was fitted on: {list(self.labels)}")
        x = model.draw(rng_of(params["seed"]), self._facts["residual"])
        size, mode = self._facts["size"], self._facts["mode"]
        pixels = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
        return Image.fromarray(pixels.reshape((size, size, 3) if mode == "RGB" else (size, size)))


def _arrays(model: _Class) -> dict[str, npt.NDArray[np.float64]]:
    return {
        name: np.array(getattr(model, name), np.float64, order="C")
        for name in _Class.__dataclass_fields__
    }


def _dot(a: F64, x: F64) -> F64:
    # Not BLAS: its sums depend on the number of threads, and a replay must give equal bytes.
    product: F64 = np.einsum("ij,j->i", a, x)
    return product


def _fit_class(x: F64, components: int, mixtures: int, seed: int) -> _Class:
    n, d = x.shape
    q = min(components, n - 2, d - 1)
    mean = x.mean(axis=0)
    centred = x - mean
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    variance = s**2 / n
    # The mean of ALL d - q other eigenvalues (Tipping & Bishop, eq. 8), the zero ones of n < d too.
    sigma2 = float(variance[q:].sum() / (d - q))
    basis = vt[:q].T
    if mixtures == 1:
        return _Class(
            mean=mean,
            basis=np.ascontiguousarray(basis),
            weights=np.ones(1),
            centres=np.zeros((1, q)),
            factors=np.diag(np.sqrt(variance[:q]))[None],
            sigma=math.sqrt(sigma2),
        )
    from sklearn.mixture import GaussianMixture

    if n < 2 * mixtures:
        raise DataError(f"{n} images of a class are too few for {mixtures} mixtures: lower it")
    mixture = GaussianMixture(mixtures, reg_covar=max(sigma2, 1e-9), random_state=seed % 2**32).fit(
        centred @ basis
    )
    return _Class(
        mean=mean,
        basis=np.ascontiguousarray(basis),
        weights=mixture.weights_ / mixture.weights_.sum(),
        centres=mixture.means_,
        factors=np.linalg.cholesky(mixture.covariances_),
        sigma=math.sqrt(sigma2),
    )
