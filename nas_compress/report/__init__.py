"""Reports of finished recipes: `report.json` for programs, `report.html` for people."""

from nas_compress.report.comparison import compare
from nas_compress.report.write import write_report

__all__ = ["compare", "write_report"]
