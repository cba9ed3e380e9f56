"""Sizes as expressions of a config's fields."""

from __future__ import annotations

import pytest

from bmatch.architecture.expressions import evaluate, fields_of


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


@pytest.mark.parametrize(
    "text",
    ["a**b", "f(a)", "f(a).b", "__import__('os')", "a if b else c", "1.5", "a b", "-a", "a[0]"],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="no expression of a config's fields"):
        evaluate(text, {"a": 1, "b": 2})
