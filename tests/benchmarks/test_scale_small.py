"""The page on scale is made of its cells, and what it takes from other pages is there."""

from __future__ import annotations

import pytest

from benchmarks import scale


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
    page = scale.page(cells(1.0))
    for _, title, _, _ in scale.CASES.values():
        assert f"| {title} |" in page
    for name, _, cost, _ in scale.published():
        assert cost > 0
        assert f"| {name} |" in page
    assert "not measured here" in page
    assert scale.plot(cells(1.0)).count("<polyline") == len(scale.CASES)


def test_one_cell_is_measured() -> None:
    cell = scale.measured(scale.Source(), "sketches", 2000)
    assert cell.n == 2000
    assert 0 < cell.cpu_s < 60
