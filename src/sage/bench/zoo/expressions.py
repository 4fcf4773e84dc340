"""Python expressions that a model wrote, computed without running Python.

Owns: the small part of the language that is understood, and the limits on what it may take.
Must not know: questions, or who wrote the text.

The text is parsed and its tree is walked; nothing of it is compiled or executed. Names are the given values
and a few pure functions; attributes exist only as methods of strings and lists that are listed here. Text,
numbers, sequences and steps are bounded, so that no expression takes more than milliseconds.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["NoValue", "value_of"]

MOST_CHARACTERS, MOST_STEPS, MOST_ITEMS, LARGEST = 200, 10_000, 1_000, 10**12

BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, group: item in group,
    ast.NotIn: lambda item, group: item not in group,
}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "all": all,
    "any": any,
    "float": float,
    "int": int,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "range": lambda *ends: _bounded(list(range(*ends)) if len(range(*ends)) <= MOST_ITEMS else None),
    "reversed": lambda items: list(reversed(items)),
    "round": round,
    "set": set,
    "sorted": sorted,
    "str": str,
    "sum": sum,
    "tuple": tuple,
}
METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(
        {"capitalize", "count", "endswith", "find", "index", "join", "lower", "replace"}
        | {"split", "startswith", "strip", "title", "upper"}
    ),
    list: frozenset({"copy", "count", "index"}),
}


class NoValue(Exception):  # noqa: N818  not a failure of this program
    """The text has no value here: it is no expression, is not understood, is too large, or fails."""


def value_of(text: str, names: Mapping[str, Any]) -> Any:
    """The value of an expression over ``names`` (numbers, strings, lists).

    Raises:
        NoValue: see there.
    """
    if len(text) > MOST_CHARACTERS:
        raise NoValue("too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # what Python thinks of the text's style is nobody's business here
            tree = ast.parse(text.strip(), mode="eval")
        return _Walk().value(tree.body, dict(names))
    except NoValue:
        raise
    except (
        *(ArithmeticError, AttributeError, LookupError, MemoryError),
        *(RecursionError, SyntaxError, TypeError, ValueError),
    ) as error:
        raise NoValue(str(error)) from None


class _Walk:
    """One computation, with its count of steps."""

    def __init__(self) -> None:
        self._steps = 0

    def value(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise NoValue("too many steps")
        return _bounded(self._value(node, names))

    def _value(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        def of(part: ast.expr) -> Any:
            return self.value(part, names)

        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as constant):
                return constant
            case ast.Name(id=name) if name in names:
                return names[name]
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
                kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
                return kind(of(part) for part in parts)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in UNARY:
                return UNARY[type(op)](of(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                return _computed(type(op), of(left), of(right))
            case ast.BoolOp(op=op, values=parts):
                result = of(parts[0])
                for part in parts[1:]:
                    if bool(result) == isinstance(op, ast.Or):
                        break
                    result = of(part)
                return result
            case ast.Compare(left=left, ops=ops, comparators=parts):
                return self._compared(of(left), ops, parts, names)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                return of(body) if of(test) else of(otherwise)
            case ast.Subscript(value=whole, slice=ast.Slice(lower=lower, upper=upper, step=step)):
                ends = [None if end is None else of(end) for end in (lower, upper, step)]
                return of(whole)[slice(*ends)]
            case ast.Subscript(value=whole, slice=place):
                return of(whole)[of(place)]
            case ast.ListComp(elt=part, generators=[loop]) | ast.GeneratorExp(elt=part, generators=[loop]):
                return self._each(part, loop, names)
            case ast.SetComp(elt=part, generators=[loop]):
                return set(self._each(part, loop, names))
            case ast.Call(func=called, args=args, keywords=options):
                given = {option.arg: of(option.value) for option in options}
                if not set(given) <= {"reverse"}:
                    raise NoValue("an option that is not understood")
                return self._called(called, [of(arg) for arg in args], given, names)
        raise NoValue(f"{type(node).__name__} is not understood")

    def _compared(
        self, left: Any, ops: list[ast.cmpop], parts: list[ast.expr], names: Mapping[str, Any]
    ) -> Any:
        result: Any = True
        for op, part in zip(ops, parts, strict=True):
            if type(op) not in COMPARE:
                raise NoValue(f"{type(op).__name__} is not understood")
            right = self.value(part, names)
            result = COMPARE[type(op)](left, right)
            if not result:
                break
            left = right
        return result

    def _each(self, part: ast.expr, loop: ast.comprehension, names: Mapping[str, Any]) -> list[Any]:
        if not isinstance(loop.target, ast.Name) or loop.is_async:
            raise NoValue("a loop that is not understood")
        found = []
        for item in self.value(loop.iter, names):
            inner = {**names, loop.target.id: item}
            if all(self.value(test, inner) for test in loop.ifs):
                found.append(self.value(part, inner))
        return found

    def _called(
        self, called: ast.expr, args: list[Any], given: Mapping[Any, Any], names: Mapping[str, Any]
    ) -> Any:
        if isinstance(called, ast.Name) and called.id in FUNCTIONS:
            return FUNCTIONS[called.id](*args, **given)
        if isinstance(called, ast.Attribute):
            whole = self.value(called.value, names)
            if called.attr in METHODS.get(type(whole), ()):
                return getattr(whole, called.attr)(*args, **given)
        raise NoValue("a call that is not understood")


def _computed(op: type[ast.operator], left: Any, right: Any) -> Any:
    if isinstance(left, str) and op is ast.Mod:
        raise NoValue("formatting is not understood")
    if op is ast.Pow and not (abs(left) <= MOST_ITEMS and abs(right) <= 4):
        raise NoValue("too large")
    if op is ast.Mult:
        for group, times in ((left, right), (right, left)):
            if hasattr(group, "__len__") and times * len(group) > MOST_ITEMS:
                raise NoValue("too long")
    return BINARY[op](left, right)


def _bounded(value: Any) -> Any:
    """The value, if it is small: what is made of small things then is small too."""
    if isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise NoValue("too large")
    if value is None or (hasattr(value, "__len__") and len(value) > MOST_ITEMS):
        raise NoValue("nothing, or too long")
    return value
