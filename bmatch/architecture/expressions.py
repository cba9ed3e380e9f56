"""Sizes of tensors as expressions of a config's fields: ``num_attention_heads*head_dim``.

A field of a config inside of another is ``decoder.head_dim``. Of a list of the kinds of layers
``len(layer_types)`` is how many entries there are, and ``layer_types.count('hybrid')`` how many of
one kind.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def evaluate(expression: str, fields: Mapping[str, Any]) -> int | None:
    """The value of sums, products and whole quotients of fields, counts and whole numbers.

    Returns
    -------
    int or None
        None if a field is missing or no positive whole number, or no list where entries are
        counted.

    Raises
    ------
    ValueError
        If there is anything else in the expression.
    """
    return _value(_parsed(expression), fields)


@cache
def _parsed(expression: str) -> ast.expr:
    try:
        return ast.parse(expression, mode="eval").body
    except SyntaxError:
        raise ValueError(f"{expression!r} is no expression of a config's fields") from None


def _value(node: ast.expr, fields: Mapping[str, Any]) -> int | None:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    counted = _counted(node)
    if counted is not None:
        field, kind = counted
        entries = fields.get(field)
        if not isinstance(entries, (list, tuple)):
            return None
        return len(entries) if kind is None else entries.count(kind)
    name = _name(node)
    if name:
        value = fields.get(name)
        return value if type(value) is int and value > 0 else None
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _value(node.left, fields), _value(node.right, fields)
        if left is None or right is None or (right == 0 and isinstance(node.op, ast.FloorDiv)):
            return None
        return _OPERATIONS[type(node.op)](left, right)
    raise ValueError(f"{ast.unparse(node)!r} is no expression of a config's fields")


def fields_of(expression: str) -> set[str]:
    """The fields that an expression names."""
    return set(_named(_parsed(expression)))


def lists_of(expression: str) -> set[str]:
    """The fields among them whose entries are counted."""
    counted = map(_counted, ast.walk(_parsed(expression)))
    return {found[0] for found in counted if found is not None}


def _named(node: ast.AST) -> Iterator[str]:
    counted = _counted(node)
    name = _name(node) if counted is None else counted[0]
    if name:
        yield name
    else:
        for child in ast.iter_child_nodes(node):
            yield from _named(child)


def _counted(node: ast.AST) -> tuple[str, str | None] | None:
    """The field whose entries a node counts, and the kind of these, None for all; or None."""
    if not isinstance(node, ast.Call) or len(node.args) != 1 or node.keywords:
        return None
    function, argument = node.func, node.args[0]
    if isinstance(function, ast.Name) and function.id == "len" and (field := _name(argument)):
        return field, None
    kind = argument.value if isinstance(argument, ast.Constant) else None
    if isinstance(function, ast.Attribute) and function.attr == "count" and type(kind) is str:
        field = _name(function.value)
        return (field, kind) if field else None
    return None


def _name(node: ast.AST) -> str:
    """The field that a node is, empty if it is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (outer := _name(node.value)):
        return f"{outer}.{node.attr}"
    return ""
