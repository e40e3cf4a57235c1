"""As what a file is sent: its media type, and which of its codings. RFC 9110 sections 8.3, 8.4 and 12.5.3."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from mimetypes import MimeTypes

__all__ = ["CODINGS", "IDENTITY", "content_type", "media_types", "preferred_coding"]

IDENTITY = "identity"
"""No coding: the file itself."""
CODINGS = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
"""Content codings, and what is put behind a file's name for the file that holds it so: RFC 7932, RFC 8878, RFC 1952."""

_TYPES = {
    ".7z": "application/x-7z-compressed", ".atom": "application/atom+xml", ".avif": "image/avif",
    ".bz2": "application/x-bzip2", ".eot": "application/vnd.ms-fontobject", ".flac": "audio/flac",
    ".gz": "application/gzip", ".ico": "image/vnd.microsoft.icon", ".ics": "text/calendar", ".js": "text/javascript",
    ".jxl": "image/jxl", ".log": "text/plain", ".m4a": "audio/mp4", ".map": "application/json", ".md": "text/markdown",
    ".mjs": "text/javascript", ".ogg": "audio/ogg", ".ogv": "video/ogg", ".opus": "audio/opus", ".otf": "font/otf",
    ".rss": "application/rss+xml", ".rtf": "application/rtf", ".svgz": "application/gzip", ".tgz": "application/gzip",
    ".toml": "application/toml", ".ttf": "font/ttf", ".wav": "audio/wav", ".webp": "image/webp", ".woff": "font/woff",
    ".woff2": "font/woff2", ".xhtml": "application/xhtml+xml", ".xml": "application/xml",
    ".xz": "application/x-xz", ".yaml": "application/yaml", ".yml": "application/yaml", ".zst": "application/zstd",
}
"""What Python's own table lacks, in some of its versions, or has otherwise: RFC 9239 for JavaScript, and
application/xml, because text/xml with a charset would outvote what the document says of itself: RFC 7303 section 3."""

_ELEMENT = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")
"""A coding with its weight: RFC 9110 sections 12.4.2 and 12.5.3."""


def media_types(more: Mapping[str, str]) -> dict[str, str]:
    """Media types by extension, in lower case: `more`, the usual ones, and those of Python's `mimetypes`.

    They do not depend on what the machine's own files, such as /etc/mime.types, say.
    """
    return {**MimeTypes().types_map[True], **_TYPES, **{extension.lower(): kind for extension, kind in more.items()}}


def content_type(name: str, types: Mapping[str, str]) -> str:
    """The Content-Type of the file `name`: text is UTF-8 unless its type says otherwise, and what is unknown is bytes.

    "a.tar.gz" is application/gzip: it is sent as it lies there, and is not text that has been compressed on the way.
    """
    kind = types.get(os.path.splitext(name)[1].lower(), "application/octet-stream")
    return f"{kind}; charset=utf-8" if kind.startswith("text/") and ";" not in kind else kind


def preferred_coding(accept: str | None, sizes: Mapping[str, int]) -> str:
    """Which of the codings in `sizes` to send, by Accept-Encoding: the smallest of those with the highest weight.

    sizes: the bytes of each representation there is, `IDENTITY` among them. That is sent, too, to a client that says
    nothing, to one that names nothing of what there is, and to one that will not have it either (section 12.1: then
    its wish is disregarded).
    """
    if accept is None or len(sizes) == 1:
        return IDENTITY
    said = _weights(accept)
    weights = {coding: said.get(coding, said.get("*", 0)) for coding in sizes}
    best = max(sizes, key=lambda coding: (weights[coding], -sizes[coding]))
    return best if weights[best] else IDENTITY


def _weights(accept: str) -> dict[str, float]:
    """The weight of every coding named in Accept-Encoding; what is malformed is passed over."""
    weights = {}
    for element in accept.split(","):
        if found := _ELEMENT.fullmatch(element.strip(" \t")):
            coding = found[1].lower().removeprefix("x-")  # section 8.4.1.3: x-gzip is gzip
            weights[coding] = float(found[2] or 1)
    return weights
