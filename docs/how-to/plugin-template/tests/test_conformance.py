"""evalsuite's own tests of what a plugin must be; `pytest` runs them."""

from __future__ import annotations

from evalsuite.conformance import EncoderConformance, GeneratorConformance, MetricConformance


class TestMeanShift(MetricConformance):
    """The metric."""

    name = "mean_shift"


class TestGreyPixels(EncoderConformance):
    """The encoder."""

    name = "grey_pixels"


class TestFade(GeneratorConformance):
    """The generator."""

    name = "fade"
