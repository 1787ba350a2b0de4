"""Weight files: what is written reads back; what does not fit is named; nothing is unpickled."""

from __future__ import annotations

import functools
import io
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, nn

from nas_compress.errors import CheckpointError
from nas_compress.weights import hash_tensors, load_into, read_header, read_state, write_state


def net(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("key", [None, "state_dict", "net", "state_dict_ema"])
def test_weights_read_back(tmp_path: Path, suffix: str, key: str | None) -> None:
    source, target = net().to(memory_format=torch.channels_last), net()
    path = tmp_path / "deep" / f"weights{suffix}"
    if suffix == ".safetensors":
        write_state(path, source.state_dict(), {"made by": "a test"})
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == {"made by": '"a test"'}
    else:
        path.parent.mkdir()
        torch.save(source.state_dict() if key is None else {key: source.state_dict(), "epoch": 3}, path)
    assert not same(source, target)
    load_into(target, read_state(path), path)
    assert same(source, target)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_other_networks_are_named_by_their_first_difference() -> None:
    with pytest.raises(CheckpointError, match=r"x.pt is of another network: 0.weight has shape \(5, 1, 3, 3\)"):
        load_into(net(4), net(5).state_dict(), "x.pt")
    with pytest.raises(CheckpointError, match=r"lacks 1.weight of shape \(4,\)"):
        load_into(net(), net()[:1].state_dict(), "x.pt")
    with pytest.raises(CheckpointError, match=r"has 1.weight, which this network lacks"):
        load_into(net()[:1], net().state_dict(), "x.pt")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: (t * 100).to(torch.int8), "0.weight is of type int8, this network wants float32"),
        (lambda t: t.to(torch.complex64), "0.weight is of type complex64, this network wants float32"),
        (lambda t: t * float("nan"), "0.weight is not finite"),
        (lambda t: t / 0, "0.weight is not finite"),
    ],
)
def test_tensors_of_another_kind_are_refused(change: Callable[[Tensor], Tensor], reason: str) -> None:
    target, before = net(), net()
    before.load_state_dict(target.state_dict())
    state = {key: change(value) if key == "0.weight" else value for key, value in net().state_dict().items()}
    with pytest.raises(CheckpointError, match=f"^x.pt .*{reason}"):
        load_into(target, state, "x.pt")
    assert same(target, before)
    counted = {**net().state_dict(), "1.num_batches_tracked": torch.tensor(1.5)}
    with pytest.raises(CheckpointError, match="num_batches_tracked is of type float32, this network wants int64"):
        load_into(target, counted, "x.pt")


def test_what_the_network_itself_has_infinite_may_be_so() -> None:
    def attention(mask: float) -> nn.Module:
        module = nn.Linear(2, 2)
        module.register_buffer("mask", torch.tensor([0.0, mask]))
        return module

    load_into(attention(-torch.inf), attention(-torch.inf).state_dict(), "x.pt")
    for mask in (torch.inf, torch.nan):
        with pytest.raises(CheckpointError, match="mask is not finite"):
            load_into(attention(-torch.inf), attention(mask).state_dict(), "x.pt")


def test_states_are_tensors(tmp_path: Path) -> None:
    for store in (hash_tensors, functools.partial(write_state, tmp_path / "x.safetensors")):
        with pytest.raises(CheckpointError, match="state holds 0._extra_state, a dict, which cannot be stored"):
            store({"0._extra_state": {"a": 1}})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken(dtype: torch.dtype) -> None:
    target, source = net(), net()
    state = {k: v.to(dtype) if v.is_floating_point() else v.to(torch.int32) for k, v in source.state_dict().items()}
    load_into(target, state, "x.pt")
    assert torch.allclose(target[0].weight, source[0].weight, atol=1e-2)


def test_keys_of_the_file_are_told() -> None:
    state = {**net().state_dict(), "0.weight": torch.ones(5, 1, 3, 3), "odd": torch.ones(1)}
    names = {"0.weight": "conv.w", "odd": "strange"}
    with pytest.raises(CheckpointError, match=r"0\.weight \(conv\.w in the file\) has shape"):
        load_into(net(), state, "x.pt", names)
    state["0.weight"] = torch.ones(4, 1, 3, 3) / 0
    with pytest.raises(CheckpointError, match=r"0\.weight \(conv\.w in the file\) is not finite"):
        load_into(net(), state, "x.pt", names)
    state["0.weight"] = torch.ones(4, 1, 3, 3)
    with pytest.raises(CheckpointError, match=r"it has odd \(strange in the file\), which"):
        load_into(net(), state, "x.pt", names)


def test_unreadable_files_are_checkpoint_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        read_state(tmp_path / "none.pt")
    whole = tmp_path / "weights.safetensors"
    write_state(whole, net().state_dict())
    for name, content in (("torn.safetensors", whole.read_bytes()[:60]), ("text.pt", b"hello"), ("empty.pth", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            read_state(tmp_path / name)


class Other:
    """An object of a class that is no tensor's."""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda path: torch.save(net(), path), "objects of torch.nn.modules.container.Sequential"),
        (lambda path: torch.save({"state_dict": Other()}, path), "objects of .*Other"),
        (lambda path: path.write_bytes(pickle.dumps(Other(), protocol=4)), "is not a file of torch.save"),
    ],
    ids=["a whole module", "another object", "a pickle"],
)
def test_files_with_code_are_refused_in_words_of_ours(
    tmp_path: Path, content: Callable[[Path], object], reason: str
) -> None:
    content(tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match=rf"code\.pt .*{reason}") as raised:
        read_state(tmp_path / "code.pt")
    assert "weights_only" not in str(raised.value) and "\n" not in str(raised.value)


def legacy_file() -> bytes:
    """Return a file as torch wrote them before 1.6."""
    file = io.BytesIO()
    torch.save(net().state_dict(), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


LEGACY = legacy_file()


@given(position=st.integers(0, len(LEGACY) - 1), value=st.integers(0, 255), length=st.integers(1, len(LEGACY)))
@settings(max_examples=300)
@pytest.mark.filterwarnings("ignore")
def test_damaged_legacy_files_are_checkpoint_errors(position: int, value: int, length: int) -> None:
    content = bytearray(LEGACY)
    content[position] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "old.pth"
        path.write_bytes(content[:length])
        try:
            read_state(path)
        except CheckpointError as error:
            assert "old.pth" in str(error)


def test_every_cut_legacy_file_is_a_checkpoint_error(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    for length in range(0, len(LEGACY), 7):
        path.write_bytes(LEGACY[:length])
        with pytest.raises(CheckpointError, match=r"old\.pth"):
            read_state(path)


def test_the_hash_tells_names_values_and_descriptions_apart() -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}
    same_again = {"b": tensors["b"].clone(), "a": tensors["a"].t().contiguous().t()}
    assert hash_tensors(tensors) == hash_tensors(same_again)
    others = [{**tensors, "a": tensors["a"] + 1}, {"a": tensors["a"], "c": tensors["b"]}]
    hashes = {hash_tensors(tensors), hash_tensors(tensors, "large"), *map(hash_tensors, others)}
    assert len(hashes) == 4


class Evil:
    """Would make a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickled_objects_are_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(trace)))
    torch.save({"state_dict": Evil(trace)}, tmp_path / "zip.pt")
    for name in ("plain.pt", "zip.pt"):
        with pytest.raises(CheckpointError, match="cannot read"):
            read_state(tmp_path / name)
    assert not trace.exists()


def test_files_that_hold_no_state_dictionary(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no state dictionary .tensors by name.; it holds epoch$"):
        read_state(tmp_path / "other.pt")
    torch.save({"weights": net().state_dict(), "epoch": 3}, tmp_path / "own.pt")
    with pytest.raises(CheckpointError, match="it holds weights, epoch"):
        read_state(tmp_path / "own.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="it holds a list"):
        read_state(tmp_path / "list.pt")


def test_nested_state_dictionaries_are_found(tmp_path: Path) -> None:
    torch.save({"model": {"state_dict": net().state_dict()}}, tmp_path / "nested.pt")
    assert read_state(tmp_path / "nested.pt").keys() == net().state_dict().keys()


@given(st.dictionaries(st.text(min_size=1), st.one_of(st.text(), st.floats(allow_nan=False), st.lists(st.text()))))
@settings(max_examples=60)
def test_the_same_weights_and_data_make_the_same_file(metadata: dict[str, object]) -> None:
    metadata.pop("__metadata__", None)
    with tempfile.TemporaryDirectory() as folder:
        written = set()
        for number in range(3):
            path = Path(folder) / f"{number}.safetensors"
            write_state(path, {"w": torch.arange(3.0)}, {**metadata, "a": 1, "b": [2], "c": {"d": "é\u0007/\x7f"}})
            assert read_header(path) == {**metadata, "a": 1, "b": [2], "c": {"d": "é\u0007/\x7f"}}
            assert torch.equal(read_state(path)["w"], torch.arange(3.0))
            written.add(path.read_bytes())
        assert len(written) == 1
