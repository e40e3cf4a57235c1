"""Which version of a package is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_version"]


def installed_version(name: str) -> str | None:
    """"0.1.0"; None if the package `name` is not installed, as ours is not when it runs from a bare checkout."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
