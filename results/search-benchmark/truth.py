"""Every network of a small space: its inherited accuracy, its predicted latency, its costs, as one compressed CSV.

    python results/search-benchmark/truth.py --supernet S --latency T.lat.json --data digits --out digits.csv.gz

Accuracies are kept in OUT.jsonl as they come, and a run that was killed goes on.
"""

import argparse
import csv
import gzip
import io
from itertools import product
from pathlib import Path

import numpy as np
import torch

from search.data.datasets import load_data
from search.files import JsonLines, write_bytes
from search.latency.predictor import Predictor
from search.latency.table import LatencyTable
from search.progress import bar
from search.training.elastic import load_inherited
from search.training.metadata import read_metadata
from spaces.tables import macs_table, params_table

COLUMNS = ("arch", "code", "accuracy", "latency_ms", "latency_low_ms", "latency_high_ms", "macs", "params")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--supernet", type=Path, required=True)
    parser.add_argument("--latency", type=Path, required=True)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = read_metadata(arguments.supernet)[1]
    codes = np.array(list(product(*(range(count) for count in space.choices))))
    codes = np.unique(space.canonical(codes), axis=0)
    assert len(codes) == space.size
    done = JsonLines(arguments.out.with_name(arguments.out.name + ".jsonl"))
    accuracies = [row["accuracy"] for row in done]
    evaluate = load_inherited(arguments.supernet, load_data(arguments.data, space.resolution))
    with bar("networks", len(codes)) as progress:
        for code in codes[len(accuracies) :]:
            accuracies.append(evaluate(space.decode(code)))
            done.append({"accuracy": accuracies[-1]})
            progress.update(len(accuracies))
    latency = Predictor(LatencyTable.load(arguments.latency), space)(codes)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    macs, params = macs_table(space).total(codes), params_table(space).total(codes)
    for k, code in enumerate(codes):
        times = (f"{each[k]:.6g}" for each in (latency.latency_ms, latency.low_ms, latency.high_ms))
        name = "".join(map(str, code))
        writer.writerow([space.decode(code).id, name, f"{accuracies[k]:.6g}", *times, int(macs[k]), int(params[k])])
    write_bytes(arguments.out, gzip.compress(text.getvalue().encode(), mtime=0))


if __name__ == "__main__":
    main()
