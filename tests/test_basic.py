import contextlib
import functools
import gc
import importlib.util
import json
import logging
import math
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.archive import Archive
from nas_compress.basic import ModelFunctions, basic_space, params_of, user_metrics, values_by_metric
from nas_compress.errors import ArchitectureError, ConfigError, EvaluationError
from nas_compress.records import Record, plain
from nas_compress.space import Architecture, Condition, SearchSpace

SPACE = {"channels": [32, 16], "act": ["relu", "gelu"], "bias": [True, False], "rate": [0.0, 0.25]}


def builder(params):
    return dict(params)


def trainer(model):
    model["trained"] = True


def evaluator(model):
    return [model["channels"] / 64, float(len(model["act"]))]


def functions(**changes):
    return ModelFunctions(**{"model_builder": builder, "eval_func": evaluator, "train_func": trainer, **changes})


# -- the space ---------------------------------------------------------------------------------------------------

scalars = st.one_of(
    st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
spaces = st.dictionaries(
    st.text(min_size=1, max_size=5), st.lists(scalars, min_size=1, max_size=4, unique=True), min_size=1, max_size=4
)


def exactly(values):
    return [(type(v), v) for v in values]


@given(spaces, st.integers(0, 2**32))
def test_values_come_back_as_they_were_given(given_space, seed):
    space = basic_space(given_space)
    assert space.size() == math.prod(len(values) for values in given_space.values())
    (architecture,) = space.sample(np.random.default_rng(seed), 1)
    params = params_of(architecture)
    assert list(params) == list(given_space)
    for name, values in given_space.items():
        numbers = {type(v) for v in values} <= {int, float}
        if numbers and len({type(v) for v in values}) == 2:  # 1 and 0.5 in one list: all become floats
            assert params[name] in values
        else:
            assert (type(params[name]), params[name]) in exactly(values)
    read = Architecture.parse(str(architecture))
    assert read == architecture and params_of(read) == params
    assert [type(v) for v in params_of(read).values()] == [type(v) for v in params.values()]
    assert space.canonicalize(read) == architecture


@given(st.lists(spaces, min_size=1, max_size=5))
@settings(max_examples=20)
def test_an_archive_gives_back_what_was_recorded(given_spaces):
    architectures = [basic_space(given_space).largest() for given_space in given_spaces]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "search.jsonl"
        with Archive.open(path, {}) as archive:
            key = archive.add_context({})
            for architecture in architectures:
                archive.append(Record(architecture, "acc", key, value=1.0))
        with Archive.open(path, {}) as archive:
            assert [r.architecture for r in archive.records] == list(dict.fromkeys(architectures))
            for architecture in architectures:
                assert archive.get(architecture, "acc", key) is not None


def test_texts_keep_their_order_and_numbers_are_sorted():
    space = basic_space(SPACE)
    assert params_of(space.smallest()) == {"channels": 16, "act": "relu", "bias": False, "rate": 0.0}
    assert params_of(space.largest()) == {"channels": 32, "act": "gelu", "bias": True, "rate": 0.25}


def test_a_mixture_keeps_every_value():
    space = basic_space({"norm": [False, "bn", 2, 0.5]})
    values = [params_of(a)["norm"] for a in space.decode(np.array([[0], [1], [2], [3]]))]
    assert exactly(values) == exactly([False, "bn", 2, 0.5])
    assert space.features([space.smallest()]).tolist() == [[0.25, 1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("{'act': ['relu'], 'bias': [True], 'wid': None}", {"act": ("relu",), "bias": (True,)}),
        ('{"act": ["null"], "bias": [false], "wid": null}', {"act": ("null",), "bias": (False,)}),
        (
            "{'a': \"it's true\", 'b': 'say \\'null\\' or \"true\"'}",
            {"a": ("it's true",), "b": ("say 'null' or \"true\"",)},
        ),
    ],
)
def test_texts_and_words_in_written_architectures(text, values):
    architecture = Architecture.parse(text)
    assert dict(architecture) == values
    assert all(type(a) is type(b) for name in values for a, b in zip(architecture[name], values[name], strict=True))
    assert Architecture.parse(str(architecture)) == architecture


def test_texts_in_a_space_are_checked_and_restricted():
    space = basic_space(SPACE)
    with pytest.raises(ArchitectureError, match=r"act\[0\] = 'tanh' is not legal; allowed: relu, gelu"):
        space.validate(Architecture({**space.largest(), "act": "tanh"}))
    assert space.restrict({"act": "gelu", "bias": True}).size() == 4
    with pytest.raises(ConfigError, match=r"act\[0\]: \[1, 'gelu'\] is not a part of"):
        space.restrict({"act": ["gelu", 1]})
    with pytest.raises(ConfigError, match="act holds texts"):
        SearchSpace("s", space.dimensions, [Condition(("rate", 0), ("act", 0), 1)])


# -- what the functions return -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "metrics", "values"),
    [
        (0.5, ["acc"], [0.5]),
        (3, ["acc"], [3.0]),
        (np.float32(0.5), ["acc"], [0.5]),
        (np.array(0.5), ["acc"], [0.5]),
        (np.array([0.5, 2.0]), ["acc", "ms"], [0.5, 2.0]),
        ([0.5, 2], ["acc", "ms"], [0.5, 2.0]),
        ((np.float64(0.5), np.array(2)), ["acc", "ms"], [0.5, 2.0]),
        ({"ms": 2, "acc": 0.5, "loss": 7}, ["acc", "ms"], [0.5, 2.0]),
        ([0.5], ["acc"], [0.5]),
    ],
)
def test_what_eval_func_may_return(returned, metrics, values):
    assert values_by_metric(returned, metrics) == dict(zip(metrics, values, strict=True))


def test_tensors_may_be_returned():
    torch = pytest.importorskip("torch")
    assert values_by_metric(torch.tensor([0.5, 2.0]), ["acc", "ms"]) == {"acc": 0.5, "ms": 2.0}
    scalar = torch.tensor(0.5, requires_grad=True)
    assert values_by_metric({"acc": scalar, "ms": torch.tensor(2)}, ["acc", "ms"]) == {"acc": 0.5, "ms": 2.0}


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (0.5, r"returned 1 value, there are 2 metrics \(acc, ms\)"),
        ([1, 2, 3], "returned 3 values, there are 2 metrics"),
        ([], "returned 0 values"),
        ({"accuracy": 1, "ms": 2}, "returned no value for acc; its names are accuracy, ms"),
        (None, "returned 1 value"),
        (["high", 1], "returned 'high' for acc, which is not a number"),
        (["0.5", 1], "not a number"),
        ([1, None], "returned null for ms"),
        ([1, [2, 3]], "for ms, which is not a number"),
    ],
)
def test_what_it_may_not_return(returned, message):
    with pytest.raises(EvaluationError, match=message):
        values_by_metric(returned, ["acc", "ms"])


def test_a_value_that_is_not_finite_is_left_to_the_search():
    assert math.isnan(values_by_metric(float("nan"), ["acc"])["acc"])


# -- the functions -----------------------------------------------------------------------------------------------

ARCHITECTURE = basic_space(SPACE).largest()


def test_a_model_is_built_trained_and_evaluated():
    assert functions().build(ARCHITECTURE) == {**params_of(ARCHITECTURE), "trained": True}
    assert "trained" not in functions(train_func=None).build(ARCHITECTURE)
    assert functions().evaluate(ARCHITECTURE, ["acc", "size"]) == {"acc": 0.5, "size": 4.0}


def fail(argument):
    raise ValueError("the shapes do not fit\nand more")


@pytest.mark.parametrize("name", ["model_builder", "train_func", "eval_func"])
def test_an_exception_becomes_a_failure_that_names_the_function(name, caplog):
    failing = functions(**{name: fail})
    with caplog.at_level(logging.DEBUG), pytest.raises(EvaluationError) as caught:
        failing.evaluate(ARCHITECTURE, ["acc", "size"])
    assert str(caught.value) == f"{name} raised ValueError: the shapes do not fit"
    assert isinstance(caught.value.__cause__, ValueError) and failing.failure is caught.value
    assert "in fail" in caplog.text


def test_a_kept_failure_holds_no_model():
    class Model:
        pass

    alive = []

    def build(params):
        model = Model()
        alive.append(weakref.ref(model))
        return model

    failing = functions(model_builder=build, train_func=fail)
    with contextlib.suppress(EvaluationError):
        failing.evaluate(ARCHITECTURE, ["acc"])
    gc.collect()
    assert failing.failure is not None and alive[0]() is None


def test_interrupts_pass():
    def interrupt(model):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        functions(train_func=interrupt).evaluate(ARCHITECTURE, ["acc"])


def test_a_builder_that_returns_nothing_is_told():
    with pytest.raises(EvaluationError, match="model_builder returned None; it must return the model"):
        functions(model_builder=lambda params: None).build(ARCHITECTURE)


@pytest.mark.parametrize("name", ["model_builder", "eval_func"])
def test_missing_functions_are_told_by_name(name):
    with pytest.raises(ConfigError, match=f"{name} is not set; approach basic .* agent.{name} = a function"):
        functions(**{name: None})
    with pytest.raises(ConfigError, match=f"{name}: 'f.py' is no function"):
        functions(**{name: "f.py"})


def made(source, tmp_path, name="train"):
    """Return a function out of a file, as imported code has it."""
    path = tmp_path / f"m{len(list(tmp_path.iterdir()))}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("user_code", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def test_the_context_tells_changed_code_from_changed_comments(tmp_path):
    code = "def train(model):\n    model['epochs'] = 1\n"
    contexts = [
        functions(train_func=made(text, tmp_path)).context()["train_func"]
        for text in (code, code.replace("model:", "model:\n\n    # twice is enough"), code.replace("1", "2"))
    ]
    assert contexts[0] == contexts[1] != contexts[2]
    assert functions(train_func=None).context().keys() == {"model_builder", "eval_func"}


def test_the_context_tells_bound_arguments_and_code_without_source():
    def context(function):
        return functions(train_func=function).context()["train_func"]

    bound = [functools.partial(trainer, **given) for given in ({}, {"lr": 1}, {"lr": 2}, {"lr": 1})]
    found = [json.dumps(context(function)) for function in bound]
    assert found[1] == found[3] and len(set(found)) == 3
    twice = functools.partial(functools.partial(trainer, 3), lr=1)
    assert context(twice) == context(functools.partial(trainer, 3, lr=1))
    compiled = [eval(f"lambda model: model.train({epochs})") for epochs in (1, 2, 1)]  # as typed into a terminal
    first, second, third = (context(function) for function in compiled)
    assert first == third != second


def test_any_callable_has_a_context():
    class Trainer:
        def __call__(self, model):
            pass

    for function in (Trainer(), Trainer().__call__, functools.partial(trainer), len, Trainer, lambda model: None):
        context = functions(train_func=function).context()["train_func"]
        assert context["name"] and plain(context, "context") == context
        assert functions(train_func=function).context()["train_func"] == context


# -- settings ----------------------------------------------------------------------------------------------------


def test_directions():
    told = user_metrics(["loss", "f1"], [False, True])
    assert [(m.name, m.direction, m.unit, m.column) for m in told] == [
        ("loss", "minimize", "", "loss"),
        ("f1", "maximize", "", "f1"),
    ]
    assert [m.direction for m in user_metrics(["acc", "latency", "macs"], None)] == ["maximize", "minimize", "minimize"]


def test_nothing_heavy_is_imported():
    script = "import sys, nas_compress.basic; sys.exit(any(m in sys.modules for m in ('torch', 'sklearn', 'pandas')))"
    subprocess.run([sys.executable, "-c", script], check=True)
