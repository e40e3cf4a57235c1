"""What an application is, by how it can be called: WSGI's (environ, start_response), or a handler's (request)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

__all__ = ["FACTORY_HINT", "binds", "factory_signature", "is_wsgi", "takes"]

FACTORY_HINT = "is it a factory? Then call it, or say --factory"
"""How a message of `is_wsgi` ends about what takes no arguments, so that who knows more can say more."""

_FACTORY = re.compile(r"(create|make|get)_(\w+_)?(app|application|wsgi)(\d|_\w+)?|make|(app|application)_factory")
_SETTINGS = re.compile(r"\w*?(config|conf|cfg|settings)(_\w+)?")
_OURS = frozenset({"request", "req", "environ", "env", "start_response"})


def is_wsgi(app: object) -> bool:
    """Whether `app` takes (environ, start_response), rather than a Request as a handler does.

    What can be called both ways is taken for an application, unless its first parameter is called `request`, or it is
    a decorated function (functools.wraps) that takes a Request; but not if the decorator passes on no arguments by
    name, as Werkzeug's Request.application, which makes an application of such a function.

    TypeError if it takes neither, with the fix.
    """
    if not callable(app):
        raise TypeError(f"{app!r} ({type(app).__name__}) cannot be called: pass a WSGI application or a handler")
    called = app if inspect.isroutine(app) or isinstance(app, type) else app.__call__
    if any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in (app, called)):
        raise TypeError(f"{app!r} is asynchronous, as ASGI applications are; this server runs WSGI applications and "
                        "handlers, on threads. Django has both: point to its wsgi.py")
    if (signature := _own_signature(app)) is None:
        return True
    one, two = binds(signature, 1), binds(signature, 2)
    if one and two:
        return _rather_two(app, signature)
    if one or two:
        return two
    if binds(signature, 3):
        raise TypeError(f"{app!r} takes three arguments, as ASGI applications do; this server runs WSGI applications, "
                        "which take (environ, start_response), and handlers, which take a Request")
    hint = f"; {FACTORY_HINT}" if binds(signature, 0) else ""
    raise TypeError(f"{app!r} takes {signature}: a WSGI application takes (environ, start_response), a handler takes a "
                    f"Request{hint}")


def _rather_two(app: Callable[..., Any], signature: inspect.Signature) -> bool:
    """Of what takes one argument as well as two: whether two are meant."""
    parameters = list(signature.parameters.values())
    if parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        return parameters[0].name != "request"
    decorated = inspect.signature(app)
    return binds(decorated, 2) or not binds(decorated, 1) or len(parameters) == 1


def factory_signature(app: object) -> inspect.Signature | None:
    """How `app` is called, if it looks more like a function that makes an application than like one; else None.

    It is a function that can be called with one argument or two, as applications and handlers are, and that is called
    as factories are (create_app, make_wsgi_app, get_application, app_factory), or takes a configuration first, or has
    a default for everything. But if a parameter is called request or environ, it is none. This is a guess, for whoever
    has not said what it is: `is_wsgi` does not make it.
    """
    if not (inspect.isfunction(app) or inspect.ismethod(app)) or (signature := _own_signature(app)) is None:
        return None
    names = {*signature.parameters, *inspect.signature(app).parameters}
    if names & _OURS or not (binds(signature, 1) or binds(signature, 2)):
        return None
    parameters = [each for each in signature.parameters.values()
                  if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    optional = bool(parameters) and binds(signature, 0)
    configured = bool(parameters) and _SETTINGS.fullmatch(parameters[0].name)
    return signature if optional or configured or _FACTORY.fullmatch(app.__name__) else None


def takes(app: Callable[..., Any], count: int) -> bool:
    """Whether `app` can be called with `count` arguments; True if that is unknown."""
    signature = _own_signature(app)
    return signature is None or binds(signature, count)


def _own_signature(app: Callable[..., Any]) -> inspect.Signature | None:
    """How it can be called, be it a decorator's doing or not; None if that is unknown, as of C code it may be."""
    try:
        return inspect.signature(app, follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def binds(signature: inspect.Signature, count: int) -> bool:
    """Whether what has this signature can be called with `count` arguments."""
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
