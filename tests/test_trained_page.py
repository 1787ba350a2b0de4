"""docs/trained.md says what the cards in the package say."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from nas_compress import Recipe
from nas_compress.supernets import supernets
from nas_compress.supernets.trained import Card, Result, cards, weights_file, write_card

DOCS = Path(__file__).resolve().parents[1] / "docs"
NAME = "digits_mbv3"


@pytest.fixture(scope="module")
def made():
    spec = importlib.util.spec_from_file_location("make_trained", DOCS / "make_trained.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """A folder with one card; its weights do not matter to the page."""
    genes = supernets.entry(NAME).info["space"]().largest().to_dict()
    figures = (("smallest", 179_000, 91.5), ("median", 950_000, 96.25), ("largest", 3_240_000, 98.0))
    card = Card(
        supernet=NAME,
        sha256="0" * 64,
        size=1_234_567,
        dtype="fp16",
        dataset="digits",
        data="0123456789abcdef",
        licence="CC BY 4.0",
        recipe={"supernet": NAME, "seed": 1, "steps": [{"train_supernet": {"epochs": 3}}]},
        log=[],
        seconds=5400,
        machine="one core of a CPU",
        versions={"torch": "2.13.0"},
        metric="acc",
        unit="%",
        conditions={"split": "test", "images": 10_000, "calibration_images": 2000},
        results=[Result(role=r, architecture=genes, macs=m, params=1000, value=v, spread=0.25) for r, m, v in figures],
    )
    assert write_card(card, tmp_path) == weights_file(NAME, tmp_path).with_suffix(".json")
    return tmp_path


def test_the_page_is_up_to_date(made):
    assert made.render() == (DOCS / "trained.md").read_text(encoding="utf-8"), "run: python docs/make_trained.py"


def test_without_cards_the_page_says_so(made, tmp_path):
    page = made.render(tmp_path)
    assert page.startswith("# Super-networks that come trained") and "there are none" in page and "|" not in page


def test_a_card_is_a_row_and_a_section(made, folder):
    page = made.render(folder)
    head, rule, row = [line for line in page.splitlines() if line.startswith("|")]
    assert head.count("|") == rule.count("|") == row.count("|")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == [f"`{NAME}`", "`digits`", f"{supernets.entry(NAME).info['space']().size():,}", "179k to 3.24M"]
    assert cells[4:8] == ["accuracy (%), 10,000 images", "91.50 ± 0.25", "96.25 ± 0.25", "98.00 ± 0.25"]
    assert cells[8:] == ["1.5 h, one core of a CPU", "1.2 MB, fp16"]
    for words in ("licence: CC BY 4.0", "fingerprint `0123456789abcdef`", f"SHA-256 `{'0' * 64}`"):
        assert words in page
    assert "none" not in page


def test_the_recipe_of_a_card_can_be_copied(made, folder):
    (text,) = re.findall(r"```yaml\n(.*?)```", made.render(folder), flags=re.S)
    recipe = Recipe.parse(yaml.safe_load(text))
    assert recipe.supernet == NAME and recipe.step("train_supernet").epochs == 3


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.supernet)
def test_recipes_of_the_package_are_right(card):
    Recipe.parse(card.recipe)
