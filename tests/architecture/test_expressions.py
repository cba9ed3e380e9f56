"""Sizes as expressions of a config's fields."""

from __future__ import annotations

import pytest

from bmatch.architecture.expressions import evaluate, fields_of, lists_of


def test_values():
    fields = {"a": 6, "b": 4, "flag": True, "text": "7", "zero": 0, "null": None}
    assert evaluate("a*b+2*b", fields) == 32
    assert evaluate("a//b", fields) == 1
    assert evaluate("a-2", fields) == 4
    assert evaluate("12", fields) == 12
    for field in ("flag", "text", "zero", "null", "missing"):
        assert evaluate(field, fields) is None
        assert evaluate(f"a//{field}", fields) is None
    assert evaluate("a//0", fields) is None
    assert fields_of("a*b+2*b//c") == {"a", "b", "c"}


def test_fields_of_configs_inside_of_others():
    fields = {"a.b": 6, "a": {"b": 6}, "b": 4}
    assert evaluate("2*a.b+b", fields) == 16
    assert evaluate("a", fields) is None
    assert fields_of("2*a.b+b//a.c.d") == {"a.b", "b", "a.c.d"}


def test_entries_of_lists():
    fields = {"kinds": ["x", "y", "x"], "part.kinds": ("y",), "text": "xx", "a": 5, "none": []}
    assert evaluate("len(kinds)", fields) == 3
    assert evaluate("2*kinds.count('x')+a", fields) == 9
    assert evaluate("len(part.kinds)*part.kinds.count('y')", fields) == 1
    assert evaluate("kinds.count('z')", fields) == evaluate("len(none)", fields) == 0
    for counted in ("len(text)", "text.count('x')", "a.count('x')", "len(missing)"):
        assert evaluate(counted, fields) is None
    assert fields_of("a+len(b)*c.d.count('e')//f") == {"a", "b", "c.d", "f"}
    assert lists_of("a+len(b)*c.d.count('e')//f") == {"b", "c.d"}


REFUSED = (
    *("a**b", "f(a)", "f(a).b", "__import__('os')", "a if b else c", "1.5", "a b", "-a", "a[0]"),
    *("len(a, b)", "len('a')", "len(len(a))", "a.count(b)", "a.count(1)", "a.index('b')"),
    *("len(a)(b)", "'a'.count('a')", "a.count('b', 'c')", "len(x=a)"),
)


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="no expression of a config's fields"):
        evaluate(text, {"a": 1, "b": 2})
