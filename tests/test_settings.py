"""Limits and timeouts: what they are at first, and that every wrong value names the field and says the fix."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptor.settings import Limits, Timeouts

LIMITS = [field.name for field in dataclasses.fields(Limits)]
TIMEOUTS = [field.name for field in dataclasses.fields(Timeouts)]
MAY_BE_NONE = {"Limits.body", "Limits.requests_per_connection", "Limits.connections", "Limits.connections_per_address",
               "Timeouts.minimum_rate", "Timeouts.pressed", "Timeouts.handler"}
MAY_BE_ZERO = {"Limits.body", "Limits.chunk_extensions", "Limits.trailers", "Timeouts.linger"}


def test_what_the_documentation_says_they_are_at_first() -> None:
    assert dataclasses.asdict(Limits()) == {
        "request_line": 8192, "head": 32768, "header_count": 100, "body": 1 << 30, "chunk_extensions": 4096,
        "trailers": 8192, "requests_per_connection": None, "connections": None, "connections_per_address": None}
    assert dataclasses.asdict(Timeouts()) == {
        "handshake": 10, "head": 15, "body": 30, "write": 30, "keep_alive": 75, "minimum_rate": 500, "pressed": 2,
        "handler": 60, "linger": 2,
    }


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", ["1", 1.0, math.nan, [1], True, b"1"], ids=repr)
def test_a_limit_that_is_no_whole_number_is_refused(name: str, value: Any) -> None:
    least = 0 if f"Limits.{name}" in MAY_BE_ZERO else 1
    words = f"Limits.{name}={value!r}: pass a whole number of at least {least}, not {type(value).__name__}"
    with pytest.raises(TypeError, match=f"^{re.escape(words)}$"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [-1, -(10**30)])
def test_a_limit_below_zero_is_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^Limits\.{name}={value}: pass a whole number of at least [01]$"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_zero_is_refused_where_nothing_could_come(name: str) -> None:
    if f"Limits.{name}" in MAY_BE_ZERO:
        assert getattr(Limits(**{name: 0}), name) == 0
    else:
        with pytest.raises(ValueError, match=rf"^Limits\.{name}=0: pass a whole number of at least 1$"):
            Limits(**{name: 0})


@pytest.mark.parametrize("name", TIMEOUTS)
@pytest.mark.parametrize("value", ["1", [1], True, b"1", -1, -0.5, math.nan, math.inf, 10**15, 10**30], ids=repr)
def test_a_timeout_that_is_no_number_of_seconds_is_refused(name: str, value: Any) -> None:
    fix = "a number of bytes per second, above 0 and below 1e12, or None" if name == "minimum_rate" else (
        "a number of seconds of at least 0")
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(f'Timeouts.{name}={value!r}: pass {fix}')}"):
        Timeouts(**{name: value})


@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_timeout_of_zero_is_refused_where_it_would_not_mean_anything(name: str) -> None:
    if f"Timeouts.{name}" in MAY_BE_ZERO:
        assert getattr(Timeouts(**{name: 0}), name) == 0
    else:
        with pytest.raises(ValueError, match=rf"^Timeouts\.{name}=0: pass "):
            Timeouts(**{name: 0})


@pytest.mark.parametrize(("settings", "name"), [*((Limits, name) for name in LIMITS),
                                                *((Timeouts, name) for name in TIMEOUTS)],
                         ids=lambda value: getattr(value, "__name__", value))
def test_none_switches_off_what_can_be_switched_off(settings: type[Any], name: str) -> None:
    if f"{settings.__name__}.{name}" in MAY_BE_NONE:
        assert getattr(settings(**{name: None}), name) is None
    else:
        with pytest.raises(TypeError, match=f"^{settings.__name__}.{name}=None: pass "):
            settings(**{name: None})


@given(st.integers(1, 10**12))
def test_any_reasonable_limit_is_kept(value: int) -> None:
    assert dataclasses.asdict(Limits(**dict.fromkeys(LIMITS, value))) == dict.fromkeys(LIMITS, value)


@given(st.one_of(st.integers(1, 1_000_000), st.floats(0.001, 1_000_000)))
def test_any_reasonable_timeout_is_kept(value: float) -> None:
    assert dataclasses.asdict(Timeouts(**dict.fromkeys(TIMEOUTS, value))) == dict.fromkeys(TIMEOUTS, value)


@pytest.mark.parametrize("settings", [Limits, Timeouts])
def test_settings_are_named_fixed_and_compared_by_value(settings: type[Any]) -> None:
    with pytest.raises(TypeError):
        settings(1)
    with pytest.raises(TypeError):
        settings(nothing=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings().body = 1
    assert settings() == settings()
    assert settings(body=1) != settings()
    assert hash(settings(body=1)) == hash(settings(body=1))
