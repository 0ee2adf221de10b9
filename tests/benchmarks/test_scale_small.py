"""The page on scale is made of its cells, and what it takes from other pages is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import _models, scale
from evalsuite.encoders import load_encoder


def cells(power: float) -> list[scale.Cell]:
    return [
        scale.Cell(case, n, 1e-6 * n**power, 3.0)
        for case, (_, _, sizes, _) in scale.CASES.items()
        for n in sizes
    ]


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_exponent_is_that_of_the_cells(power: float) -> None:
    found = [c for c in cells(power) if c.case == "moments"]
    assert scale.exponent(found) == pytest.approx(power)
    # The first sizes are start-up more than work: they do not count.
    spoilt = [scale.Cell("moments", 10, 100.0, 3.0), *found]
    assert scale.exponent(spoilt) == pytest.approx(power)


def test_the_page_has_a_row_for_each_case_and_each_encoder() -> None:
    models = _models.Models.stored()
    page = scale.page(cells(1.0), models)
    for _, title, _, _ in scale.CASES.values():
        assert f"| {title} |" in page
    for name, (modality, _) in _models.MODELS.items():
        assert models.seconds(name) > 0
        # Images have a row on the CPU, and one of the bound on paper.
        assert page.count(f"| `{name}` |") == (2 if modality == "image" else 1)
    # Of both cores' time half goes by on the clock.
    assert models.seconds("timm/resnet50") == models.costs[2].cpu_ms / 2000
    assert "**Not measured**: this machine has no GPU" in page
    on_gpu = [_models.OnGpu("timm/resnet50", "a card", "bf16", 64, 0.5, 900.0)]
    page = scale.page(cells(1.0), _models.Models(models.costs, models.feeds, on_gpu))
    assert "| `timm/resnet50` | bf16 | 64 | 0.500 | 8.33 min | 900 |" in page
    assert "no GPU" not in page
    assert scale.plot(cells(1.0)).count("<polyline") == len(scale.CASES)


def test_what_is_measured_of_models_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_models, "RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks._machine.RESULTS", tmp_path)
    costs = [
        _models.Cost("a", "torch 2", 8, 1.5, 2.5, 3.0, 4.0, 500.0, 1.0),
        _models.Cost("b", "numpy 2", 1, 1.5, 2.5, None, None, 500.0, 1.0),
    ]
    _models.keep(costs, "x")
    assert _models.stored(_models.Cost, "x") == costs


def test_a_forward_pass_is_timed_and_counted_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a GPU, on the CPU: all of it but waiting for the device."""
    monkeypatch.setattr(_models, "GPU_BATCHES", (1,))
    monkeypatch.setattr(_models, "GPU_PASSES", (0, 1))
    rows = _models.on_gpu("efficientnet_lite0", "", "cpu")
    assert [(row.precision, row.batch) for row in rows] == [("fp32", 1), ("bf16", 1)]
    assert all(row.ms > 0 for row in rows)
    encoder = load_encoder("efficientnet_lite0", backend="torch", device="cpu")
    encoder.load()
    parameters, gflop = _models.counted(
        "efficientnet_lite0", encoder, _models.given("image", encoder, 1)
    )
    # Tan and Le's lite0: 407 million multiplications and additions; 4.7 million parameters, of
    # which 1.3 million are the classifier's.
    assert gflop == pytest.approx(2 * 0.407, rel=0.08)
    assert parameters == pytest.approx(4.65 - 1.28, abs=0.05)


def test_one_cell_is_measured() -> None:
    cell = scale.measured(scale.Source(), "sketches", 2000)
    assert cell.n == 2000
    assert 0 < cell.cpu_s < 60
