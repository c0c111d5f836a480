"""scikit-learn's digits: 1797 images of 8 x 8, which come with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from search.data.layouts.base import DataSource, Sizes

if TYPE_CHECKING:
    from search.data.layouts.base import Parts


class Digits(DataSource):
    """`digits`"""

    known_as = ("digits",)

    @classmethod
    def parse(cls, name: str) -> Self | None:
        return cls(name) if name == "digits" else None

    @property
    def flip(self) -> bool:
        return False

    def sizes(self) -> Sizes:
        return Sizes(train=1438, test=359, num_classes=10, in_chs=1)

    def load(self, resolution: int) -> Parts:
        import torch
        from sklearn.datasets import load_digits

        from search.data.splits import Split, order_by_class

        digits = load_digits()
        images = (torch.from_numpy(digits.images) * (255 / 16)).round().to(torch.uint8)[:, None]
        both = Split(images, torch.from_numpy(digits.target).long())
        order = order_by_class(both.labels)
        test = len(order) // 5
        return both.take(order[test:]), both.take(order[:test]), tuple(map(str, digits.target_names))
