import math

import torch
from torchvision.transforms.v2 import InterpolationMode, functional

from augment import (
    GROUP,
    crop_flip,
    cut_out,
    draw_centres,
    draw_seeds,
    draw_shifts,
    draw_windows,
    rand_augment,
    resized_crop,
)


def test_crop_is_a_window_of_the_picture_or_its_mirror():
    images = torch.randint(1, 255, (32, 3, 12, 16), dtype=torch.uint8)
    shifts = draw_shifts(32, (4, 6), torch.Generator().manual_seed(0))
    assert shifts.amax(0).tolist() == [4, 6, 1]
    cropped = crop_flip(images, (8, 10), shifts)
    assert cropped.shape == (32, 3, 8, 10)
    flips = 0
    for image, crop in zip(images, cropped, strict=True):
        windows = [image[:, y : y + 8, x : x + 10] for y in range(5) for x in range(7)]
        plain = any(torch.equal(crop, window) for window in windows)
        mirrored = any(torch.equal(crop, window.flip(2)) for window in windows)
        assert plain or mirrored
        flips += mirrored and not plain
    assert 4 < flips < 28


def test_a_share_of_the_batch_is_cropped_as_in_the_whole():
    images = torch.randint(0, 255, (8, 3, 16, 16), dtype=torch.uint8)
    shifts = draw_shifts(8, (8, 8), torch.Generator().manual_seed(1))
    whole = crop_flip(images, (8, 8), shifts)
    share = crop_flip(images[1::2], (8, 8), shifts[1::2])
    assert torch.equal(whole[1::2], share)
    assert not torch.equal(shifts, draw_shifts(8, (8, 8), torch.Generator().manual_seed(2)))


def test_resized_crop_of_everything_is_the_picture_or_its_mirror():
    # An aspect other than 1 would cut something away, so the picture changes along one axis only.
    ramp = torch.arange(16, dtype=torch.uint8).expand(64, 3, 16, 16)
    windows = draw_windows(64, torch.Generator().manual_seed(0), (1, 1))
    cropped = resized_crop(ramp, (16, 16), windows)
    rising = (cropped[..., -1] > cropped[..., 0]).all((1, 2))
    falling = (cropped[..., -1] < cropped[..., 0]).all((1, 2))
    assert (rising | falling).all()
    assert 16 < rising.sum() < 48
    assert cropped.min() >= 0
    assert cropped.max() <= 15


def test_resized_crop_stays_inside_and_has_the_asked_size():
    images = torch.full((16, 3, 20, 30), 7, dtype=torch.uint8)
    cropped = resized_crop(images, (8, 12), draw_windows(16, torch.Generator().manual_seed(0)))
    assert cropped.shape == (16, 3, 8, 12)
    assert torch.allclose(cropped, torch.tensor(7.0))


def test_cut_out_hides_a_square_and_what_of_it_lies_outside_is_lost():
    centres = draw_centres(200, (5, 7), torch.Generator().manual_seed(0))
    assert centres.amin(0).tolist() == [0, 0]
    assert centres.amax(0).tolist() == [4, 6]
    for side in (1, 2, 3):
        images = cut_out(torch.ones(200, 2, 5, 7), side, centres)
        for image, (top, left) in zip(images, centres.tolist(), strict=True):
            expected = torch.ones(5, 7)
            for y in range(top - side // 2, top - side // 2 + side):
                for x in range(left - side // 2, left - side // 2 + side):
                    if 0 <= y < 5 and 0 <= x < 7:
                        expected[y, x] = 0
            assert torch.equal(image, expected.expand(2, 5, 7))


def two_changes(image, magnitude):
    """What RandAugment may make of one picture, from Cubuk et al.'s list of operations."""
    part = magnitude / 30
    options = {"interpolation": InterpolationMode.BILINEAR}
    height, width = image.shape[1:]

    def affine(image, angle=0.0, shift=(0, 0), shear=(0.0, 0.0), centre=None):
        moved = {"angle": angle, "translate": list(shift), "scale": 1.0, "shear": list(shear)}
        return functional.affine(image, **moved, center=centre, **options)

    once = {
        "identity": lambda x: x,
        "autocontrast": functional.autocontrast,
        "equalize": functional.equalize,
        "posterize": lambda x: functional.posterize(x, 8 - round(4 * part)),
        "solarize": lambda x: functional.solarize(x, 255 * (1 - part)),
    }
    for sign in (-1, 1):
        shear = sign * math.degrees(math.atan(0.3 * part))
        far = [int(sign * 150 / 331 * side * part) for side in (width, height)]
        strength = 1 + sign * 0.9 * part
        once |= {
            f"shear x {sign}": lambda x, s=shear: affine(x, shear=(s, 0.0), centre=[0, 0]),
            f"shear y {sign}": lambda x, s=shear: affine(x, shear=(0.0, s), centre=[0, 0]),
            f"move x {sign}": lambda x, s=far[0]: affine(x, shift=(s, 0)),
            f"move y {sign}": lambda x, s=far[1]: affine(x, shift=(0, s)),
            f"rotate {sign}": lambda x, s=sign: functional.rotate(x, s * 30 * part, **options),
            f"brightness {sign}": lambda x, s=strength: functional.adjust_brightness(x, s),
            f"colour {sign}": lambda x, s=strength: functional.adjust_saturation(x, s),
            f"contrast {sign}": lambda x, s=strength: functional.adjust_contrast(x, s),
            f"sharpness {sign}": lambda x, s=strength: functional.adjust_sharpness(x, s),
        }
    for first, one in once.items():
        for second, two in once.items():
            yield (first, second), two(one(image))


def test_rand_augment_makes_two_changes_of_the_list_the_same_to_a_group():
    torch.manual_seed(0)
    images = torch.randint(0, 255, (20, 3, 12, 14), dtype=torch.uint8)
    changed = rand_augment(images, 12, draw_seeds(20, torch.Generator().manual_seed(3)))
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    chosen = [
        {
            names
            for names, expected in two_changes(image, 12)
            if (expected.int() - one.int()).abs().max() <= 1
        }
        for image, one in zip(images, changed, strict=True)
    ]
    groups = [set.intersection(*chosen[i : i + GROUP]) for i in range(0, 20, GROUP)]
    assert all(groups)
    assert not set.intersection(*groups)


def test_a_share_of_the_batch_is_changed_as_in_the_whole():
    images = torch.randint(0, 255, (40, 3, 16, 16), dtype=torch.uint8)
    seeds = draw_seeds(40, torch.Generator().manual_seed(1))
    assert seeds.unique().numel() == 5
    assert (seeds.view(5, 8) == seeds[::8, None]).all()
    state = torch.get_rng_state()
    whole = rand_augment(images, 9, seeds)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)  # what else is drawn changes nothing
    assert torch.equal(rand_augment(images[1::2], 9, seeds[1::2]), whole[1::2])
    # With more processes than a group has pictures, some have none of it.
    assert torch.equal(rand_augment(images[3::13], 9, seeds[3::13]), whole[3::13])
