"""A run as one self-contained HTML page, and its figures as PNG and SVG."""

from html import escape
from pathlib import Path
from typing import Any

from ghostnet.arch import Arch
from search.delivery.summary import Network, Summary, summarise
from search.files import write_bytes, write_text
from spaces.population import short

STYLE = """
:root { color-scheme: light dark; --ink: #1f2937; --soft: #6b7280; --line: #e5e7eb; --paper: #ffffff; --card: #ffffff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e5e7eb; --soft: #9ca3af; --line: #374151; --paper: #111827; --card: #f9fafb } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
p, li { color: var(--ink) } .soft { color: var(--soft); margin: .2rem 0 }
.note { border-left: 3px solid #c2410c; padding: .1rem .8rem; margin: .5rem 0 }
figure { margin: 0; background: var(--card); border-radius: .5rem; padding: .6rem; overflow-x: auto }
figure svg { width: 100%; height: auto; min-width: 34rem; display: block }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { color: var(--soft); font-weight: 600; font-size: .85rem }
tr.chosen td:first-child { color: #c2410c; font-weight: 700 }
"""


def write_report(folder: Path) -> Path:
    """Writes `report/` in a run's folder, as far as the run goes, and returns the page.

    Raises:
        UserError: the folder holds no run.
    """
    from matplotlib import pyplot as plt

    from search.delivery import figures

    summary = summarise(folder)
    drawn: dict[str, Any] = {"front": figures.front_figure(summary)}
    if named := _drawn(summary.networks):
        drawn["architectures"] = figures.arch_figure(named)
    svgs = {name: figures.svg(figure) for name, figure in drawn.items()}
    for name, figure in drawn.items():
        write_bytes(folder / "report" / f"{name}.png", figures.png(figure))
        write_text(folder / "report" / f"{name}.svg", svgs[name])
        plt.close(figure)
    page = folder / "report" / "report.html"
    write_text(page, _page(summary, svgs))  # last: a folder with a page is a finished report
    return page


def _drawn(networks: list[Network]) -> dict[str, Arch]:
    """The chosen networks, and the baseline nearest to the last of them in accuracy."""
    chosen = [n for n in networks if n.chosen]
    baselines = [n for n in networks if not n.chosen]
    if chosen and baselines:
        baselines = [min(baselines, key=lambda n: abs(n.accuracy - chosen[-1].accuracy))]
    return {n.name: n.arch for n in [*chosen, *baselines]}


def _page(summary: Summary, svgs: dict[str, str]) -> str:
    recipe, budget = summary.recipe, summary.recipe["search"]["flops_budget"]
    complete = sum(t["state"] == "complete" for t in summary.trials)
    refused = sum(t["state"] == "infeasible" for t in summary.trials)
    space = recipe["space"] if isinstance(recipe["space"], str) else recipe["space"].get("name", "custom")
    parts = [
        f"<h1>GhostNAS: {escape(recipe['name'])}</h1>",
        f'<p class="soft">{escape(recipe["data"])}, space {escape(space)}, budget {escape(budget)} '
        f"multiply-adds, seed {recipe['seed']}</p>",
        *(f'<p class="note">{escape(note)}</p>' for note in summary.notes),
        "<h2>The front</h2>",
        f"<figure>{svgs['front']}</figure>",
        f'<p class="soft">{complete} networks evaluated with recalibrated batch norm; {refused} proposals over the '
        "budget were turned away before any accuracy was measured.</p>",
    ]
    if summary.networks:
        parts += ["<h2>Fully trained</h2>", _networks_table(summary.networks)]
    if "architectures" in svgs:
        parts += ["<h2>Where s, d, SE and width went</h2>", f"<figure>{svgs['architectures']}</figure>"]
        parts += [_blocks_table(n) for n in summary.networks if n.chosen]
    if summary.table:
        parts += ["<h2>The latency table</h2>", _table_words(summary.table)]
    if summary.supernet:
        training = summary.supernet["training"]
        parts.append(
            f"<h2>The supernet</h2><p>{training['epochs']:g} epochs, {training['steps']} steps in "
            f"{training['seconds']:.0f} s; {training['skipped_steps']} skipped for a loss that was not finite.</p>"
        )
    title = f"GhostNAS: {escape(recipe['name'])}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _table(head: list[str], rows: list[tuple[str, list[str]]]) -> str:
    cells = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join(f"<tr{mark}>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for mark, row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _networks_table(networks: list[Network]) -> str:
    head = ["network", "test accuracy", "inherited", "MACs", "parameters", "predicted ms", "measured ms"]
    rows = [
        (
            ' class="chosen"' if n.chosen else "",
            [
                n.name,
                f"{n.accuracy:.2%}",
                "" if n.inherited is None else f"{n.inherited:.2%}",
                short(n.macs),
                short(n.params),
                "" if n.predicted_ms is None else f"{n.predicted_ms:.3f}",
                "" if n.measured_ms is None else f"{n.measured_ms:.3f}",
            ],
        )
        for n in networks
    ]
    return _table(head, rows)


def _blocks_table(network: Network) -> str:
    head = ["block", "expansion", "output", "stride", "s", "d", "SE"]
    rows = []
    for i, stage in enumerate(network.arch.stages):
        for j, b in enumerate(stage):
            d = "" if b.ratio == 1 else str(b.cheap_kernel)
            cells = [f"{i + 1}.{j + 1}", str(b.mid_chs), str(b.out_chs), str(b.stride), str(b.ratio), d]
            rows.append(("", [*cells, "yes" if b.se_ratio else ""]))
    title = f"{network.name}, {network.arch.id}: stem {network.arch.stem_chs}, tail {network.arch.tail_chs}"
    return f"<details><summary>{escape(title)}</summary>{_table(head, rows)}</details>"


def _table_words(table: dict[str, Any]) -> str:
    setting, v = table["setting"], table["validation"]
    return (
        f"<p>{escape(setting['runtime'])} {escape(setting['runtime_version'])}, {setting['threads']} thread(s), batch "
        f"{setting['batch']}, {escape(table['device']['cpu'])}. {len(table['entries'])} units. On {v['networks']} "
        f"networks that it never saw: mean error {v['mape']:.1%}, largest {v['max']:.1%}, Kendall tau "
        f"{v['kendall_tau']:.3f}; {table['protocol']['disturbed']:.0%} of the visits were disturbed by other work.</p>"
    )
