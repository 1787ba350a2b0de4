"""Tables of results, as INC, DyNAS-T, published spaces and this package write them."""

import gzip
import logging
from pathlib import Path

import pytest
from toy import Listed, Quality, Size, build, distinct, toy_space

from nas_compress.archive import Archive
from nas_compress.errors import ArchiveError
from nas_compress.result import SearchResult
from nas_compress.search import SearchProblem
from nas_compress.space import Architecture, bert_base_sst2, mobilenet_space
from nas_compress.stopping import StopRules
from nas_compress.study import Study
from nas_compress.tables import read_results

SPACE = toy_space()
A = "{'ks': [3, 5, 7, 3, 5, 7], 'd': [1, 3]}"
CANONICAL = Architecture({"ks": (3, 0, 0, 3, 5, 7), "d": (1, 3)})


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


# -- published files -------------------------------------------------------------------------------------------


def test_inc_results(shared_data: Path) -> None:
    rows = read_results(shared_data / "inc" / "results_bertbase_sst2_macs.csv.gz", bert_base_sst2())
    assert len(rows) == 2000
    architecture, values = rows[0]
    assert architecture["num_layers"] == (11,) and architecture["intermediate_size"][-1] == 0
    assert values == {"macs": 7141557888.0, "acc": pytest.approx(91.7431193)}
    assert all(set(v) == {"macs", "acc"} and 50 < v["acc"] < 100 for _, v in rows)


def test_published_ofa_table(shared_data: Path) -> None:
    space = mobilenet_space("ofa_mbv3", resolutions=range(128, 225, 4))
    rows = read_results(shared_data / "ofa" / "ofa_mbv3_w1.0_imagenet_measured.csv.gz", space)
    assert len(rows) == 2162
    architecture, values = rows[0]
    assert (
        architecture["ks"][:4] == (5, 7, 0, 0) and architecture["d"] == (2, 3, 2, 4, 3) and architecture["r"] == (224,)
    )
    assert values == {"params": 5029656.0, "macs": 255502624.0, "acc": 75.456}


# -- spellings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "cells", "values"),
    [
        ("Sub-network,Date,Latency (ms), MACs,Top-1 Acc (%)", "d,0,123,71.5", {"macs": 123.0, "acc": 71.5}),
        ("Sub-network,Date,Latency (ms), MACs,BLEU", "d,1.5,0,27.6", {"latency": 1.5, "bleu": 27.6}),
        (
            "Sub-network,Date,Model Parameters,Latency (ms),MACs,Top-1 Acc (%)",
            "d,5029656,0,255502624,75.456",
            {"params": 5029656.0, "macs": 255502624.0, "acc": 75.456},
        ),
        ("Sub-network,Date,MACS,SST-2 Acc", "d,1e9,0.9174", {"macs": 1e9, "acc": pytest.approx(91.74)}),
        ("Sub-network, Date, Latency (ms),Energy (mJ)", "d,,12", {}),
        ("Sub-network,Top-1 Acc (%)", "nan", {}),
        (
            "Sub-network,WER (%),F1 (%),Exact Match (%),DE-Score,Model Size (MB)",
            "0,81.5,70,-0.25,2.5",
            {"wer": 0.0, "f1": 81.5, "exact_match": 70.0, "de_score": -0.25, "model_size": 2.5},
        ),
    ],
)
def test_headers_of_inc_and_dynas(tmp_path: Path, header: str, cells: str, values: dict[str, float]) -> None:
    rows = read_results(write(tmp_path / "a.csv", f'{header}\n"{A}",{cells}\n'), SPACE)
    assert rows == [(CANONICAL, values)]


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_line_ends_json_and_byte_order_marks(tmp_path: Path, end: str) -> None:
    quoted = A.replace("'", '""')
    text = f'\ufeffSub-network,MACs{end or chr(10)}"{quoted}",7{end}'
    assert read_results(write(tmp_path / "a.csv", text), SPACE) == [(CANONICAL, {"macs": 7.0})]


def test_a_missing_last_line_end_is_no_matter_and_a_missing_cell_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert len(read_results(write(tmp_path / "a.csv", f'Sub-network,MACs\n"{A}",7'), SPACE)) == 1
    assert not caplog.text
    for torn in (f'"{A}"', f'"{A[:9]}'):
        with pytest.raises(ArchiveError, match="line 3: "):
            read_results(write(tmp_path / "a.csv", f'Sub-network,MACs\n"{A}",7\n{torn}'), SPACE)


def test_repeats_are_kept_in_order_and_gzip_needs_no_suffix(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(gzip.compress(f'Sub-network,top1\n"{A}",71\n"{A}",72\n\n"{A}",0\n'.encode()))
    assert [values for _, values in read_results(path, SPACE)] == [{"acc": 71.0}, {"acc": 72.0}, {}]


def test_one_column_per_dimension_keeps_zeros(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "d,ks,latency_ms,note\n1 3,3 0 0 3 5 7,0,hello\n")
    assert read_results(path, SPACE) == [(CANONICAL, {"latency": 0.0})]


# -- archives --------------------------------------------------------------------------------------------------


def test_an_archive_is_read_with_failed_trials_and_while_it_is_written(tmp_path: Path) -> None:
    asks, path = distinct(5), tmp_path / "a.jsonl"
    with Archive.open(path, {}) as archive:
        problem = SearchProblem(SPACE, [Size(), Quality(asks[1:2])])
        result = Study(problem, Listed(SPACE, asks), archive, build, rules=StopRules(5)).run()
        with path.open("ab") as stream:
            stream.write(b'{"architecture": {"ks"')
        rows = read_results(path, SPACE)
    assert [a for a, _ in rows] == asks
    assert rows[1][1] == {"size": sum(asks[1]["ks"]) * 1000.0}
    assert [v for i, (_, v) in enumerate(rows) if i != 1] == [t.values for t in result if t.ok]
    with pytest.raises(ArchiveError, match="architecture of another space"):
        read_results(path, bert_base_sst2())


def test_an_archive_is_read_in_the_conditions_of_its_last_run(tmp_path: Path) -> None:
    path, asks = tmp_path / "a.jsonl", distinct(4)

    def run(conditions: str, num_evals: int) -> list[float]:
        problem = SearchProblem(SPACE, [Quality(conditions=conditions), Size()])
        with Archive.open(path, {"search": 1}) as archive:
            result = Study(problem, Listed(SPACE, asks), archive, build, rules=StopRules(num_evals)).run()
        assert result.provenance["contexts"] == SearchResult.load(path, [Quality(), Size()]).provenance["contexts"]
        return [trial.values["acc"] for trial in SearchResult.load(path, [Quality(), Size()])]

    def known() -> int:
        return sum("acc" in values for _, values in read_results(path, SPACE))

    before = run("one", 4)
    assert len(before) == known() == 4
    assert len(run("two", 2)) == known() == 2
    assert run("one", 4) == before and known() == 4, "nothing was measured, the conditions are those of before"
    lines = path.read_bytes()
    assert run("one", 4) == before and path.read_bytes() == lines


def test_an_archive_cut_in_its_header_is_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"format": "nas_compress archive", "ver')
    with pytest.raises(ArchiveError, match="it is empty"):
        read_results(path, SPACE)


# -- mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("Sub-network,MACs\n", "has a header and no results"),
        ("a,b\n1,2\n", "line 1: want a column 'Sub-network', or the columns ks, d; got"),
        ("\x7fELF\0\0", "line 1"),
        (f'Sub-network,MACs\n"{A}",7\n"{A}"\n', "line 3: 1 cells, want 2"),
        (f'Sub-network,MACs\n"{A}",7\n"{{\'ks\': [3', "line 3: unexpected end of data"),
        (f'Sub-network,MACs\n"{A}",7\n"{A[:-1]}",7\n', "line 3: not an architecture"),
        (f'Sub-network,MACs\n"{A}",fast\n', "line 2: MACs = 'fast' is not a number"),
        (f'Sub-network,MACs,macs\n"{A}",1,2\n', "line 2: two columns stand for macs"),
        (f'Sub-network,MACs\n"{A.replace("3, 5", "4, 5")}",1\n', r"line 2: ks\[0\] = 4 is not legal; allowed: 3, 5, 7"),
        ("ks,d\n3 3 3 3 3 x,1 1\n", "line 2: could not convert"),
        ("ks,d\n3 3 3 3 3,1 1\n", "line 2: ks has 5 values"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(ArchiveError, match=f"{path.name}.*{message}"):
        read_results(path, SPACE)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="cannot read the results .*missing.csv"):
        read_results(tmp_path / "missing.csv", SPACE)
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"Sub-network" * 1000)[:-20])
    with pytest.raises(ArchiveError, match="a.gz is a damaged gzip file"):
        read_results(tmp_path / "a.gz", SPACE)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ArchiveError, match="b.csv .* not text"):
        read_results(tmp_path / "b.csv", SPACE)
