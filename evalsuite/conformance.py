"""Tests of what a plugin must be, for the people who write one.

Subclass one of the three classes in a test module, name the entry point, and run pytest::

    from evalsuite.conformance import EncoderConformance


    class TestMyEncoder(EncoderConformance):
        name = "my_encoder"

The distribution must be installed: the plugin is loaded as a policy or a recipe would load it.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from . import plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .encoders.base import Features, Model
    from .generators.items import Item
    from .generators.protocol import Operation
    from .metrics.pair import PairMetric

Floats = npt.NDArray[np.float64]


class ConformanceError(AssertionError):
    """A plugin that is not what it must be; pytest shows it as a failed test."""


def require(holds: object, message: str) -> None:
    """Fail with a message where something does not hold.

    Raises
    ------
    ConformanceError
        If it does not.
    """
    if not holds:
        raise ConformanceError(message)


def _refuses(call: Callable[[], object], what: str) -> None:
    try:
        given = call()
    except (TypeError, ValueError):
        return
    raise ConformanceError(f"{what} must raise TypeError or ValueError; it gave {given!r:.60}")


def _documented(thing: object, what: str) -> None:
    require((getattr(thing, "__doc__", None) or "").strip(), f"{what} has no docstring")


class _Conformance:
    """What the three have in common: the name of the entry point, and how it is found."""

    name: ClassVar[str] = ""
    """Of the entry point."""
    kind: ClassVar[plugins.Kind]

    def _plugin(self) -> plugins.Plugin:
        found = plugins.find(self.kind, self.name)
        if found is None:
            raise ConformanceError(
                f"no installed distribution has an entry point {self.name!r} in the group "
                f"{plugins.GROUPS[self.kind]!r}: install yours first (pip install -e .)"
            )
        return found

    def test_the_entry_point_is_plain(self) -> None:
        """Its name can stand in a policy or a recipe, and its distribution has a version."""
        plugin = self._plugin()
        require(
            re.fullmatch(r"[a-z][a-z0-9_]*", plugin.name),
            f"{plugin.name!r}: a name is made of small letters, digits and underscores",
        )
        require(plugin.version != "unknown", f"{plugin.distribution} has no version")


class MetricConformance(_Conformance):
    """What a metric must be: an :class:`evalsuite.metrics.PairMetric`.

    Attributes
    ----------
    name : str
        Of the entry point.
    columns : int
        Of the features that the tests draw.
    stream : callable, optional
        Makes a ``torchmetrics.Metric`` with ``update(features, real=...)`` over the same numbers;
        needed where ``info.streaming`` is True.
    """

    kind: ClassVar[plugins.Kind] = "metric"
    columns: ClassVar[int] = 16
    stream: ClassVar[Callable[[], Any] | None] = None

    def metric(self) -> PairMetric:
        """Load the metric as the gate does."""
        from .metrics.pair import PairMetric

        plugin = self._plugin()
        metric = plugins.load(plugin)
        require(isinstance(metric, PairMetric), f"{plugin} must lead to a PairMetric")
        found: PairMetric = metric
        return found

    def sets(self, shift: float = 0.0, n: int = 300) -> tuple[Floats, Floats]:
        """Draw a real and a synthetic set whose means are ``shift`` standard deviations apart."""
        rng = np.random.default_rng(20)
        scale = np.linspace(0.5, 2.0, self.columns)
        real = rng.standard_normal((n, self.columns)) * scale + 1.0
        return real, (rng.standard_normal((n, self.columns)) + shift) * scale + 1.0

    def test_it_says_what_it_is(self) -> None:
        """Name, direction, range, blind spot and reference are there."""
        metric = self.metric()
        info = metric.info
        require(info.name == self.name, f"info.name is {info.name!r}, not {self.name!r}")
        _documented(metric.function, f"the function of {info.name}")
        require(len(info.blind_to) > 3, f"{info.name}: say what it cannot see (blind_to)")
        require(len(info.reference) > 3, f"{info.name}: name a source (reference)")
        require(info.min_n >= 1, f"{info.name}: min_n must be 1 or more, got {info.min_n}")

    def test_equal_arguments_give_equal_results(self) -> None:
        """Bit for bit, and the arguments stay as they were."""
        metric = self.metric()
        real, synthetic = self.sets(0.3)
        before = real.copy(), synthetic.copy()
        first, second = metric(real, synthetic), metric(real, synthetic)
        require(first == second, f"equal arguments gave {first!r} and {second!r}")
        same = np.array_equal(before[0], real) and np.array_equal(before[1], synthetic)
        require(same, "the metric wrote into its arguments")

    def test_the_order_of_the_rows_does_not_count(self) -> None:
        """Rows are a set: only rounding may differ."""
        metric = self.metric()
        real, synthetic = self.sets(0.3)
        order = np.random.default_rng(1).permutation(len(real))
        one, other = metric(real, synthetic), metric(real[order], synthetic[order[::-1]])
        require(np.isclose(one, other, rtol=1e-6, atol=1e-9), f"{one} in one order, {other} else")

    def test_single_precision_is_enough(self) -> None:
        """Encoders give float32."""
        metric = self.metric()
        real, synthetic = self.sets(0.3)
        one = metric(real, synthetic)
        other = metric(real.astype(np.float32), synthetic.astype(np.float32))
        require(np.isclose(one, other, rtol=1e-3, atol=1e-5), f"float64: {one}, float32: {other}")

    def test_the_range_holds(self) -> None:
        """The bare function stays within its range, at few rows, constant ones and far sets."""
        metric = self.metric()
        info = metric.info
        low = -np.inf if info.low is None else info.low
        high = np.inf if info.high is None else info.high
        few = max(info.min_n, 2)
        flat = np.ones((few + 3, self.columns))
        cases = {
            f"{few} rows": self.sets(0.0, few),
            "a set and itself": (self.sets()[0],) * 2,
            "sets far apart": self.sets(50.0),
            "constant rows": (flat, flat),
        }
        for what, (real, synthetic) in cases.items():
            value = float(metric.function(real, synthetic))
            require(np.isfinite(value), f"{what}: the value is {value}")
            slack = 1e-9 * max(1.0, abs(value))
            require(low - slack <= value <= high + slack, f"{what}: {value} is out of range")

    def test_sets_that_are_alike_are_nearer_the_best_value(self) -> None:
        """Its direction is the one that it says."""
        metric = self.metric()
        best = float(metric.info.best or 0.0)
        alike, apart = metric(*self.sets()), metric(*self.sets(3.0))
        better = alike > apart if metric.info.direction == "higher" else alike < apart
        require(better, f"alike: {alike}, apart: {apart}; 'better' is {metric.info.direction}")
        require(
            abs(alike - best) < 0.5 * abs(apart - best),
            f"alike: {alike}, apart: {apart}; {best} is said to be best",
        )

    def test_what_cannot_be_measured_raises(self) -> None:
        """No rows, too few, NaN, infinity, or other columns: never a number."""
        metric = self.metric()
        real, synthetic = self.sets(n=max(20, 2 * metric.info.min_n))
        _refuses(lambda: metric(real[:0], synthetic), "no real rows")
        _refuses(lambda: metric(real, synthetic[: metric.info.min_n - 1]), "too few rows")
        _refuses(lambda: metric(real, synthetic[:, 1:]), "other columns")
        for bad in (np.nan, np.inf):
            spoilt = synthetic.copy()
            spoilt[3, 0] = bad
            _refuses(lambda x=spoilt: metric(real, x), f"a value of {bad}")  # type: ignore[misc]

    def test_states_merge(self) -> None:
        """Where it streams: two halves merged are the whole, and the whole is the function."""
        metric = self.metric()
        make = type(self).stream
        require(
            make is not None or not metric.info.streaming,
            f"info.streaming is True: give {type(self).__name__}.stream",
        )
        if make is None:
            return
        real, synthetic = self.sets(0.3)
        whole, left, right = make(), make(), make()
        for stream, rows in ((whole, slice(None)), (left, slice(100)), (right, slice(100, None))):
            stream.update(real[rows], real=True)
            stream.update(synthetic[rows], real=False)
        left.merge_state(right)
        merged, at_once = float(left.compute()), float(whole.compute())
        require(np.isclose(merged, at_once, rtol=1e-6), f"merged: {merged}, whole: {at_once}")
        value = metric(real, synthetic)
        require(np.isclose(at_once, value, rtol=1e-4), f"stream: {at_once}, function: {value}")


class EncoderConformance(_Conformance):
    """What an encoder must be: an ``ImageEncoder``, an ``Embedder`` or a ``TextModel``.

    Attributes
    ----------
    name : str
        Of the entry point.
    modality : {"image", "audio", "text"}
    """

    kind: ClassVar[plugins.Kind] = "encoder"
    modality: ClassVar[str] = "image"

    def encoder(self) -> Any:
        """Load the encoder as a policy that names it does."""
        self._plugin()
        if self.modality == "image":
            from .encoders.registry import load_encoder

            return load_encoder(self.name, device="cpu")
        if self.modality == "audio":
            from .encoders.speech import load_audio_encoder

            return load_audio_encoder(self.name)
        from .encoders.text import load_text_encoder

        return load_text_encoder(self.name, device="cpu")

    def items(self) -> Sequence[Any]:
        """Give samples as the encoder gets them: decoded, of many sizes; override as needed."""
        rng = np.random.default_rng(21)
        if self.modality == "image":
            from PIL import Image

            shapes = [(64, 64, 3), (31, 97, 3), (200, 40, 3), (48, 48), (1, 1, 3), (7, 300)]
            return [Image.fromarray(rng.integers(0, 256, s, dtype=np.uint8)) for s in shapes]
        if self.modality == "audio":
            from .data.audio import DecodedAudio

            tones = []
            for seconds, pitch in ((0.3, 220), (1.0, 330), (2.5, 150), (0.7, 440)):
                time = np.arange(int(16000 * seconds)) / 16000
                wave = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * rng.standard_normal(
                    len(time)
                )
                tones.append(_sound(wave.astype(np.float32), DecodedAudio))
            return tones
        return [
            "A short caption.",
            "Two sentences. The second one is somewhat longer, and has a number: 42.",
            "word " * 600,
            "日本語の文です。",
            "?",
        ]

    def features(self, encoder: Any, items: Sequence[Any]) -> Features:
        """Run the encoder on items."""
        if self.modality == "image":
            rows = [encoder.forward(encoder.prepare(item)[None]) for item in items]
            together: Features = np.concatenate(rows)
            return together
        given: Features = encoder.embed(items)
        return given

    def test_it_says_what_it_is(self) -> None:
        """Name, modality, width, hash of the weights and version are there before it is loaded."""
        encoder: Model = self.encoder()
        info = encoder.info
        _documented(type(encoder), type(encoder).__name__)
        require(info.id == self.name, f"info.id is {info.id!r}, not {self.name!r}")
        require(info.modality == self.modality, f"info.modality is {info.modality!r}")
        require(info.dim >= 1, f"info.dim must be 1 or more, got {info.dim}")
        require(
            re.fullmatch(r"([0-9a-f]{64})?", info.weights_sha256),
            "info.weights_sha256 must be the SHA-256 of the weights, as 64 hex digits, and empty "
            f"where there are none; got {info.weights_sha256!r}",
        )
        for field in ("weights_source", "backend", "code_version"):
            require(getattr(info, field), f"info.{field} is empty")
        json.dumps(info.preprocessing)
        require(not encoder.loaded, "it is loaded before it is used: load weights in _load()")

    def test_features_have_their_shape(self) -> None:
        """float32, one row each, finite, and not all alike."""
        encoder = self.encoder()
        items = self.items()
        rows = self.features(encoder, items)
        require(rows.shape == (len(items), encoder.info.dim), f"the shape is {rows.shape}")
        require(rows.dtype == np.float32, f"the dtype is {rows.dtype}")
        require(np.isfinite(rows).all(), "features are not finite")
        require(len(np.unique(rows, axis=0)) > 1, "all samples have the same features")

    def test_nothing_in_gives_nothing_out(self) -> None:
        """No samples give an array of no rows."""
        encoder = self.encoder()
        if self.modality == "image":
            shape = encoder.prepare(self.items()[0]).shape
            rows = encoder.forward(np.empty((0, *shape), dtype=np.float32))
        else:
            rows = encoder.embed([])
        require(rows.shape == (0, encoder.info.dim), f"the shape is {rows.shape}")

    def test_company_does_not_count(self) -> None:
        """A sample has the same features alone, among others, and in another order: bit for bit."""
        encoder = self.encoder()
        items = list(self.items())
        alone = np.concatenate([self.features(encoder, [item]) for item in items])
        if self.modality == "image":
            batch = np.stack([encoder.prepare(item) for item in items])
            many = np.concatenate([batch, batch[::-1]] * (encoder.batch_size // len(items) + 1))
            together = encoder.forward(many)
            backwards = together[len(items) : 2 * len(items)][::-1]
        else:
            together = encoder.embed(items + items[::-1])
            backwards = together[len(items) :][::-1]
        require(
            np.array_equal(alone, together[: len(items)]),
            "features depend on which other samples are in the batch: give every forward pass one "
            "fixed shape",
        )
        require(np.array_equal(alone, backwards), "features depend on the place in the batch")

    def test_two_loads_and_two_threads_agree(self) -> None:
        """Another instance, and a call from another thread, give the same bits."""
        first, second = self.encoder(), self.encoder()
        items = self.items()
        wanted = self.features(first, items)
        require(first.info.key == second.info.key, "two loads have different info.key")
        require(np.array_equal(wanted, self.features(second, items)), "two loads disagree")
        with ThreadPoolExecutor(2) as pool:
            for rows in pool.map(lambda _: self.features(first, items), range(4)):
                require(np.array_equal(wanted, rows), "calls from several threads disagree")

    def test_a_text_that_is_cut_is_told(self) -> None:
        """Of a text encoder: ``truncated`` gives a flag for each text."""
        if self.modality != "text":
            return
        items = list(self.items())
        flags = np.asarray(self.encoder().truncated(items))
        require(flags.shape == (len(items),) and flags.dtype == bool, f"truncated gave {flags!r}")


def _sound(wave: npt.NDArray[np.float32], kind: type[Any]) -> Any:
    """Make a decoded recording at 16 kHz."""
    return kind(
        samples=wave,
        rate=16000,
        source_rate=16000,
        channels=1,
        seconds=len(wave) / 16000,
        format="WAV",
        subtype="PCM_16",
        notes=(),
        native=wave,
    )


class GeneratorConformance(_Conformance):
    """What an operation must be.

    Attributes
    ----------
    name : str
        Of the entry point, and of the class.
    arguments : mapping
        What a recipe gives it; without a default it must work too, or name what it needs here.
    """

    kind: ClassVar[plugins.Kind] = "generator"
    arguments: ClassVar[Mapping[str, Any]] = {}

    def operation(self) -> Operation:
        """Make the operation as a recipe that names it does."""
        from .generators import parse_recipe

        self._plugin()
        recipe = {"version": 1, "seed": 3, "steps": [{self.name: dict(self.arguments)}]}
        return parse_recipe(json.dumps(recipe)).operation()

    def items(self) -> Sequence[Item]:
        """Give some items with every part that an operation may take; override as needed."""
        from PIL import Image

        from .generators.items import Item as _Item
        from .generators.values import Audio

        rng = np.random.default_rng(22)
        found = []
        for i, shape in enumerate(((48, 48, 3), (33, 65, 3), (40, 40))):
            wave = 0.3 * np.sin(np.arange(8000 * (i + 1)) / (5 + i))
            found.append(
                _Item(
                    id=f"item {i}",
                    image=Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)),
                    audio=Audio(wave.astype(np.float32), 16000),
                    text=f"Sentence number {i} of the tests. It has two parts.",
                    label="abc"[i],
                )
            )
        return found

    def test_it_says_what_it_is(self) -> None:
        """Name, version, modalities and a docstring are there."""
        from .generators.values import Modality

        operation = self.operation()
        _documented(type(operation), type(operation).__name__)
        require(operation.name == self.name, f"its name is {operation.name!r}, not {self.name!r}")
        require(
            isinstance(operation.version, int) and operation.version >= 1,
            f"version must be a whole number from 1 on, got {operation.version!r}",
        )
        for side in ("input", "output"):
            given = getattr(operation, side)
            require(isinstance(given, Modality), f"{side} must be a Modality, got {given!r}")

    def test_its_parameters_make_it_again(self) -> None:
        """``params`` is JSON, and ``type(op)(**op.params)`` is the same operation."""
        from .generators.registry import build, spec

        operation = self.operation()
        described = spec(operation)
        again = build(json.loads(json.dumps(described)))
        require(spec(again) == described, f"{described} came back as {spec(again)}")

    def test_chance_is_drawn_in_one_place(self) -> None:
        """Equal generators draw equal JSON, and numpy's global state is left alone."""
        operation = self.operation()
        before = repr(np.random.get_state())  # noqa: NPY002 - it is what must not move
        drawn = [operation.sample_params(np.random.default_rng(5)) for _ in range(2)]
        texts = [json.dumps(d, sort_keys=True) for d in drawn]
        require(texts[0] == texts[1], f"equal generators drew {texts[0]} and {texts[1]}")
        item = self.items()[0]
        operation.apply(item.value(operation.input), drawn[0])
        after = repr(np.random.get_state())  # noqa: NPY002
        require(before == after, "it draws from numpy's global state: use the rng that it is given")

    def test_apply_is_pure(self) -> None:
        """The same value and parameters give the same output, and the value stays as it was."""
        from .generators.values import content_hash

        operation = self.operation()
        for item in self.items():
            value = item.value(operation.input)
            before = content_hash(value)
            drawn = operation.sample_params(np.random.default_rng(6))
            outputs = {content_hash(operation.apply(value, drawn)) for _ in range(2)}
            require(len(outputs) == 1, f"{item.id}: two calls gave two outputs")
            require(content_hash(value) == before, f"{item.id}: it wrote into its input")

    def test_every_child_replays_from_its_record(self) -> None:
        """A record and its parent give the same child again."""
        from .generators.record import produce, replay
        from .generators.values import content_hash

        operation = self.operation()
        for item in self.items():
            value, record = produce(operation, item, seed=7)
            again = replay(record, item.value(operation.input))
            require(content_hash(again) == content_hash(value), f"{item.id} does not replay")

    def test_company_does_not_count(self) -> None:
        """A child is the same whichever items were made before it."""
        from .generators.record import produce
        from .generators.values import content_hash

        operation, items = self.operation(), self.items()
        forwards = [content_hash(produce(operation, item, seed=7)[0]) for item in items]
        other = self.operation()
        backwards = [content_hash(produce(other, item, seed=7)[0]) for item in items[::-1]]
        require(forwards == backwards[::-1], "a child depends on which items were made before it")

    def test_what_is_missing_raises(self) -> None:
        """An item without the part that it takes is an error, never an output."""
        from .generators.items import Item as _Item
        from .generators.record import produce

        operation = self.operation()
        _refuses(lambda: produce(operation, _Item(id="nothing"), seed=7), "an item with no parts")
