"""YAML files with line numbers, and the templates."""

import pytest

from nas_compress.documents import dump_document, read_document, resolve_template, template_names, write_document
from nas_compress.errors import ConfigError


def read(path, text):
    path.write_text(text, encoding="utf-8")
    return read_document(path)


def test_lines_of_keys_and_items(tmp_path):
    data, source = read(tmp_path / "a.yaml", "a:\n  b: 1\n\nc:\n- x\n- y: 2\n")
    assert data == {"a": {"b": 1}, "c": ["x", {"y": 2}]}
    assert [source.line(loc) for loc in [("a",), ("a", "b"), ("c", 1), ("c", 1, "y")]] == [1, 2, 6, 6]
    assert source.line(("a", "missing", "deeper")) == 1
    assert source.line(("nowhere",)) is None


def test_json_a_byte_order_mark_and_anchors_are_read(tmp_path):
    assert read(tmp_path / "a.json", '{"a": [1, true, null]}')[0] == {"a": [1, True, None]}
    assert read(tmp_path / "b.yaml", "\ufeffa: 1\n")[0] == {"a": 1}
    assert read(tmp_path / "c.yaml", "a: &x {b: 1}\nc: *x\n")[0]["c"] == {"b": 1}


def test_nested_anchors_do_not_blow_up(tmp_path):
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert len(read(tmp_path / "a.yaml", "\n".join(rows))[0]) == 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1, 2\nb: 3\n", "a.yaml is not YAML: line "),
        ("a: 1\n---\nb: 2\n", "a.yaml is not YAML: line "),
        ("a: !!python/object/apply:os.getcwd []\n", "a.yaml is not YAML: line 1: could not determine a constructor"),
        ("- a\n- b\n", "a.yaml holds ['a', 'b']; wants a YAML mapping"),
        ("a:\n  b: 1\n  b: 2\n", "a.yaml, line 3: 'b' is given twice (first in line 2)"),
        ("# nothing\n", "a.yaml is empty"),
    ],
)
def test_what_is_not_a_document(tmp_path, text, expected):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "a.yaml", text)
    assert expected in str(caught.value)


def test_a_folder_is_not_a_document(tmp_path):
    with pytest.raises(ConfigError, match="is a folder, not a YAML file"):
        read_document(tmp_path)


def test_what_is_written_reads_back(tmp_path):
    data = {"z": 1, "a": {"list": [1, 2.5, None], "text": "<= 0.4 x largest"}, "unicode": "Größe"}
    write_document(data, tmp_path / "new" / "a.yaml")
    assert read_document(tmp_path / "new" / "a.yaml")[0] == data
    assert dump_document(data).startswith("z: 1\n")
    with pytest.raises(ConfigError, match="cannot write"):
        write_document(data, tmp_path)


def test_a_file_wins_over_a_template_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    template = resolve_template("quickstart")
    (tmp_path / "quickstart").write_text("a: 1")
    assert template.name == "quickstart.yaml"
    assert resolve_template("quickstart").read_text() == "a: 1"


def test_names_that_are_nothing(tmp_path):
    with pytest.raises(ConfigError, match=r"no such file or template: quikstart.yaml \(did you mean 'quickstart'\?\)"):
        resolve_template("quikstart.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        resolve_template(tmp_path)


def test_every_template_begins_with_what_it_is():
    for name in template_names():
        assert resolve_template(name).read_text().startswith(("# Recipe: ", "# Search config: "))


@pytest.mark.parametrize("text", ["a: \x01", "[" * 5000])
def test_text_that_breaks_the_parser_is_a_config_error(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="odd.yaml"):
        read_document(path)
