"""Writing `report.json` and `report.html` from what a recipe's folder holds."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_compress.errors import ConfigError
from nas_compress.files import replacing
from nas_compress.report.comparison import batch_and_threads, compare_all, everywhere, figure, latency_text, sentence
from nas_compress.report.conditions import artefact_conditions, measured_on
from nas_compress.report.limits import check_limits, limit_sentence
from nas_compress.report.steps import step_conditions, step_headers, steps_rows
from nas_compress.tasks import quality_of


def table_headers(artefacts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the headers of `table_rows`."""
    entries = everywhere(artefacts[0]) if artefacts else [{}]
    latencies = (
        [f"{batch_and_threads(entry['context'])} (ms)" for entry in entries] if len(entries) > 1 else ["latency (ms)"]
    )
    return ("network", f"test {quality_of(entries[0]).header}", "MACs", "parameters", "file (kB)", *latencies)


def write_report(folder: Path) -> Path:
    """Write the report of a finished recipe and return the path of the page.

    Args:
        folder: The recipe's output folder, with the record of a `benchmark` step.

    Raises:
        ConfigError: The folder is not one, or the recipe has not come to its benchmark yet.
    """
    outcomes = _outcomes(folder)
    artefacts, select = outcomes["benchmark"]["artefacts"], outcomes.get("select", {})
    content = {
        "format": "nas_compress report",
        "version": 1,
        "artefacts": artefacts,
        "comparisons": compare_all(artefacts),
        "limits": check_limits(select.get("constraints", {}), artefacts, select.get("timed")),
        "steps": {name: outcome for name, outcome in outcomes.items() if name != "benchmark"},
        **{name: count for name, count in outcomes["benchmark"].items() if name.startswith("test_")},
    }
    with replacing(folder / "report.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    page = folder / "report.html"
    with replacing(page) as temporary:
        temporary.write_text(_page(folder, content), encoding="utf-8")
    return page


def _outcomes(folder: Path) -> dict[str, Any]:
    path = folder / "steps.json"
    if not path.is_file():
        raise ConfigError(f"{folder} is not the folder of a recipe: it has no {path.name}")
    try:
        steps = json.loads(path.read_text(encoding="utf-8"))["steps"]
        outcomes = {name: step["outcome"] for name, step in steps.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged; run the recipe again") from error
    if "benchmark" not in outcomes:
        raise ConfigError(f"nothing to report in {folder}: its recipe has not come to a 'benchmark' step yet")
    return outcomes


def table_rows(artefacts: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row of text per artefact: name, quality, MACs, parameters, file size, latencies.

    A latency that is not the wall time of undisturbed runs is marked with its clock.
    """
    return [
        (
            entry["name"],
            figure(*(entry[quality_of(entry).name][name] for name in ("value", "spread"))),
            f"{entry['macs']:,}",
            f"{entry['params']:,}",
            f"{entry['size_bytes'] / 1e3:,.1f}",
            *(latency_text(timed["latency"]) for timed in everywhere(entry)),
        )
        for entry in artefacts
    ]


def _limits(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    items = "".join(f"<li>{html.escape(limit_sentence(row))}</li>\n" for row in rows)
    return [f"<h2>Limits, checked on the exported files</h2>\n<ul>\n{items}</ul>"]


def _page(folder: Path, content: Mapping[str, Any]) -> str:
    artefacts, steps = content["artefacts"], content["steps"]
    parts = [
        f"<h1>{html.escape(folder.resolve().name)}</h1>",
        _table(table_headers(artefacts), table_rows(artefacts)),
        *(f"<p>{html.escape(sentence(c))}</p>" for c in content["comparisons"]),
        *_limits(content["limits"]),
        *(f"<p class=small>{html.escape(line)}</p>" for line in artefact_conditions(artefacts)),
    ]
    if rows := steps_rows(steps):
        parts += ["<h2>Steps</h2>", _table(step_headers(steps), rows)]
        parts += [f"<p class=small>{html.escape(line)}</p>" for line in step_conditions(steps)]
    if (folder / "pareto.png").is_file():
        search = steps.get("nas", {})
        found = f"{search.get('evaluations')} architectures evaluated, {search.get('front')} on the Pareto front"
        counted = measured_on(artefacts[0])[2]
        parts += [f"<h2>Search</h2><p>{found} (search-validation {counted}).</p>", '<img src="pareto.png" alt="front">']
    if "select" in steps:
        chosen = html.escape(json.dumps(steps["select"]["architecture"]))
        parts += [f"<h2>Chosen architecture</h2><p><code>{chosen}</code></p>"]
    return _FRAME.format(title=html.escape(folder.resolve().name), body="\n".join(parts))


def _table(headers: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in headers)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(t)}</td>" for t in row) + "</tr>\n" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}</table>"


_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse }} img {{ max-width: 100% }}
td, th {{ padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: right }}
td:first-child, th:first-child {{ text-align: left }}
.small {{ font-size: .85em; color: #555 }}
code {{ overflow-wrap: anywhere }}
</style></head><body>
{body}
</body></html>
"""
