"""Pictures of registration: with the right shift, a product looks as if it had never been off."""

import numpy as np

from satmask.bands import Registration
from satmask.figures import png_bytes
from satmask.registration_sheets import _middle, registration_sheet

SHIFTED = Registration(4.0, -3.0, 0.9, 0.1, accepted=True, reason="off by +4.00, -3.00 pixels")
DECLINED = Registration(0.0, 0.0, 0.1, 9.0, accepted=False, reason="no shift: parts of the scene disagree")


def ground():
    return np.random.default_rng(0).integers(0, 2047, (320, 330, 1)).astype(np.uint16)


def test_after_looks_as_if_it_had_never_been_off():
    scene = ground()
    fixed, moving = scene[3:303, :310], np.roll(scene, (-3, 4), (0, 1))[3:303, :310]
    # Beyond the border other pixels move in, so the stretch differs by a hair.
    right = _middle(fixed, fixed, (0.0, 0.0)).astype(int)
    assert np.abs(_middle(moving, fixed, SHIFTED.shift).astype(int) - right).max() <= 2
    assert np.abs(_middle(moving, fixed, (0.0, 0.0)).astype(int) - right).mean() > 10


def test_a_sheet_has_a_row_a_product_and_says_what_was_found():
    fixed = ground()
    figure = registration_sheet(fixed, [("M", fixed[::4, ::4], SHIFTED), ("A", fixed[::25, ::25], DECLINED)], title="x")
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["M, before", "M, after", "A, before", "A, after"]
    assert "off by +4.00" in figure.axes[1].get_xlabel()
    assert "disagree" in figure.axes[3].get_xlabel().replace("\n", " ")
    assert png_bytes(figure, dpi=40).startswith(b"\x89PNG")


def test_what_is_shown_fits_small_scenes():
    assert _middle(ground()[:30, :20], ground()[:90, :60], (0.0, 0.0)).shape == (90, 60, 3)
