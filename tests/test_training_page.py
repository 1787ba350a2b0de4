"""What docs/training.md shows can be run, and names options that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from nas_compress import Recipe
from nas_compress.training.config import Algorithm, Optimizer, Schedule, SupernetTrainOptions

PAGE = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", snippets("yaml"))
def test_its_recipes_are_right(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    recipe = Recipe.from_yaml(tmp_path / "recipe.yaml")
    recipe.output = tmp_path
    recipe.check()


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = snippets("python")
    monkeypatch.chdir(tmp_path)
    quick = code.replace("epochs=30", "epochs=1, batch_size=512, subnets_per_step=2, curve=10")
    assert quick != code
    scope: dict[str, object] = {}
    exec(compile(quick, "docs/training.md", "exec"), scope)
    assert len(scope["log"]) == 1 and (tmp_path / "state" / "training.json").is_file()


@pytest.mark.parametrize("choices", [Algorithm, Optimizer, Schedule])
def test_all_choices_are_named(choices: object) -> None:
    assert [name for name in get_args(choices) if f"`{name}`" not in PAGE] == []


def test_options_that_are_set_exist() -> None:
    named = set(re.findall(r"`(\w+): [\w.]+`", PAGE)) - {"supernet_ckpt_path", "sort", "supernet"}
    assert named <= {*SupernetTrainOptions.model_fields, "sandwich"}
    assert {"ema", "accumulate", "target", "curve", "augment"} <= named
