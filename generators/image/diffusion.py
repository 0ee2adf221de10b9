"""A small class-conditional flow model of images, trained on the spot: no download.

References
----------
Lipman, Y. et al. (2023). Flow matching for generative modeling. ICLR. arXiv:2210.02747.
Liu, X., Gong, C. and Liu, Q. (2023). Flow straight and fast: rectified flow. ICLR.
arXiv:2209.03003.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from ...errors import DataError
from ..fitted import Fitted, model_or_unfitted, training
from ..items import Item
from ..protocol import Operation, rng_of
from ..values import Modality, Params

if TYPE_CHECKING:
    import torch

MOST_PARAMETERS = 5_000_000


class FlowSampler(Fitted):
    """Draw images of a class from a small flow model.

    A U-Net learns the velocity that carries noise to images along straight lines; an image is drawn
    by following it in even steps (Euler). Weights are averaged over training (EMA). It trains on
    the processor unless told otherwise, and draws there always, so that a replay gives the same.

    What it cannot do: with some hundred images and minutes of training its images are small and
    soft, show what most images of a class share, and may repeat training images: check with a
    copying metric. A large pretrained model does better; this one needs no download and no licence.

    Replays are equal to the byte with the same version of torch, kind of processor and number of
    threads.
    """

    name: ClassVar[str] = "flow_sampler"
    input: ClassVar[Modality] = Modality.LABEL
    output: ClassVar[Modality] = Modality.IMAGE
    libraries: ClassVar[tuple[str, ...]] = ("torch",)

    @classmethod
    def fit(
        cls,
        items: Iterable[Item],
        *,
        size: int = 32,
        width: int = 48,
        steps: int = 3000,
        batch: int = 32,
        rate: float = 1e-3,
        draw_steps: int = 32,
        seed: int = 0,
        device: str = "cpu",
        progress: Callable[[int, float], None] | None = None,
    ) -> FlowSampler:
        """Train on the items.

        Parameters
        ----------
        items : iterable of Item
            With image (``L`` or ``RGB``) and label; all of one split, or of none.
        size : int
            Side of the square images, in pixels: a multiple of 8, from 16 to 64.
        width : int
            Channels at the first level; a multiple of 8. 48 makes about 1.2 million parameters.
        steps, batch : int
            Of training.
        rate : float
            Highest learning rate.
        draw_steps : int
            Steps from noise to image.
        seed : int
            For weights, noise and batches.
        device : str
            Where it trains: ``cpu`` or ``cuda``.
        progress : callable, optional
            Called with step and loss.

        Raises
        ------
        DataError
            If there is nothing to learn from, or training did not converge to numbers.
        LeakError
            If items of a held-out split are mixed with others.
        ValueError
            If an argument is out of range, or an image is neither ``L`` nor ``RGB``.
        """
        import torch

        if size % 8 or not 16 <= size <= 64 or width % 8 or width < 8:
            raise ValueError(
                "size must be a multiple of 8 from 16 to 64 and width one of 8 or more, got "
                f"{size} and {width}"
            )
        if min(steps, batch, draw_steps) < 1 or not rate > 0:
            raise ValueError("steps, batch and draw_steps must be 1 or more, and rate above 0")
        found, facts = training(items, Modality.IMAGE, labelled=True)
        images = [(k, image) for k, of in enumerate(found.values()) for image in of]
        for _, image in images:
            if image.mode not in {"L", "RGB"}:
                raise ValueError(f"an image has mode {image.mode}: convert it to L or RGB")
        mode = "RGB" if any(image.mode == "RGB" for _, image in images) else "L"
        facts |= {
            "labels": list(found), "size": size, "mode": mode, "width": width, "steps": steps,
            "batch": batch, "rate": rate, "draw_steps": draw_steps, "seed": seed, "device": device,
        }  # fmt: skip
        pixels = np.stack([_small(image, size, mode) for _, image in images])
        x = torch.from_numpy(pixels).to(device)
        y = torch.tensor([k for k, _ in images], device=device)
        # Seeded draws on the processor, whatever the device: the same batches everywhere.
        rng = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            net = _network(facts)
        count = sum(p.numel() for p in net.parameters())
        if count > MOST_PARAMETERS:
            raise ValueError(
                f"width {width} makes {count:,} parameters, at most {MOST_PARAMETERS:,}: lower it"
            )
        net.to(device).train()
        average = {k: v.detach().clone() for k, v in net.state_dict().items()}
        optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1)
        for step in range(steps):
            at = torch.randint(len(x), (batch,), generator=rng)
            noise = torch.randn((batch, *x.shape[1:]), generator=rng).to(device)
            time = torch.sigmoid(torch.randn(batch, generator=rng)).to(device)
            target, label = x[at.to(device)], y[at.to(device)]
            part = time[:, None, None, None]
            velocity = net((1 - part) * noise + part * target, time, label)
            loss = torch.nn.functional.mse_loss(velocity, target - noise)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            keep = min(0.999, (step + 1) / (step + 10))
            with torch.no_grad():
                for name, value in net.state_dict().items():
                    average[name].lerp_(value, 1 - keep)
            if progress is not None:
                progress(step, float(loss.detach()))
        arrays = {name: value.cpu().numpy() for name, value in average.items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise DataError(f"training went astray at the learning rate {rate}: lower it")
        return cls(facts, arrays)

    @classmethod
    def from_recipe(
        cls,
        model: str | None = None,
        size: int = 32,
        width: int = 48,
        steps: int = 3000,
        batch: int = 32,
        draw_steps: int = 32,
        seed: int = 0,
        device: str = "cpu",
    ) -> Operation:
        """Load the model that a recipe names, or train on the run's items with these settings."""
        settings = {
            "size": size, "width": width, "steps": steps, "batch": batch,
            "draw_steps": draw_steps, "seed": seed, "device": device,
        }  # fmt: skip
        return model_or_unfitted(cls, model, settings)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that it can draw."""
        return tuple(self._facts["labels"])

    @cached_property
    def _net(self) -> torch.nn.Module:
        import torch

        net = _network(self._facts)
        net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in self._arrays.items()})
        return net.eval()

    def apply(self, value: str | int, params: Params) -> Image.Image:
        """Draw one image of a class.

        Raises
        ------
        ValueError
            If it was not fitted on the class.
        """
        import torch

        label = str(value)
        if label not in self.labels:
            raise ValueError(f"class {value!r} is not one it was fitted on: {list(self.labels)}")
        mode, size, steps = (self._facts[k] for k in ("mode", "size", "draw_steps"))
        shape = (1, 3 if mode == "RGB" else 1, size, size)
        noise = rng_of(params["seed"]).standard_normal(shape).astype(np.float32)
        x = torch.from_numpy(noise)
        y = torch.tensor([self.labels.index(label)])
        with torch.inference_mode():
            for step in range(steps):
                x = x + self._net(x, torch.full((1,), step / steps), y) / steps
        pixels = np.rint(np.clip((x[0].numpy() + 1) / 2, 0, 1) * 255).astype(np.uint8)
        return Image.fromarray(pixels.transpose(1, 2, 0) if mode == "RGB" else pixels[0])


def _small(image: Image.Image, size: int, mode: str) -> Any:
    small = image.convert(mode).resize((size, size), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float32).reshape(size, size, -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) / 127.5 - 1)


def _network(facts: Params) -> torch.nn.Module:
    from .unet import UNet

    return UNet(3 if facts["mode"] == "RGB" else 1, facts["width"], len(facts["labels"]))
