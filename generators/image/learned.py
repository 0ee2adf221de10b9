"""A class-conditional image sampler that is learned on the spot: no download, seconds to fit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, TypeAlias
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import DataError
from ..protocol import (
    Item,
    LeakError,
    Modality,
    Operation,
    Params,
    RecipeError,
    content_hash,
    derive_seed,
    draw_seed,
    is_held_out,
    model_or_unfitted,
    rng_of,
    to_json,
)

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


class ClassSampler:
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
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.LABEL
    output: ClassVar[Modality] = Modality.IMAGE

    def __init__(
        self,
        classes: dict[str, _Class] | None = None,
        facts: Params | None = None,
        residual: float = 1.0,
        **described: object,
    ) -> None:
        if classes is None or facts is None or described:
            raise RecipeError(
                "a class_sampler cannot be built from its description: load the fitted model with "
                "ClassSampler.load(path), and give it as operation="
            )
        if not residual >= 0:
            raise ValueError(f"residual must be 0 or more, got {residual}")
        self._classes = classes
        self._facts = facts
        self.residual = float(residual)

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
        images: dict[str, list[Image.Image]] = {}
        hashes: list[str] = []
        splits: set[str | None] = set()
        for item in items:
            image = item.value(Modality.IMAGE)
            if image.mode not in {"L", "RGB"}:
                raise ValueError(f"item {item.id!r} has mode {image.mode}: convert it to L or RGB")
            label = str(item.value(Modality.LABEL))
            images.setdefault(label, []).append(
                image.resize((size, size), Image.Resampling.BOX, reducing_gap=None)
            )
            hashes.append(f"{label} {content_hash(image)}")
            splits.add(item.split)
        if not images:
            raise DataError("there are no items to learn from")
        if len(splits) > 1 and any(map(is_held_out, splits)):
            raise LeakError(
                f"fit on one split: got items of {sorted(map(str, splits))}, and what a model "
                "learns from a held-out split must not reach training"
            )
        mode = "RGB" if any(i.mode == "RGB" for of in images.values() for i in of) else "L"
        classes = {}
        for label in sorted(images):
            rows = np.stack([np.asarray(i.convert(mode), np.float64) / 255 for i in images[label]])
            if len(rows) < 3:
                raise DataError(
                    f"class {label!r} has {len(rows)} images, at least 3 are needed: leave it out "
                    "or add some"
                )
            classes[label] = _fit_class(
                rows.reshape(len(rows), -1),
                components,
                mixtures,
                derive_seed(seed, label),
            )
        facts: Params = {
            "size": size,
            "mode": mode,
            "components": components,
            "mixtures": mixtures,
            "seed": seed,
            "images": {label: len(of) for label, of in sorted(images.items())},
            # Sorted: the same images in another order are the same training set.
            "training_sha256": sha256("\n".join(sorted(hashes)).encode()).hexdigest(),
            "held_out": sorted(s for s in splits if s is not None and is_held_out(s)),
        }
        return cls(classes, facts, residual)

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
        return tuple(self._classes)

    @property
    def held_out_sources(self) -> frozenset[str]:
        """The held-out splits that it learned from."""
        return frozenset(self._facts["held_out"])

    @cached_property
    def model_sha256(self) -> str:
        """Hash of the fitted numbers."""
        digest = sha256(to_json(self._facts).encode())
        for label, model in self._classes.items():
            digest.update(label.encode())
            for array in _arrays(model).values():
                digest.update(array.tobytes())
        return digest.hexdigest()

    @property
    def params(self) -> Params:
        """Where it comes from: settings, training set and fitted numbers, by hash."""
        return {**self._facts, "residual": self.residual, "model_sha256": self.model_sha256}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the sample's seed."""
        return {"seed": draw_seed(rng)}

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
        x = model.draw(rng_of(params["seed"]), self.residual)
        size, mode = self._facts["size"], self._facts["mode"]
        pixels = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
        return Image.fromarray(pixels.reshape((size, size, 3) if mode == "RGB" else (size, size)))

    def save(self, path: str | Path) -> None:
        """Write the model as ``.npz``, without pickle.

        Raises
        ------
        ValueError
            If the name does not end in ``.npz``.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"the file's name must end in .npz, got {path.name}")
        facts = to_json({**self._facts, "residual": self.residual, "labels": self.labels})
        arrays = {
            f"{i}.{name}": array
            for i, model in enumerate(self._classes.values())
            for name, array in _arrays(model).items()
        }
        np.savez(path, facts=np.array(facts), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> ClassSampler:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError
            If the file is not such a model.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                facts = json.loads(str(file["facts"]))
                labels, residual = facts.pop("labels"), facts.pop("residual")
                classes = {}
                for i, label in enumerate(labels):
                    arrays = {n: file[f"{i}.{n}"] for n in _Class.__dataclass_fields__}
                    classes[label] = _Class(**{**arrays, "sigma": float(arrays["sigma"])})
        except (KeyError, ValueError, TypeError, AttributeError, BadZipFile) as error:
            raise DataError(f"{path} is not a saved ClassSampler: {error}") from error
        return cls(classes, facts, residual)


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
