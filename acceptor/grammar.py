"""What the grammars of RFC 9110 and RFC 9112 have in common, as parts of regular expressions on bytes."""

from __future__ import annotations

__all__ = ["TCHAR"]

TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""A character of a token: methods, names of fields, of chunk extensions (RFC 9110 section 5.6.2)."""
