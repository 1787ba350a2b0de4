"""docs/configuration.md says what the schema says."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_configuration", DOCS / "make_configuration.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    wanted = module.render()
    assert module.PAGE.read_text(encoding="utf-8") == wanted, "run: python docs/make_configuration.py"
