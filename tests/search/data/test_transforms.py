"""Augmentation: against plain loops; alike for tensors, folders and streams; each key does what it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import resized_crop

from search.data import datasets
from search.data.datasets import Data, load_data
from search.data.splits import Split
from search.data.transforms import Augment, Transform, crop_images, shift_images
from search.recipes.schema import SupernetTraining, Training
from search.training.metadata import space_for
from search.training.retrain import retrain
from tests.search.data.test_datasets import image_folder

CPU = torch.device("cpu")


def test_shifts_and_mirror_images_equal_a_loop():
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    for flip in (False, True):
        out = shift_images(images, 2, flip, np.random.default_rng(3))
        rng = np.random.default_rng(3)
        dy, dx = rng.integers(5, size=5), rng.integers(5, size=5)
        flips = rng.random(5) < 0.5 * flip
        for k in range(5):
            padded = torch.nn.functional.pad(images[k], (2, 2, 2, 2))
            expected = padded[:, dy[k] : dy[k] + 16, dx[k] : dx[k] + 16]
            assert torch.equal(out[k], expected.flip(2) if flips[k] else expected)


def made_up(side: int = 16, flip: bool = True) -> Data:
    images = torch.randint(0, 256, (64, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.arange(64) % 2)
    return Data("made-up", ("a", "b"), split, split, split, split, (0.0,) * 3, (1.0,) * 3, flip)


def seen(data: Data, **keys) -> torch.Tensor:
    """The first batch as a training sees it, as whole numbers."""
    augment = Augment(data, Training(epochs=1, **keys))
    images, _, seed = next(iter(augment.split().stream([(torch.arange(64), 5)])))
    return (augment(images, seed) * 255).round().to(torch.uint8)


def test_left_and_right_are_mixed_up_only_where_a_recipe_lets_them():
    data = made_up()
    original, mirrored = data.train.images, data.train.images.flip(3)

    def flipped(data: Data, **keys) -> list[bool]:
        result = seen(data, crop="none", **keys)
        same, other = ((result == each).flatten(1).all(1) for each in (original, mirrored))
        assert (same ^ other).all()
        return other.tolist()

    assert not any(flipped(data, flip=False)) and not any(flipped(replace(data, flip=False)))
    for each in (flipped(data), flipped(data, flip=True), flipped(replace(data, flip=False), flip=True)):
        assert 20 < sum(each) < 44


def test_defaults_are_those_of_the_data_set_and_of_the_resolution():
    assert not load_data("digits", 16).flip
    for side, pad, crops in ((16, 2, False), (95, 11, False), (96, 0, True)):
        augment = Augment(made_up(side), Training(epochs=1))
        assert (augment.pad, augment.crop_scale is not None, augment.flip) == (pad, crops, True)
    assert Augment(made_up(16), Training(epochs=1, shift=0.25)).pad == 4
    assert Augment(made_up(96), Training(epochs=1, crop="none")).pad == 0
    assert SupernetTraining(epochs=1, flip=False, crop="resized", crop_scale=0.5).crop_scale == 0.5
    assert torch.equal(seen(made_up(), crop="none", flip=False), made_up().train.images)


def test_resized_crops_take_the_share_of_the_area_that_they_are_told():
    """Of an image that says where each pixel stands: green its row, blue its column."""
    place = np.zeros((200, 200, 3), np.uint8)
    place[..., 1], place[..., 2] = np.mgrid[:200, :200]
    shares = []
    for seed in range(60):
        result = np.asarray(Transform(32, 0.3)(Image.fromarray(place), seed)).astype(float)
        height, width = (np.ptp(result[..., channel]) * 32 / 31 for channel in (1, 2))
        assert 0.7 < width / height < 1.4  # torchvision's 3/4 to 4/3
        shares.append(height * width / 200**2)
    assert 0.28 < min(shares) < 0.4 and 0.8 < max(shares) < 1.05


def test_crops_of_a_batch_are_torchvisions():
    """Each image draws for itself, and shows what torchvision's resized crop does, but for its border."""
    height, width, count = 24, 32, 400
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([rows, columns, torch.randint(0, 256, (height, width))]).to(torch.uint8)
    cropped = crop_images(place.expand(count, -1, -1, -1), 0.3, np.random.default_rng(0))
    assert cropped.shape == (count, 3, height, width)
    shares, boxes = [], set()
    for crop in cropped:
        down, right = (float(values[12] - values[11]) for values in (crop[0, :, 12], crop[1, 12, :]))
        high, wide = round(down * height), round(right * width)
        top, left = (round(float(crop[k, 12, 12]) + 0.5 - 12.5 * step) for k, step in enumerate((down, right)))
        shares.append(high * wide / (height * width))
        boxes.add((top, left, high, wide))
        assert 0.7 < wide / high < 1.45 and 0 <= top <= height - high and 0 <= left <= width - wide
        expected = resized_crop(place.float(), top, left, high, wide, [height, width], antialias=True)
        inside = (slice(None), slice(2, -2), slice(2, -2))
        torch.testing.assert_close(crop[inside], expected[inside], rtol=0, atol=1e-3)
    assert len(boxes) > 300 and 0.27 < min(shares) < 0.4 and 0.9 < max(shares) <= 1
    assert 0.55 < np.mean(shares) < 0.7


def test_a_crop_of_everything_changes_nothing():
    images = made_up().train.images
    assert torch.equal(crop_images(images, 1.0, np.random.default_rng(0)), images.float())


@pytest.mark.parametrize("spec", ["rand-m9-mstd0.5"])
def test_transforms_come_from_their_seed_alone_and_keep_the_mode(spec):
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8))
    for image in (grey, grey.convert("RGB")):
        for transform in (Transform(16, 0.1), Transform(24, None, spec), Transform(16, 0.2, spec)):
            once = transform(image, 7)
            torch.rand(3), np.random.rand(3)  # noqa: NPY002
            assert once.tobytes() == transform(image, 7).tobytes() and once.mode == image.mode
            assert any(once.tobytes() != transform(image, seed).tobytes() for seed in range(8, 12))
    assert not Transform(16) and Transform(16, 0.1) and Transform(16, None, spec)


@pytest.mark.parametrize(
    "spec",
    ["rand-m0-n8", "rand-m1-n8-mstd1", "rand-m9-n8-mstd1-inc1", "rand-m10-n8-inc1", "rand-m99-mmax99-n8-p1-mstd999."],
)
def test_every_magnitude_of_rand_augment_runs(spec):
    """timm posterizes to 0 bits at one end of its scale, and at the other with `inc1`; Pillow refuses that."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    transform = Transform(16, None, Training(epochs=1, rand_augment=spec).rand_augment)
    assert all(transform(image, seed).size == (16, 16) for seed in range(40))


@pytest.mark.parametrize("keys", [{}, {"rand_augment": "rand-m9-mstd0.5"}, {"crop": "resized"}], ids=str)
def test_a_folder_is_trained_on_alike_in_memory_and_as_a_stream(keys, tmp_path, monkeypatch):
    """To the bit, with every kind of augmentation; only the keys say what is done to images, not their number."""
    image_folder(tmp_path / "images", train=24, test=4)
    config = Training(epochs=1, batch_size=16, erasing=0.2, warmup_epochs=0, **keys)
    arch, weights = space_for("digits", 2, 3).smallest, []
    for name, limit in (("memory", datasets.IN_MEMORY), ("stream", 0)):
        monkeypatch.setattr(datasets, "IN_MEMORY", limit)
        data = load_data(f"imagefolder:{tmp_path / 'images'}", 16)
        assert isinstance(data.train, Split) == (name == "memory")
        retrain(arch, replace(data, mean=(0.4,) * 3, std=(0.2,) * 3), config, tmp_path / name, device=CPU)
        weights.append((tmp_path / name / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]
