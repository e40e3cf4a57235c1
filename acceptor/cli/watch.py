"""The commands `taskmaster watch` and `taskmaster top`, over click: the package `watching`, from the command line.

That package, and what it needs, is imported when one of them runs, and not for `taskmaster serve`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from acceptor.cli.errors import did_you_mean
from acceptor.cli.models import MODELS
from acceptor.cli.teaching import TeachingCommand

__all__ = ["top", "watch"]

_TOKEN = "TASKMASTER_CONTROL_TOKEN"

_WATCH = """\
Show servers at work, on a page in the browser: what each thread does, where connections wait, and how fast they are
answered.

With --compare, several models side by side, under the same load: each is a server in a process of its own, with a
handler that only sleeps. Without it, servers that run already: say the ADDRESS that `taskmaster serve --control` was
given.
"""

_WATCH_EXAMPLES = """\
  taskmaster watch --compare thread,pool,recycling                  a new connection for each request
  taskmaster watch --compare thread,pool,recycling --keep-alive     connections stay: who holds them, who parks them?
  taskmaster watch --compare thread,pool,loop --clients 100         more clients than threads: where do they wait?
  taskmaster watch --compare recycling,shop.models:Mine --app shop:app
  taskmaster watch 127.0.0.1:9000 unix:/run/app-control.sock        servers that run already
"""

_WATCH_NOTES = """\
MODELs are those of `taskmaster serve -t`: thread, pool, recycling, single, loop, or package.module:Class for one of
your own. The page can change clients, keep-alive and sleep while they ask.

The load is a closed loop: each client asks, waits for its answer, thinks for --think milliseconds on average, and asks
again. The page has what clients see, waiting included, beside what the servers see of themselves. By default that is
200 requests a second for each model, and half a core in all. With --think 0 they ask as fast as they are answered; then
the machine is full, and the numbers are those of a contest for it.

Ctrl+C stops everything, and leaves no process.
"""

_TOP = """\
Show the threads of a server in the terminal: each is a letter for what it does, with its last minute beside it.

ADDRESS is that of its control server: what `taskmaster serve --control ADDRESS` was given, or `taskmaster watch` has
said.
"""

_TOP_EXAMPLES = """\
  taskmaster serve shop:app --control 127.0.0.1:9000                in one terminal
  taskmaster top 127.0.0.1:9000                                     in another
  taskmaster top unix:/run/app-control.sock --once                  one reading, as text
  taskmaster top http://127.0.0.1:9000 --json | jq '.sources[].connections'
"""

_TOP_NOTES = """\
Letters: A in accept(), R reads a request, H in the handler, W writes the response, K waits for its client, _ between
two steps, or waits, Q finds a connection a thread, C closes or refuses, S starts, X leaves. A strip is the last minute,
now at its right: a row for each thread, or if they are too many, all of them, stacked by what they did. Below it
connections that wait, in the kernel or queued, and the last decisions to have a thread more, or less.

The p99 is from the moment when a thread has a request's head to the end of its response. What its client has waited for
a thread before is not in it: see kernel and queued. `taskmaster watch --compare` measures that, at its own clients.

Keys: q quits, space freezes. Where standard input or output is no terminal, it prints one reading, as --once does.
"""


class _Failed(click.ClickException):
    exit_code = 1


@contextmanager
def _said() -> Iterator[None]:
    """What goes wrong becomes a sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("rich", "prometheus_client"):
            raise
        raise _Failed(f"this needs {error.name.partition('.')[0]}, which is not installed; say: "
                      "pip install 'taskmasters[watch]'") from None
    except OSError as error:
        raise _Failed(error.strerror or str(error)) from None


def _models(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    """Names, not yet looked up but for typing errors: own classes are for the process that serves them."""
    models = [each.strip() for each in (value or "").split(",") if each.strip()]
    for each in models:
        if ":" not in each and each.lower() not in MODELS:
            raise click.BadParameter(f"there is no model {each!r}; write {', '.join(MODELS)}, or for one of your own "
                                     f"package.module:Class{did_you_mean(each.lower(), MODELS)}")
    if value is not None and not models:
        raise click.BadParameter("name models, as in --compare thread,pool,recycling")
    return models


_ONLY_COMPARE = ("clients", "keep_alive", "sleep", "think", "threads", "app")
_SOURCE = click.core.ParameterSource.COMMANDLINE


def _watch(addresses: tuple[str, ...], compare: list[str], clients: int, keep_alive: bool, sleep: float, think: float,
           threads: str | None, app: str | None, port: int, open_: bool, token: str | None) -> None:
    context = click.get_current_context()
    if compare and addresses:
        raise click.UsageError(f"--compare starts servers of its own, and {addresses[0]!r} is another: leave one out",
                               context)
    if not compare and not addresses:
        raise click.UsageError("say what to watch: --compare thread,pool,recycling, or the address that a server's "
                               "--control was given", context)
    bind = f"127.0.0.1:{port}"
    with _said():
        if compare:
            from watching.compare import CompareError, Comparison

            comparison = Comparison(models=compare, clients=clients, keep_alive=keep_alive, sleep_ms=sleep,
                                    think_ms=think, threads=threads, app=app, bind=bind, open=open_)
            try:
                context.exit(comparison.run())
            except CompareError as error:
                raise _Failed(str(error)) from None
        for name in _ONLY_COMPARE:
            if context.get_parameter_source(name) is _SOURCE:
                raise click.UsageError(f"--{name.replace('_', '-')} is about --compare; leave it out", context)
        from watching.asking import AskingError
        from watching.gather import gather

        try:
            context.exit(gather(addresses, token=token, bind=bind, open_browser=open_))
        except AskingError as error:
            raise _Failed(str(error)) from None


def _top(address: str, once: bool, as_json: bool, theme: str | None, token: str | None) -> None:
    with _said():
        from watching.asking import AskingError
        from watching.top import once as print_once
        from watching.top import top as show

        try:
            if once or as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
                print_once(address, token, as_json=as_json, theme=theme)
            else:
                show(address, token, theme=theme)
        except AskingError as error:
            raise _Failed(str(error)) from None
        except BrokenPipeError:  # as `| head` ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _option(*names: str, **settings: Any) -> click.Option:
    return click.Option(names, show_default=settings.pop("show_default", True), **settings)


_TOKEN_OPTION = {"metavar": "TOKEN", "envvar": _TOKEN, "show_envvar": True, "show_default": False,
                 "help": "The server's --control-token, if it has one. The environment is the better place for it."}

watch = TeachingCommand("watch", callback=_watch, help=_WATCH, examples=_WATCH_EXAMPLES, notes=_WATCH_NOTES,
                        short_help="Show servers at work, on a page.", params=[
    click.Argument(["addresses"], nargs=-1, metavar="[ADDRESS]..."),
    _option("--compare", metavar="MODEL,...", callback=_models, help="Models to compare."),
    _option("--clients", metavar="N", type=click.IntRange(0, 1000), default=20, help="Clients of each model."),
    _option("--keep-alive/--no-keep-alive", default=False,
            help="Whether clients keep their connection for the next request."),
    _option("--sleep", metavar="MS", type=click.FloatRange(0, 10_000), default=20,
            help="How long the handler sleeps, in milliseconds."),
    _option("--think", metavar="MS", type=click.FloatRange(0, 10_000), default=80,
            help="How long a client thinks between an answer and its next request, on average."),
    _option("--threads", metavar="N|MIN:MAX", help="As of `taskmaster serve`, for each model.",
            show_default="the model's"),
    _option("--app", metavar="MODULE:ATTRIBUTE", help="What to serve, which is asked for /?sleep=MS.",
            show_default="a handler that sleeps"),
    _option("--port", metavar="PORT", type=click.IntRange(0, 65535), default=0, show_default="any that is free",
            help="Of the page, on 127.0.0.1."),
    _option("--open/--no-open", "open_", default=False, help="Open the page in a browser."),
    _option("--token", **_TOKEN_OPTION),
])

top = TeachingCommand("top", callback=_top, help=_TOP, examples=_TOP_EXAMPLES, notes=_TOP_NOTES,
                      short_help="Show a server's threads in the terminal.", params=[
    click.Argument(["address"], metavar="ADDRESS"),
    _option("--once", is_flag=True, default=False, help="Print one reading, and exit.", show_default=False),
    _option("--json", "as_json", is_flag=True, default=False, help="All there is of one reading, as JSON.",
            show_default=False),
    _option("--theme", type=click.Choice(["dark", "light"]), help="Colours for which background.",
            show_default="what the terminal says, else dark"),
    _option("--token", **_TOKEN_OPTION),
])
