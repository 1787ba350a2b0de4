"""Reports of finished recipes: `report.json` for programs, `report.html` for people."""

from nas_compress.report.comparison import compare, compare_all, plus_minus, sentence
from nas_compress.report.conditions import CLOCKS, artefact_conditions, objective_conditions
from nas_compress.report.limits import check_limits, limit_sentence
from nas_compress.report.steps import step_conditions, step_headers, steps_rows, steps_table
from nas_compress.report.write import table_headers, table_rows, write_report

__all__ = [
    "CLOCKS",
    "artefact_conditions",
    "check_limits",
    "compare",
    "compare_all",
    "limit_sentence",
    "objective_conditions",
    "plus_minus",
    "sentence",
    "step_conditions",
    "step_headers",
    "steps_rows",
    "steps_table",
    "table_headers",
    "table_rows",
    "write_report",
]
