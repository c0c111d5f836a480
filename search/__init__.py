"""GhostNAS from Python: everything that the command line does.

    import search

    data = search.from_datasets(train, test)     # two of torch.utils.data.Dataset, each of (image, label)
    space = search.load_space("cifar", data)
    search.train_supernet(space, data, "mine/supernet")
    search.calibrate(space, "mine/latency/table.lat.json")
    found = search.run_search("mine/supernet", data, "mine/search", "mine/latency/table.lat.json", flops_budget="40M")
    best = found.arch(found.choose("knee")[0])
    search.retrain_network(best, data, "mine/networks/A", init="mine/supernet")
    search.export_network("mine/networks/A", "mine/export/A", ["onnx", "safetensors"], data=data)
    search.write_report("mine")

`help(search.run_search)` says how a search takes objectives and an evaluator of your own. What is listed here is loaded
when it is first used.
"""

from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

from search.installation import fault, is_command

if not is_command() and (_fault := fault()):
    raise ImportError(_fault)

if TYPE_CHECKING:
    __version__: str
    from search.api.costs import NetworkCosts, describe_space, network_costs
    from search.api.data import (
        Arch,
        ArchError,
        Data,
        Space,
        SpaceError,
        find_arch,
        from_datasets,
        load_data,
        load_space,
    )
    from search.api.estimating import Estimate, estimate_run
    from search.api.exporting import Manifest, export_network, verify_export
    from search.api.fidelity import Study, measure_fidelity
    from search.api.latency import LatencyTable, Verdict, calibrate, check_table, import_kit, write_kit
    from search.api.proposing import Proposal, propose_recipe
    from search.api.running import (
        Recipe,
        Summary,
        UserError,
        compare_runs,
        run_recipe,
        write_latency_page,
        write_report,
    )
    from search.api.searching import ChosenTrial, Objective, SearchOutcome, choose_networks, run_search
    from search.api.training import (
        InheritedAccuracy,
        SeedSummary,
        SupernetMetadata,
        TrainedMetadata,
        open_supernet,
        retrain_network,
        retrain_networks,
        train_supernet,
    )

__all__ = [
    "Arch",
    "ArchError",
    "ChosenTrial",
    "Data",
    "Estimate",
    "InheritedAccuracy",
    "LatencyTable",
    "Manifest",
    "NetworkCosts",
    "Objective",
    "Proposal",
    "Recipe",
    "SearchOutcome",
    "SeedSummary",
    "Space",
    "SpaceError",
    "Study",
    "Summary",
    "SupernetMetadata",
    "TrainedMetadata",
    "UserError",
    "Verdict",
    "__version__",
    "calibrate",
    "check_table",
    "choose_networks",
    "compare_runs",
    "describe_space",
    "estimate_run",
    "export_network",
    "find_arch",
    "from_datasets",
    "import_kit",
    "load_data",
    "load_space",
    "measure_fidelity",
    "network_costs",
    "open_supernet",
    "propose_recipe",
    "retrain_network",
    "retrain_networks",
    "run_recipe",
    "run_search",
    "train_supernet",
    "verify_export",
    "write_kit",
    "write_latency_page",
    "write_report",
]
_HOMES = {  # modules, and the names that come from them
    "search.api.costs": "NetworkCosts describe_space network_costs",
    "search.api.data": "Arch ArchError Data Space SpaceError find_arch from_datasets load_data load_space",
    "search.api.estimating": "Estimate estimate_run",
    "search.api.exporting": "Manifest export_network verify_export",
    "search.api.fidelity": "Study measure_fidelity",
    "search.api.latency": "LatencyTable Verdict calibrate check_table import_kit write_kit",
    "search.api.proposing": "Proposal propose_recipe",
    "search.api.running": "Recipe Summary UserError compare_runs run_recipe write_latency_page write_report",
    "search.api.searching": "ChosenTrial Objective SearchOutcome choose_networks run_search",
    "search.api.training": (
        "InheritedAccuracy SeedSummary SupernetMetadata TrainedMetadata open_supernet retrain_network "
        "retrain_networks train_supernet"
    ),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    for home, names in _HOMES.items():
        if name in names.split():
            value = getattr(import_module(home), name)
            if isinstance(value, FunctionType):
                value = import_module("search.api.arguments").checked(value)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # which take as long as all the rest

    try:
        return version("ghostnas")
    except PackageNotFoundError:  # a bare checkout
        return "0+checkout"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
