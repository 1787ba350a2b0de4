"""The command line: parses, calls, prints. A user's mistake gives one message and exit code 2, never a traceback."""

from __future__ import annotations

import json
import logging
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from nas_compress import console
from nas_compress.cli_latency import build_lut
from nas_compress.cli_score import ArchitectureArgument, named_architecture, score
from nas_compress.config import NASConfig
from nas_compress.documents import template_path
from nas_compress.errors import ConfigError, NASError
from nas_compress.files import check_image
from nas_compress.listing import Topic, names
from nas_compress.recipe import Recipe

if TYPE_CHECKING:
    from nas_compress.pipeline import CompressionResult
    from nas_compress.space import SearchSpace

USER_ERROR = 2
INTERRUPTED = 130
RESUMED = ("search", "compress", "train-supernet", "build-lut")


class _Commands(TyperGroup):
    """Turns the errors that a user can cause into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except NASError as error:
            console.complain(f"error: {error}")
            raise SystemExit(USER_ERROR) from None
        except KeyboardInterrupt:
            kept = "; training and measurements are kept: the same command goes on from there"
            console.complain(f"interrupted{kept if ctx.invoked_subcommand in RESUMED else ''}")
            raise SystemExit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Search super-networks for sub-networks that are fast on CPUs, and compress them.",
)

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe: a template's name or a YAML file.")]
ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A search config: a template's name or a YAML file.")
]
OutputOption = Annotated[Path | None, typer.Option(help="Folder for everything, instead of the recipe's.")]
SeedOption = Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Seed, instead of the one in the file.")]


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        version = metadata.version("nas-compress")
    except metadata.PackageNotFoundError:
        version = "(a source tree, not installed)"
    typer.echo(f"nas-compress {version}")
    raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also log what is done, with more detail.")] = False,
) -> None:
    console.set_up_logging(logging.DEBUG if verbose else logging.WARNING)


@app.command()
def search(
    config: ConfigArgument,
    plot: Annotated[Path | None, typer.Option(help="Write the Pareto front as an image (.png, .pdf, .svg).")] = None,
    seed: SeedOption = None,
) -> None:
    """Search a super-network and print the Pareto front.

    Started again, a search that was interrupted goes on where it stopped.
    """
    settings = NASConfig.from_yaml(config)
    if seed is not None:
        settings.seed = seed
    if plot is not None:
        check_image(plot, "--plot")

    from nas_compress.agent import NAS

    agent = NAS(settings)
    with console.search_progress() as on_trial:
        result = agent.search(on_trial)
    console.show_front(result)
    console.show_search(result)
    if plot is not None:
        result.plot(plot)
        console.say(f"plot: {plot}")
    console.say(f"all results: {settings.section.results_csv_path}")


@app.command()
def compress(recipe: RecipeArgument, output: OutputOption = None, seed: SeedOption = None) -> None:
    """Run a recipe: train, search, select, distill, prune, quantize, export, measure.

    Every step's outcome is kept in the output folder: run the command again and it goes on at the first step that
    is not done. Exit code 1 says that a step's `stop_if` ended the recipe.
    """
    result = _run(_recipe(recipe, output, seed))
    console.show_compression(result)
    if result.stopped is not None:
        console.say(f"stopped at {result.stopped}")
        raise typer.Exit(1)


@app.command()
def train_supernet(recipe: RecipeArgument, output: OutputOption = None, seed: SeedOption = None) -> None:
    """Run the train_supernet step of a recipe alone.

    Started again, training goes on where it stood. Its curve is in `training.csv` and `training.png`. Several processes
    share the work: `torchrun --standalone --nproc-per-node=2 -m nas_compress train-supernet RECIPE`.
    """
    result = _run(_recipe(recipe, output, seed), until="train_supernet")
    if result.outcomes:  # of several processes, the first one's
        console.say(f"weights: {result.folder / result.outcomes['train_supernet']['weights']}")


def _recipe(name_or_path: str, output: Path | None, seed: int | None) -> Recipe:
    recipe = Recipe.from_yaml(name_or_path)
    if output is not None:
        recipe.output = output
    if seed is not None:
        recipe.seed = seed
    return recipe


def _run(recipe: Recipe, until: str | None = None) -> CompressionResult:
    from nas_compress import pipeline

    pipeline.check(recipe, until)
    with console.recipe_progress() as progress:
        return pipeline.compress(recipe, until=until, progress=progress)


@app.command()
def measure(
    config: ConfigArgument,
    architecture: ArchitectureArgument = "largest",
) -> None:
    """Measure one architecture of a super-network in every metric of a search config."""
    from nas_compress.agent import NAS

    agent = NAS(NASConfig.from_yaml(config))
    point = named_architecture(agent.space, architecture)
    subnet: Any = agent.build(point)
    console.show_measurements([(each, each.measure(subnet, point)) for each in agent.metrics()], agent.conditions())


app.command()(score)
app.command()(build_lut)


@app.command()
def popdb(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="Archive (.jsonl) or results table of a finished search.")
    ],
    config: ConfigArgument,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]PART",
            help="Values that occur in this part of the clustered architectures, or in less, leave: 0.01 by default. "
            "May be repeated, for single dimensions (ks=0.02); if all are, the others keep their values.",
        ),
    ] = None,
    min_cluster_size: Annotated[int, typer.Option(help="Fewest architectures that make a cluster.")] = 50,
    min_samples: Annotated[int, typer.Option(help="Neighbours of an architecture in a dense place.")] = 10,
    output: Annotated[
        Path | None, typer.Option(help="Write the config with the restricted space to this file.")
    ] = None,
) -> None:
    """Restrict a search space to where a finished search was dense (PopDB), for searches to come.

    The space is that of the config's super-network, as the config restricts it.
    """
    settings = NASConfig.from_yaml(config)
    space, searched = _spaces(settings)
    if output is not None and output.exists():
        raise ConfigError(f"--output: {output} exists; give another path")

    from nas_compress.search.popdb import parse_thresholds
    from nas_compress.search.popdb import popdb as restrict
    from nas_compress.tables import read_results

    thresholds = parse_thresholds(threshold or ["0.01"], searched)
    rows = read_results(results, space)
    architectures = [a for a, values in rows if values and searched.contains(a)]
    if not architectures:
        raise ConfigError(f"{results} has no architecture inside search_space with a value of a known metric")
    found = restrict(
        searched, architectures, threshold=thresholds, min_cluster_size=min_cluster_size, min_samples=min_samples
    )
    console.show_popdb(found, left_out=len(rows) - len(architectures))
    if output is not None:
        settings.search_space = {**(settings.search_space or {}), **found.restriction} or None
        table = settings.section.results_csv_path
        settings.section.results_csv_path = table.with_stem(f"{table.stem}-popdb")
        settings.to_yaml(output)
        console.say(f"config: {output}")


def _spaces(config: NASConfig) -> tuple[SearchSpace, SearchSpace]:
    """Return the space of a config, with precisions if it has some, whole and as it restricts it; no net is built."""
    from nas_compress.supernets import supernets

    where, name, precision = f"nas.{config.approach}", config.section.supernet, config.section.precision
    if name is None:
        raise ConfigError(f"{where}.supernet: is not set; known: {', '.join(supernets)}")
    space = _space(f"{where}.supernet", name)
    if precision is not None:
        try:
            space = precision.space(space)
        except ConfigError as error:
            raise ConfigError(f"{where}.precision: {error}") from None
    try:
        return space, space.restrict(config.search_space or {})
    except ConfigError as error:
        raise ConfigError(f"nas.search.search_space: {error}") from None


def _space(where: str, supernet: str) -> SearchSpace:
    """Return the space of a super-network, which is not built."""
    from nas_compress.supernets import supernets

    make = supernets.entry(supernet).info.get("space")
    if make is None:
        raise ConfigError(f"{where}: {supernet!r} is registered without its space; call the function from Python")
    space: SearchSpace = make()
    return space


@app.command()
def analyse_predictors(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Archive (.jsonl) or table of measured results.")],
    supernet: Annotated[str | None, typer.Option(help="The super-network whose architectures these are.")] = None,
    config: Annotated[
        str | None, typer.Option(help="Instead: a search config that names it, and the precisions that were searched.")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="May be repeated; else all that was measured.")] = None,
    predictor: Annotated[list[str] | None, typer.Option(help="May be repeated; else gp, ridge and svr.")] = None,
    sizes: Annotated[str | None, typer.Option(help="Numbers of architectures to fit to, such as 50,100,200.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Splits into training and test rows.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the splits.")] = 42,
    output: Annotated[Path | None, typer.Option(help="Write the figures as a table (.csv).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the curves as an image (.png, .pdf, .svg).")] = None,
) -> None:
    """Score predictors on measured results: error and rank correlation against the number of architectures."""
    if plot is not None:
        check_image(plot, "--plot")
    if output is not None and output.is_dir():
        raise ConfigError(f"--output: {output} is a folder; give the path of a file (.csv)")
    if (supernet is None) == (config is None):
        raise ConfigError("give --supernet or --config" + (", not both" if supernet else ""))

    from nas_compress import analysis
    from nas_compress.tables import read_results

    counts, names = analysis.parse_sizes(sizes) if sizes else None, predictor or analysis.PREDICTORS
    space = _space("--supernet", supernet) if supernet else _spaces(NASConfig.from_yaml(config or ""))[0]
    rows = read_results(results, space)
    with console.analysis_progress() as progress:
        found = analysis.analyse_metrics(
            space, rows, metric, names, counts, trials=trials, seed=seed, progress=progress
        )
    for each in found:
        console.show_predictor_analysis(each)
    if output is not None:
        analysis.write_tables(found, output)
        console.say(f"table: {output}")
    if plot is not None:
        analysis.plot_analyses(found, plot)
        console.say(f"plot: {plot}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The output folder of a recipe.")],
) -> None:
    """Write the report of a finished recipe again, from what its folder holds."""
    if not folder.is_dir():
        raise ConfigError(f"no such folder: {folder}")

    from nas_compress.report import write_report

    console.say(f"report: {write_report(folder)}")


@app.command("list")
def list_names(
    topic: Annotated[Topic | None, typer.Argument(help="What to list; everything if not given.")] = None,
) -> None:
    """List the names that configs and recipes can use, with a line each."""
    for each in [topic] if topic else list(Topic):
        console.show_names(each.value, names(each))


@app.command()
def init(
    template: Annotated[
        str | None, typer.Argument(metavar="TEMPLATE", help="A template's name; all are listed if not given.")
    ] = None,
    path: Annotated[Path | None, typer.Argument(help="The file to write; TEMPLATE.yaml if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Copy a template to a file of your own, to edit."""
    if template is None:
        console.show_names("templates", names(Topic.templates))
        return
    source = template_path(template)
    target = path or Path(f"{source.stem}.yaml")
    target = target / f"{source.stem}.yaml" if target.is_dir() else target
    if target.exists() and not force:
        raise ConfigError(f"{target} exists; give another path, or --force to replace it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from None
    console.say(f"wrote {target}")


class Document(StrEnum):
    """What `schema` describes."""

    search = "search"
    recipe = "recipe"


@app.command()
def schema(
    document: Annotated[Document, typer.Argument(help="`search` for search configs, `recipe` for recipes.")],
) -> None:
    """Print the JSON schema of a search config or a recipe, for editors."""
    described = NASConfig.json_schema() if document is Document.search else Recipe.json_schema()
    typer.echo(json.dumps(described, indent=2))


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
