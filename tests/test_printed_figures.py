"""Figures as people read them."""

import pytest

from msr_zoo.report import rounded


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.12345, "0.123"), (41.77, "41.8"), (1164.5, "1,160"), (12_345.6, "12,300")],
)
def test_figures_are_rounded_and_written_out(value, text):
    assert rounded(value) == text
