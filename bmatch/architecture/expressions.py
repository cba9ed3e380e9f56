"""Sizes of tensors as expressions of a config's fields: ``num_attention_heads*head_dim``.

A field of a config inside of another is ``decoder.head_dim``.
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
    """The value of sums, products and whole quotients of fields and whole numbers.

    Returns
    -------
    int or None
        None if a field is missing or no positive whole number.

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


def _named(node: ast.AST) -> Iterator[str]:
    name = _name(node)
    if name:
        yield name
    else:
        for child in ast.iter_child_nodes(node):
            yield from _named(child)


def _name(node: ast.AST) -> str:
    """The field that a node is, empty if it is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (outer := _name(node.value)):
        return f"{outer}.{node.attr}"
    return ""
