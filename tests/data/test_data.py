"""Data sources: contents, fixed splits, batches, and errors that name what is wrong."""

from __future__ import annotations

import gzip
import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from nas_compress.data import check, data_sources, image_folder, load_data, task_of
from nas_compress.data.base import (
    ImageData,
    ImageSplit,
    MemorySplit,
    batches,
    channel_statistics,
    check_fit,
    fair_order,
    memory_data,
    normalise,
    resize,
    stratified_split,
)
from nas_compress.data.idx import read_idx
from nas_compress.data.image_folder import FolderSplit, decode
from nas_compress.data.locate import FASHION_MNIST
from nas_compress.errors import DataError, UnknownNameError


def write_idx(path: Path, values: np.ndarray) -> None:
    content = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_idx_folder(root: Path, suffix: str = "", train: int = 60, test: int = 20, size: int = 6) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("train", train), ("t10k", test)):
        write_idx(root / f"{part}-images-idx3-ubyte{suffix}", rng.integers(0, 256, (n, size, size), dtype=np.uint8))
        write_idx(root / f"{part}-labels-idx1-ubyte{suffix}", (np.arange(n) % 3).astype(np.uint8))


def write_cifar10(root: Path, per_file: int = 20) -> None:
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        records = rng.integers(0, 256, (per_file, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(per_file) % 10
        (root / name).write_bytes(records.tobytes())


def write_image_folder(root: Path, parts: dict[str, int], classes: tuple[str, ...] = ("cat", "dog")) -> None:
    rng = np.random.default_rng(0)
    for part, per_class in parts.items():
        for label, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(per_class):
                pixels = rng.integers(0, 100, (30 + i % 3, 40, 3), dtype=np.uint8)
                pixels[..., label] += 120
                Image.fromarray(pixels).save(folder / f"{i:03d}.png")


def test_digits_parts_are_disjoint_stratified_and_always_the_same() -> None:
    data = load_data("digits")
    again = load_data("digits")
    assert data.fingerprint == again.fingerprint
    assert len(data.train) + len(data.val) + len(data.test) == 1797
    assert (len(data.val), len(data.test)) == (359, 359)
    images = [split.images(torch.arange(len(split)), 8).flatten(1) for split in (data.train, data.val, data.test)]
    # 1,797 distinct images: no image of one part is in another.
    assert len(torch.unique(torch.cat(images), dim=0)) == 1797
    for split in (data.train, data.val, data.test):
        shares = torch.bincount(split.labels, minlength=10) / len(split)
        assert torch.all((shares - 0.1).abs() < 0.01)
    assert images[0].mean().abs() < 1e-5
    assert (images[0].std() - 1).abs() < 1e-3


@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60)
def test_stratified_split_partitions_and_keeps_every_class_in_both(
    counts: list[int], fraction: float, seed: int
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    kept, carved = stratified_split(labels, fraction)
    assert sorted([*kept.tolist(), *carved.tolist()]) == list(range(len(labels)))
    shares = torch.bincount(labels[carved], minlength=len(counts)).tolist()
    assert all(1 <= share <= count - 1 for share, count in zip(shares, counts, strict=True))
    wanted = fraction * len(labels)
    if len(counts) <= wanted - 0.5 and wanted + 0.5 <= len(labels) - len(counts):
        assert abs(sum(shares) - wanted) <= 0.5
    quotas = [count * sum(shares) / len(labels) for count in counts]
    if all(1 <= quota <= count - 1 for quota, count in zip(quotas, counts, strict=True)):
        assert all(abs(share - quota) < 1 for share, quota in zip(shares, quotas, strict=True))


def test_split_of_a_class_with_one_image_is_refused() -> None:
    with pytest.raises(DataError, match="class 2 has a single training image"):
        stratified_split(torch.tensor([0, 0, 1, 1, 2]), 0.5)


def test_at_most_bounds_the_validation_part() -> None:
    kept, carved = stratified_split(torch.arange(10).repeat(100), 0.5, at_most=20)
    assert (len(kept), len(carved)) == (980, 20)


@given(counts=st.lists(st.integers(2, 40), min_size=1, max_size=30), at_most=st.integers(1, 400))
@settings(max_examples=60)
def test_at_most_is_an_upper_bound(counts: list[int], at_most: int) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    _, carved = stratified_split(labels, 0.5, at_most)
    assert len(carved) <= max(at_most, len(counts))


def test_at_most_bounds_many_small_classes() -> None:
    kept, carved = stratified_split(torch.arange(1000).repeat_interleave(15), 0.1)
    assert (len(kept), len(carved)) == (13500, 1500)
    kept, carved = stratified_split(torch.arange(1000).repeat_interleave(15), 0.1, at_most=1200)
    assert (len(kept), len(carved)) == (13800, 1200)


@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(sum))
@settings(max_examples=60)
def test_every_beginning_of_the_fair_order_holds_the_classes_shares(counts: list[int]) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    order = fair_order(labels)
    assert torch.equal(order.sort().values, torch.arange(len(labels)))
    assert torch.equal(order, fair_order(labels))
    seen = F.one_hot(labels[order], len(counts)).cumsum(0)
    shares = torch.tensor(counts) / len(labels)
    wanted = torch.arange(1, len(labels) + 1).unsqueeze(1) * shares
    # Every class is at most one image early or late, and so moves the others by its share of one image.
    assert torch.all((seen - wanted).abs() <= 1 + len(counts) * shares)


def class_ordered(name: str, root: Path) -> ImageData:
    """Return data whose stored images are sorted by class."""
    if name == "image_folder":
        write_image_folder(root, {"train": 20, "val": 10}, tuple("abc"))
        return load_data(name, root)
    if name == "image_folder with test":
        write_image_folder(root, {"train": 20, "val": 10, "test": 5}, tuple("abc"))
        return load_data("image_folder", root)
    pixels, labels = torch.zeros(120, 1, 2, 2, dtype=torch.uint8), torch.arange(3).repeat_interleave(40)
    pixels[:, 0, 0, 0] = labels * 50
    return memory_data("sorted", (pixels, labels), (pixels, labels), list("abc"))


@pytest.mark.parametrize("name", ["image_folder", "image_folder with test", "memory"])
def test_the_first_images_of_every_part_are_of_all_classes(tmp_path: Path, name: str) -> None:
    data = class_ordered(name, tmp_path)
    for split in (data.train, data.val, data.test):
        for n in (3, 6):
            assert torch.bincount(split.labels[:n], minlength=3).tolist() == [n // 3] * 3
        check_labels(split)


def check_labels(split: ImageSplit) -> None:
    """Check that images and labels were reordered alike."""
    if isinstance(split, FolderSplit):
        assert [file.parent.name for file in split.files] == ["abc"[label] for label in split.labels.tolist()]
    elif isinstance(split, MemorySplit):
        assert (split.pixels[:, 0, 0, 0] // 50).tolist() == split.labels.tolist()


def test_check_fit_names_channels_and_classes() -> None:
    pixels, labels = torch.zeros(8, 1, 2, 2, dtype=torch.uint8), torch.arange(8) % 2
    data = memory_data("tiny", (pixels, labels), (pixels, labels), ["a", "b"])
    check_fit(data, 1, 2)
    with pytest.raises(DataError, match="'tiny' has images of 1 channels, the net takes 3"):
        check_fit(data, 3, 2)
    with pytest.raises(DataError, match="'tiny' has 2 classes, the net has 10 outputs"):
        check_fit(data, 1, 10)


def test_channels_are_known_without_loading(tmp_path: Path) -> None:
    known = {name: data_sources.entry(name).info["channels"] for name in data_sources if task_of(name) == "images"}
    assert known == {"digits": 1, "fashion_mnist": 1, "idx": 1, "cifar10": 3, "image_folder": 3}
    write_idx_folder(tmp_path)
    write_cifar10(tmp_path)
    write_image_folder(tmp_path, {"train": 3, "val": 2})
    for name in set(known) - {"fashion_mnist"}:
        assert load_data(name, None if name == "digits" else tmp_path).channels == known[name]


def test_channel_statistics_equal_those_of_torch() -> None:
    pixels = torch.randint(0, 256, (50, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = channel_statistics(pixels)
    levels = pixels.double() / 255
    assert torch.allclose(torch.tensor(mean).double(), levels.mean((0, 2, 3)))
    assert torch.allclose(torch.tensor(std).double(), levels.std((0, 2, 3), correction=0))


def test_normalise_and_resize() -> None:
    pixels = torch.full((2, 2, 4, 4), 255, dtype=torch.uint8)
    images = normalise(pixels, (0.5, 0.0), (0.5, 2.0))
    assert torch.allclose(images[:, 0], torch.tensor(1.0))
    assert torch.allclose(images[:, 1], torch.tensor(0.5))
    assert resize(images, 4) is images
    for size in (2, 7):
        assert resize(images, size).shape == (2, 2, size, size)
        assert torch.allclose(resize(images, size)[:, 0], torch.tensor(1.0))


def test_batches_order_limit_and_shuffling() -> None:
    pixels = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 2, 2)
    split = MemorySplit(pixels, torch.arange(10), (0.0,), (1.0,))
    assert [y.tolist() for _, y in batches(split, 4, 2)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [y.tolist() for _, y in batches(split, 4, 2, limit=5)] == [[0, 1, 2, 3], [4]]
    drawn = [
        torch.cat([y for _, y in batches(split, 3, 2, generator=torch.Generator().manual_seed(s))]) for s in (5, 5, 6)
    ]
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()
    assert sorted(drawn[0].tolist()) == list(range(10))
    for images, labels in batches(split, 3, 2, generator=torch.Generator().manual_seed(0)):
        assert torch.allclose(images[:, 0, 0, 0] * 255, labels.float())


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_folder_plain_and_gzipped(tmp_path: Path, suffix: str) -> None:
    write_idx_folder(tmp_path, suffix)
    data = load_data("idx", tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (54, 6, 20)
    assert data.classes == ("0", "1", "2")
    assert (data.channels, data.native_resolution) == (1, 6)
    assert data.train.images(torch.tensor([0, 3]), 12).shape == (2, 1, 12, 12)


def test_idx_names_with_dots_are_found(tmp_path: Path) -> None:
    write_idx_folder(tmp_path)
    for file in list(tmp_path.iterdir()):
        file.rename(tmp_path / file.name.replace("-idx", ".idx"))
    assert len(load_data("mnist", tmp_path).test) == 20


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    write_idx_folder(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte"
    whole = images.read_bytes()
    for content, reason in (
        (whole[:-5], "is damaged: it holds 2155 values, its header states 2160"),
        (whole[:9], "is cut off"),
        (b"\x00\x00\x0d\x03" + whole[4:], "not an IDX file of unsigned bytes in 3 dimensions"),
        (b"", "not an IDX file"),
    ):
        images.write_bytes(content)
        with pytest.raises(DataError, match=reason) as error:
            load_data("idx", tmp_path)
        assert str(images) in str(error.value)


def test_torn_gzip_is_a_data_error(tmp_path: Path) -> None:
    file = tmp_path / "x.gz"
    file.write_bytes(gzip.compress(bytes(range(256)) * 20)[:-30])
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(file, 1)


def test_idx_files_that_do_not_fit_each_other(tmp_path: Path) -> None:
    write_idx_folder(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(7, dtype=np.uint8))
    with pytest.raises(DataError, match="60 images, .* 7 labels"):
        load_data("idx", tmp_path)


@pytest.mark.parametrize("inner", [False, True])
def test_cifar10_binary_version(tmp_path: Path, inner: bool) -> None:
    folder = tmp_path / "cifar-10-batches-bin" if inner else tmp_path
    folder.mkdir(exist_ok=True)
    write_cifar10(folder)
    data = load_data("cifar10", tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (90, 10, 20)
    assert (data.channels, data.native_resolution, len(data.classes)) == (3, 32, 10)
    (folder / "test_batch.bin").write_bytes(b"\x00" * 100)
    with pytest.raises(DataError, match="test_batch.bin is damaged: 100 bytes"):
        load_data("cifar10", tmp_path)
    (folder / "test_batch.bin").write_bytes(b"\xff" * 3073)
    with pytest.raises(DataError, match="a label is 255"):
        load_data("cifar10", tmp_path)


def test_cifar10_channels_are_planes(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    record = np.concatenate([[7], np.full(1024, 10), np.full(1024, 20), np.full(1024, 30)]).astype(np.uint8)
    (tmp_path / "test_batch.bin").write_bytes(record.tobytes())
    data = load_data("cifar10", tmp_path)
    image = data.test.images(torch.tensor([0]), 32)[0]
    expected = [(v / 255 - m) / s for v, m, s in zip((10, 20, 30), data.mean, data.std, strict=True)]
    assert torch.allclose(image.mean((1, 2)), torch.tensor(expected), atol=1e-5)
    assert data.test.labels.tolist() == [7]


def test_image_folder_without_test_part_carves_validation_out_of_training(tmp_path: Path) -> None:
    write_image_folder(tmp_path, {"train": 20, "val": 4})
    data = load_data("imagenet", tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 8)
    assert data.classes == ("cat", "dog")
    assert isinstance(data.train, FolderSplit) and isinstance(data.val, FolderSplit)
    assert not {*data.train.files} & {*data.val.files}
    images = data.test.images(torch.arange(8), 16)
    assert images.shape == (8, 3, 16, 16)
    # Class 0 is reddish, class 1 greenish.
    assert (images[:, 0].mean((1, 2)) > images[:, 1].mean((1, 2))).tolist() == (data.test.labels == 0).tolist()


def test_image_folder_with_three_parts_uses_them(tmp_path: Path) -> None:
    write_image_folder(tmp_path, {"train": 5, "val": 3, "test": 2})
    data = load_data("image_folder", tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (10, 6, 4)
    assert isinstance(data.test, FolderSplit)
    assert all("test" in file.parts for file in data.test.files)


def test_image_folder_kept_images_equal_decoded_ones(tmp_path: Path) -> None:
    write_image_folder(tmp_path, {"train": 4, "val": 2})
    files = sorted(tmp_path.rglob("*.png"))
    kept, decoded = FolderSplit(files, [0] * 12), FolderSplit(files, [0] * 12, memory_budget=0)
    for indices in (torch.tensor([3, 1, 3]), torch.tensor([0, 1, 2]), torch.arange(12)):
        for resolution in (8, 12):
            assert torch.equal(kept.images(indices, resolution), decoded.images(indices, resolution))
    files[0].unlink()
    assert kept.images(torch.tensor([0]), 8).shape == (1, 3, 8, 8)
    with pytest.raises(DataError, match=files[0].name):
        decoded.images(torch.tensor([0]), 8)


def decoded_files(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Record every file that is decoded from now on."""
    seen: list[tuple[str, int]] = []

    def record(file: Path, resolution: int) -> np.ndarray:
        seen.append((file.name, resolution))
        return decode(file, resolution)

    monkeypatch.setattr(image_folder, "decode", record)
    return seen


def test_image_folder_keeps_what_is_used_though_the_whole_part_would_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image_folder(tmp_path, {"train": 10, "val": 2})
    files = sorted((tmp_path / "train").rglob("*.png"))
    seen = decoded_files(monkeypatch)
    split = FolderSplit(files, [0] * 20, memory_budget=6 * 3 * 8 * 8)
    for _ in range(3):
        split.images(torch.arange(4), 8)
    assert len(seen) == 4
    split.images(torch.tensor([4, 5, 0]), 8)  # fills it; 0 is used again
    assert len(seen) == 6
    split.images(torch.tensor([6]), 8)  # displaces 1, the one that was not used for longest
    split.images(torch.tensor([0, 2, 3, 4, 5, 6]), 8)
    assert len(seen) == 7
    split.images(torch.tensor([1]), 8)
    assert len(seen) == 8
    split.images(torch.tensor([1, 1]), 30)  # larger than the budget: decoded once, kept never
    split.images(torch.tensor([1]), 8)
    assert len(seen) == 9


def test_image_folder_may_be_read_by_several_threads(tmp_path: Path) -> None:
    write_image_folder(tmp_path, {"train": 10, "val": 2})
    files = sorted((tmp_path / "train").rglob("*.png"))
    split = FolderSplit(files, [0] * 20, memory_budget=5 * 3 * 8 * 8)
    expected = FolderSplit(files, [0] * 20, memory_budget=0).images(torch.arange(20), 8)
    orders = [torch.randperm(20, generator=torch.Generator().manual_seed(i)) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for order, images in zip(orders, pool.map(lambda order: split.images(order, 8), orders), strict=True):
            assert torch.equal(images, expected[order])


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_image_folder_16_bit_grey_keeps_its_levels(tmp_path: Path, suffix: str) -> None:
    levels = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / f"deep.{suffix}")
    Image.fromarray(np.round(levels / 257).astype(np.uint8)).save(tmp_path / "plain.png")
    deep, plain = (decode(tmp_path / name, 7) for name in (f"deep.{suffix}", "plain.png"))
    assert plain.min() < 50 and plain.max() > 200
    assert np.abs(deep.astype(int) - plain.astype(int)).max() <= 1


def test_image_folder_floating_point_levels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(DataError, match=r"float\.tiff .*floating-point"):
        decode(tmp_path / "float.tiff", 7)


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("exists", [True, False])
def test_image_folder_class_without_images_is_named(tmp_path: Path, part: str, exists: bool) -> None:
    write_image_folder(tmp_path, {"train": 3, "val": 2, "test": 2}, ("bird", "cat", "dog"))
    for file in (tmp_path / part / "cat").iterdir():
        file.rename(file.with_suffix(".txt"))
    if not exists and part != "train":
        shutil.rmtree(tmp_path / part / "cat")
    with pytest.raises(DataError, match=f"{part}/cat holds no images"):
        load_data("image_folder", tmp_path)


def test_image_folder_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P", "CMYK", "1"):
        Image.new(mode, (20, 30)).save(tmp_path / f"{mode}.tiff")
    files = sorted(tmp_path.iterdir())
    assert FolderSplit(files, [0] * 5).images(torch.arange(5), 10).shape == (5, 3, 10, 10)


def test_image_folder_errors_name_the_file(tmp_path: Path) -> None:
    write_image_folder(tmp_path, {"train": 3, "val": 2})
    (tmp_path / "val" / "bird").mkdir()
    with pytest.raises(DataError, match="holds the class 'bird', which the training images lack"):
        load_data("image_folder", tmp_path)
    (tmp_path / "val" / "bird").rmdir()
    data = load_data("image_folder", tmp_path)
    (tmp_path / "val" / "cat" / "000.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cat/000\.png cannot be decoded"):
        data.test.images(torch.arange(4), 8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
@pytest.mark.parametrize("part", ["val", "test"])
def test_image_folder_images_to_measure_on_are_looked_at_when_it_is_loaded(
    tmp_path: Path, suffix: str, part: str
) -> None:
    write_image_folder(tmp_path, {"train": 3, "val": 2, "test": 2})
    photo = tmp_path / part / "cat" / f"photo.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(photo)
    whole = photo.read_bytes()
    load_data("image_folder", tmp_path)
    photo.write_bytes(whole + b"what some cameras add")
    load_data("image_folder", tmp_path)
    for damaged in (whole[: len(whole) // 2], whole[:-200], whole[:1], b"", b"no image"):
        photo.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"cat/photo\.{suffix} cannot be decoded"):
            load_data("image_folder", tmp_path)


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("idx", None, "needs the folder that holds its files"),
        ("idx", "nowhere", "does not exist"),
        ("cifar10", ".", "has no file data_batch_1.bin"),
        ("idx", ".", "train-images-idx3-ubyte"),
        ("image_folder", ".", "train is missing"),
        ("digits", ".", "takes no path"),
    ],
)
def test_check_fails_early_and_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for act in (check, load_data):
        with pytest.raises(DataError, match=message):
            act(name, path)


def test_unknown_source_is_suggested() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'fashion_mnist'"):
        check("fashion-mnist")


def test_names_and_checks_do_not_import_torch() -> None:
    code = (
        "import sys; from nas_compress.data import check, data_sources; check('digits'); list(data_sources);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_source_has_a_loader_and_a_summary() -> None:
    for name in data_sources:
        assert callable(data_sources.get(name))
        assert data_sources.entry(name).summary


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (
            torch.zeros(8, 1, 2, 2),
            torch.arange(8) % 2,
            r"test: the pixels are float32 of shape \(8, 1, 2, 2\); want uint8",
        ),
        (torch.zeros(8, 2, 2, dtype=torch.uint8), torch.arange(8) % 2, "want uint8 .* of shape .n, channels, size, si"),
        (torch.zeros(8, 1, 2, 3, dtype=torch.uint8), torch.arange(8) % 2, "want uint8 .* of shape .n, channels, size"),
        (
            torch.zeros(8, 1, 2, 2, dtype=torch.uint8),
            torch.arange(7) % 2,
            r"labels are int64 .*want int64 of shape \(8,",
        ),
        (torch.zeros(8, 1, 2, 2, dtype=torch.uint8), torch.arange(8.0) % 2, "labels are float32 of shape"),
        (torch.zeros(8, 1, 2, 2, dtype=torch.uint8), torch.arange(8) % 3, "test: labels are 0 to 2; want 0 to 1"),
        (torch.zeros(0, 1, 2, 2, dtype=torch.uint8), torch.arange(0), "want uint8"),
    ],
)
def test_images_of_another_form_are_refused(pixels: Tensor, labels: Tensor, message: str) -> None:
    good = torch.zeros(8, 1, 2, 2, dtype=torch.uint8), torch.arange(8) % 2
    with pytest.raises(DataError, match=message):
        memory_data("tiny", good, (pixels, labels), ["a", "b"])
    with pytest.raises(DataError, match="official_train: "):
        memory_data("tiny", (pixels, labels), good, ["a", "b"])


def test_unknown_part_of_the_data() -> None:
    pixels, labels = torch.zeros(8, 1, 2, 2, dtype=torch.uint8), torch.arange(8) % 2
    data = memory_data("tiny", (pixels, labels), (pixels, labels), ["a", "b"])
    assert data.split("val") is data.val
    with pytest.raises(DataError, match="allowed: train, val, test"):
        data.split("dev")


@pytest.mark.skipif(not Path(FASHION_MNIST).is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_as_debian_packages_it() -> None:
    data = load_data("fashion_mnist")
    assert (len(data.train), len(data.val), len(data.test)) == (54000, 6000, 10000)
    assert data.classes[9] == "Ankle boot"
    assert torch.bincount(data.test.labels[:2000]).tolist() == [200] * 10
    # Published statistics of the 60,000 training images: mean .2860, standard deviation .3530.
    assert data.mean == pytest.approx((0.286,), abs=1e-3)
    assert data.std == pytest.approx((0.353,), abs=1e-3)
