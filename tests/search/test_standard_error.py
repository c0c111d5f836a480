"""The standard error that is shown is how far means over seeds and test images lie apart in truth."""

import numpy as np
import pytest

from search.standard_error import standard_error


@pytest.mark.parametrize(("seeds", "images"), [(1, 80), (2, 80), (3, 400)])
def test_it_is_how_far_measured_accuracies_scatter(seeds, images):
    """Worlds in which networks and test images are drawn anew; an image is as hard for every seed."""
    rng, measured, errors = np.random.default_rng(0), [], []
    for _ in range(2000):
        hardness = rng.normal(0.0, 1.5, images)  # of each image, for all seeds
        ability = rng.normal(0.5, 0.2 * (seeds > 1), (seeds, 1))  # one seed doesn't tell how they differ
        right = rng.random((seeds, images)) < 1 / (1 + np.exp(hardness - ability))
        accuracies = right.mean(1).tolist()
        measured.append(np.mean(accuracies))
        errors.append(standard_error(accuracies, images))
    assert 0.95 < np.mean(errors) / np.std(measured) < 1.35


def test_seeds_that_agree_do_not_make_few_images_many():
    assert standard_error([0.4, 0.4], 80) == standard_error([0.4], 80) == pytest.approx(0.0544, abs=1e-4)


def test_no_error_among_few_images_is_not_without_error():
    """Wilson's interval of one standard deviation at all right is from n / (n + 1) to 1."""
    for images in (10, 359):
        assert standard_error([1.0], images) == pytest.approx(1 / (2 * (images + 1)))
    assert standard_error([0.7], 10**6) == pytest.approx((0.7 * 0.3 / 10**6) ** 0.5, rel=1e-4)
