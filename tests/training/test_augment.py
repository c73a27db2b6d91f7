import torch

from augment import crop_flip, cut_out, draw_centres, draw_shifts, draw_windows, resized_crop


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
