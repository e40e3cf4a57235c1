"""Checks of constructor arguments, so that a wrong one fails at once and the message says the fix."""

from __future__ import annotations

__all__ = ["one_of", "seconds", "whole_number"]


def whole_number(name: str, value: object, *, at_least: int, at_most: int | None = None) -> int:
    """`value` if it is an int from `at_least` to `at_most`; else TypeError or ValueError, naming `name`."""
    span = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: pass a whole number {span}, not {type(value).__name__}")
    if value < at_least or (at_most is not None and value > at_most):
        raise ValueError(f"{name}={value!r}: pass a whole number {span}")
    return value


def seconds(name: str, value: object, *, zero: bool = False) -> float:
    """`value` as a float if it is a number of seconds, 0.001 to 1,000,000, or 0 where `zero` has a meaning."""
    span = "of at least 0" if zero else "of at least 0.001"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: pass a number of seconds {span}, not {type(value).__name__}")
    if not (0 if zero else 0.001) <= value <= 1_000_000:  # written so that NaN fails too
        raise ValueError(f"{name}={value!r}: pass a number of seconds {span}, up to 1,000,000")
    return float(value)


def one_of(name: str, value: object, *choices: str) -> None:
    """ValueError, naming `name`, unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: pass one of {', '.join(repr(choice) for choice in choices)}")
