"""What an evaluation would find, learnt from those before it: a random forest over what the genes mean, its trees in
groups that each hold a belief of their own."""

import numpy as np
from numpy.typing import NDArray

from spaces.space import Codes, Space

Floats = NDArray[np.float64]
MEMBERS, TREES = 16, 4  # beliefs, and trees in each
MOST = 2000  # of the examples, to each tree


class Forest:
    """One column of the log, for networks of a space.

    Args:
        codes, found: [n, genes] and what their evaluations found, [n].
    """

    def __init__(self, space: Space, codes: Codes, found: Floats, rng: np.random.Generator) -> None:
        from sklearn.ensemble import RandomForestRegressor

        self.space = space
        self._forest = RandomForestRegressor(
            n_estimators=MEMBERS * TREES,
            max_samples=min(len(codes), MOST),
            max_features=0.5,
            random_state=int(rng.integers(2**31)),
        ).fit(space.features(codes), found)

    def predict(self, codes: Codes) -> Floats:
        """[n, genes] -> what each member believes, [members, n]"""
        seen = self.space.features(codes).astype(np.float32)
        trees = np.stack([tree.tree_.predict(seen)[:, 0] for tree in self._forest.estimators_])
        return trees.reshape(MEMBERS, TREES, -1).mean(1)
