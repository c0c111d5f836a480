"""How few full trainings mend a supernet's ranking? The published supernets, corrected by some of the networks and
judged on the others: `corrected.json`, from the JSON beside this file alone.

    python results/fidelity/corrected.py        # after `make.py report`
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from ghostnet.arch import Arch
from search.accuracy.predictor import features, fit_ridge
from search.accuracy.ranking_study import PLAN, RESULT
from search.files import read_json, write_json
from search.training.metadata import space_for

HERE = Path(__file__).parent
SIZES = (8, 12, 16)  # networks to fit on, of 24
DRAWS = 200


def corrected(study: dict[str, Any], archs: dict[str, Arch]) -> dict[str, Any]:
    """Mean Kendall taus on the networks that a fit did not see: of the correction, and of what it is made of."""
    space, nets = space_for("digits", 10, 3), study["networks"]
    x = np.array([features(space, archs[net["arch"]], net["inherited"]) for net in nets])
    y, rng = np.array([net["trained"] for net in nets]), np.random.default_rng(0)
    taus: dict[str, Any] = {"inherited": [], "macs": [], "corrected": {}, "costs alone": {}}
    for size in SIZES:
        rows = []
        for _ in range(DRAWS):
            order = rng.permutation(len(y))
            fit, rest = order[:size], order[size:]
            predicted = (
                fit_ridge(x[fit][:, columns], y[fit]).predict(x[rest][:, columns])
                for columns in (slice(None), slice(1, None))
            )
            rows.append([kendalltau(each, y[rest]).statistic for each in (*predicted, x[rest, 0], x[rest, 1])])
        both, costs, inherited, macs = np.mean(rows, 0).tolist()
        taus["corrected"][size], taus["costs alone"][size] = both, costs
        taus["inherited"].append(inherited)
        taus["macs"].append(macs)
    return taus | {key: float(np.mean(taus[key])) for key in ("inherited", "macs")}


def main() -> None:
    archs = {name: Arch.from_dict(record) for name, record in read_json(HERE / PLAN).items()}
    names = sorted(path.parent.name for path in HERE.glob(f"*/{RESULT}"))
    write_json(HERE / "corrected.json", {name: corrected(read_json(HERE / name / RESULT), archs) for name in names})


if __name__ == "__main__":
    main()
