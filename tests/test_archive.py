"""The archive: what is appended is read back, whatever happens to the process, the disk or the file."""

import json
import logging
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nas_compress
from nas_compress.archive import Archive
from nas_compress.errors import ArchiveError
from nas_compress.records import Record, context_hash, differences, plain, read_archive
from nas_compress.space import Architecture

SEARCH = {"strategy": "random", "seed": 42, "space": {"name": "toy", "dimensions": {"ks": [[3, 5], [3, 5]]}}}
ARCHITECTURES = [Architecture({"ks": (k, e), "d": (2,)}) for k in (3, 5, 7) for e in (3, 5)]


def fill(path: Path, rows: int = 4) -> list[Record]:
    with Archive.open(path, SEARCH) as archive:
        key = archive.add_context({"data": "digits", "threads": 1})
        for i, architecture in enumerate(ARCHITECTURES[:rows]):
            archive.append(Record(architecture, "acc", key, value=90.0 + i, spread=0.1, provenance={"images": 10}))
        return list(archive.records)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search.jsonl"


def test_what_is_appended_is_read_back(path: Path) -> None:
    written = fill(path)
    with Archive.open(path, SEARCH) as archive:
        assert list(archive.records) == written
        assert archive.get(ARCHITECTURES[1], "acc", context_hash({"threads": 1, "data": "digits"})).value == 91.0
        assert archive.get(ARCHITECTURES[1], "macs", written[0].context) is None
        assert archive.get(ARCHITECTURES[1], "acc", "0" * 12) is None
        assert archive.contexts == {written[0].context: {"data": "digits", "threads": 1}}


def test_failures_are_kept_and_carry_no_value(path: Path) -> None:
    with Archive.open(path, SEARCH) as archive:
        key = archive.add_context({})
        archive.append(Record(ARCHITECTURES[0], "acc", key, error="NaN in\nthe logits"))
    with Archive.open(path, SEARCH) as archive:
        record = archive.get(ARCHITECTURES[0], "acc", key)
        assert record.value is None and record.error == "NaN in\nthe logits"
    assert "NaN\\n" not in path.read_text() and len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None])
def test_values_that_are_none_cannot_be_recorded(value: float | None) -> None:
    with pytest.raises(ArchiveError, match="acc"):
        Record(ARCHITECTURES[0], "acc", "0" * 12, value=value)


def test_numbers_that_are_not_finite_never_reach_the_file(path: Path) -> None:
    with Archive.open(path, SEARCH) as archive:
        key = archive.add_context({"load": float("inf")})
        provenance = {"runs": np.int64(3), "best": np.float32("nan"), "file": Path("x.onnx"), "times": (1.5, 2)}
        archive.append(Record(ARCHITECTURES[0], "latency", key, value=1.0, provenance=provenance))
    lines = path.read_text().splitlines()
    row = json.loads(lines[-1], parse_constant=pytest.fail)
    assert row["provenance"] == {"runs": 3, "best": None, "file": "x.onnx", "times": [1.5, 2]}


def test_a_context_is_written_once_and_must_be_known(path: Path) -> None:
    with Archive.open(path, SEARCH) as archive:
        assert archive.add_context({"a": 1, "b": [1]}) == archive.add_context({"b": (1,), "a": 1})
        with pytest.raises(ArchiveError, match="context 'ffff'"):
            archive.append(Record(ARCHITECTURES[0], "acc", "ffff", value=1.0))
    assert path.read_text().count("measured_on") == 1


def test_objects_are_refused_by_name() -> None:
    with pytest.raises(ArchiveError, match=r"context\.model\[0\] is of type object"):
        plain({"model": [object()]}, "context")


# -- other files -----------------------------------------------------------------------------------------------


def test_another_search_is_refused_and_the_differences_are_named(path: Path) -> None:
    fill(path)
    before = path.read_bytes()
    other = {**SEARCH, "seed": 43, "space": {**SEARCH["space"], "name": "big"}, "population": 50}
    with pytest.raises(ArchiveError) as error:
        Archive.open(path, other)
    for text in ("seed: 42 there, 43 now", 'space.name: "toy" there, "big" now', "population: not set there, 50 now"):
        assert text in str(error.value)
    assert "results_csv_path" in str(error.value) and str(path) in str(error.value)
    assert path.read_bytes() == before
    Archive.open(path, json.loads(json.dumps(SEARCH))).close()


def test_long_and_many_differences_are_cut() -> None:
    assert max(map(len, differences({"a": "x" * 500}, {"a": None}))) < 100
    with pytest.raises(ArchiveError, match="and 3 more"):
        Archive({})._take(
            read_archive(
                b'{"format": "nas_compress archive", "version": 1, "search": %s}'
                % json.dumps({str(i): i for i in range(8)}).encode(),
                "x",
            ),
            Path("x"),
        )


@pytest.mark.parametrize(
    "content",
    [b"Sub-network,Date\n", b'{"a": 1}\n', b"\x80\x04\x95", b"{", b'["format"]\n', b"\n", b"0\n", b"nas\n{}"],
)
def test_foreign_files_are_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    if content == b"{":  # may be the first byte of ours
        Archive.open(path, SEARCH).close()
        return
    with pytest.raises(ArchiveError, match="not a nas_compress archive; choose another path"):
        Archive.open(path, SEARCH)
    assert path.read_bytes() == content


def test_a_later_version_is_refused(path: Path) -> None:
    path.write_text('{"format": "nas_compress archive", "version": 2, "search": {}}\n')
    with pytest.raises(ArchiveError, match="format version 2; this version of nas_compress reads 1"):
        Archive.open(path, SEARCH)


def test_paths_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="cannot open"):
        Archive.open(tmp_path, SEARCH)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="cannot open"):
        Archive.open(tmp_path / "file" / "x.jsonl", SEARCH)
    Archive.open(tmp_path / "new" / "folder" / "x.jsonl", SEARCH).close()


# -- damage ----------------------------------------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_anywhere_opens_with_a_prefix_and_goes_on(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "cut.jsonl"
    path.unlink(missing_ok=True)
    written = fill(path)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    with Archive.open(path, SEARCH) as archive:
        found = list(archive.records)
        assert found == written[: len(found)]
        assert len(found) >= whole[:cut].count(b'"date"') - 1
        key = archive.add_context({"data": "digits", "threads": 1})
        for record in written[len(found) :]:
            assert record.context == key
            archive.append(record)
    assert path.read_bytes() == whole


def test_a_torn_last_line_is_removed_with_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written = fill(path)
    path.write_bytes(path.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING), Archive.open(path, SEARCH) as archive:
        assert list(archive.records) == written[:-1]
    assert "torn" in caplog.text and str(path) in caplog.text
    assert path.read_bytes().endswith(b"}\n")


def test_a_last_line_that_lacks_its_end_alone_is_kept(path: Path) -> None:
    written = fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with Archive.open(path, SEARCH) as archive:
        assert list(archive.records) == written
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"value": 91.0', b'"value": NaN', "nan"),
        (b'"value": 91.0', b'"value": "many"', "real number"),
        (b'"value": 91.0, ', b"", "either a value or an error"),
        (b'"objective": "acc", ', b"", "objective"),
        (b'91.0, "spread"', b'91.0 "spread"', "delimiter"),
        (b'"value": 91.0', b'"worth": 91.0', "worth"),
        (b'{"images": 10}', b"3", "provenance is 3"),
        (b'"spread": 0.1', b'"spread": "0.1"', "spread is '0.1'"),
        (b'"value": 91.0', b'"value": ' + 3000 * b"[" + 3000 * b"]", "recursion|real number"),
    ],
)
def test_a_damaged_line_is_named(path: Path, old: bytes, new: bytes, reason: str) -> None:
    fill(path)
    lines = path.read_bytes().split(b"\n")
    assert old in lines[3]
    lines[3] = lines[3].replace(old, new)
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(ArchiveError, match=f"line 4 is damaged .*{reason}"):
        Archive.open(path, SEARCH)
    assert path.read_bytes() == b"\n".join(lines)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"run": {"contexts": {}}}', "no field 'reference'"),
        ('{"run": {"contexts": {}, "reference": {"acc": "many"}}}', "reference is {'acc': 'many'}"),
        ('{"run": {"contexts": [1], "reference": null}}', "attribute"),
    ],
)
def test_a_damaged_run_is_named(path: Path, line: str, reason: str) -> None:
    fill(path)
    number = path.read_text().count("\n") + 1
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ArchiveError, match=f"line {number} is damaged .*{reason}"):
        Archive.open(path, SEARCH)


def test_a_changed_or_missing_context_is_damage(path: Path) -> None:
    fill(path)
    text = path.read_text()
    path.write_text(text.replace('"threads": 1', '"threads": 2'))
    with pytest.raises(ArchiveError, match="line 2 is damaged .the context was changed"):
        Archive.open(path, SEARCH)
    path.write_text("".join(line for line in text.splitlines(True) if "measured_on" not in line))
    with pytest.raises(ArchiveError, match="line 2 is damaged .context '[0-9a-f]{12}' is not in the file"):
        Archive.open(path, SEARCH)


# -- the outside world -----------------------------------------------------------------------------------------


def test_one_writer_at_a_time(path: Path) -> None:
    with Archive.open(path, SEARCH), pytest.raises(ArchiveError, match="in use by another search"):
        Archive.open(path, SEARCH)
    Archive.open(path, SEARCH).close()


def test_another_process_is_kept_out_until_it_dies(path: Path) -> None:
    code = f"""
        import sys, time
        from nas_compress.archive import Archive
        archive = Archive.open({str(path)!r}, {SEARCH!r})
        print("open", flush=True)
        time.sleep(60)
    """
    env = {**os.environ, "PYTHONPATH": str(Path(nas_compress.__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(ArchiveError, match="in use by another search"):
            Archive.open(path, SEARCH)
    finally:
        process.kill()
        process.communicate()
    Archive.open(path, SEARCH).close()


@pytest.mark.parametrize("room", [0, 40, 200])
def test_a_full_disk_is_told_and_leaves_the_file_readable(path: Path, room: int) -> None:
    written = fill(path)
    size = path.stat().st_size
    with Archive.open(path, SEARCH) as archive:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, limits[1]))
        try:
            record = Record(ARCHITECTURES[5], "acc", written[0].context, value=1.0, provenance={"note": "x" * 300})
            with pytest.raises(ArchiveError, match="cannot write to the archive .*kept"):
                archive.append(record)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.stat().st_size == size
        assert archive.get(record.architecture, "acc", record.context) is None
        archive.append(record)
    with Archive.open(path, SEARCH) as archive:
        assert list(archive.records) == [*written, record]


def test_a_deleted_file_is_noticed(path: Path) -> None:
    with Archive.open(path, SEARCH) as archive:
        path.unlink()
        with pytest.raises(ArchiveError, match="was deleted"):
            archive.add_context({"a": 1})


def test_a_closed_archive_refuses_to_write(path: Path) -> None:
    with Archive.open(path, SEARCH) as archive:
        pass
    archive.close()
    with pytest.raises(ArchiveError, match="closed"):
        archive.add_context({"a": 1})


def test_in_memory() -> None:
    archive = Archive()
    key = archive.add_context({"a": 1})
    archive.append(Record(ARCHITECTURES[0], "acc", key, value=1.0))
    assert len(archive) == 1 and archive.get(ARCHITECTURES[0], "acc", key).value == 1.0 and archive.path is None


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans() | st.none()))
def test_hash_and_differences_agree(context: dict[str, object]) -> None:
    shuffled = dict(reversed(context.items()))
    assert context_hash(context) == context_hash(shuffled) and not list(differences(context, shuffled))
    changed = {**context, "new": 1.5}
    assert context_hash(changed) != context_hash(context) and list(differences(context, changed))
