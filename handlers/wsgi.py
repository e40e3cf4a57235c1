"""WSGI applications: see `acceptor.wsgi`, which explains why it stands there."""

from acceptor.wsgi import WSGI, FileWrapper

__all__ = ["WSGI", "FileWrapper"]
