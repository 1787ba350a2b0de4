from nas_compress.errors import first_line


def test_the_first_line_of_another_librarys_error():
    assert first_line(RuntimeError("\n what happened\nstack\n")) == "what happened"
    assert first_line(RuntimeError()) == "RuntimeError"
