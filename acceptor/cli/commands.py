"""The command `taskmaster`, over click: it reads the command line, and says in the terminal what the rest has to say.

Nothing but text is taken from click. What it means, and what else has a say, is decided in acceptor.cli.configuration.
"""

from __future__ import annotations

import os
import textwrap
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from acceptor.cli.configuration import read_configuration
from acceptor.cli.errors import ConfigurationError, StartError
from acceptor.cli.foreign import here_it_is
from acceptor.cli.models import in_effect
from acceptor.cli.options import OPTIONS, Option
from acceptor.cli.reference import configuration_as_toml, help_sections, versions
from acceptor.cli.serving import check, serve
from acceptor.cli.teaching import TeachingCommand
from acceptor.cli.watch import top, watch

__all__ = ["taskmaster"]

_ABOUT = """\
Serve a WSGI application or a handler over HTTP/1.1, on threads.

Each option can also be set in the environment, by the name in its brackets, and in a TOML file, by its own name without
the dashes. The command line counts first, then the environment, then the file. The items of a list are separated by
commas in the environment. SIZE takes K, M and G.
"""

_EXAMPLES = """\
  taskmaster serve shop:app
  taskmaster serve shop.wsgi --bind 0.0.0.0:8000 --threads 4:64
  taskmaster serve 'shop:create_app()' -t pool --threads 16 --queue 100
  taskmaster serve shop:app --processes auto --threads 4:16 --idle park
  taskmaster serve shop:app -b unix:/run/shop.sock --trusted-proxies unix
  taskmaster serve shop:app --access-log - --reload

In pyproject.toml:

  [tool.taskmaster]
  app = "shop:app"
  bind = ["127.0.0.1:8000"]
  limit-body = "10M"
"""

_NOTES = """\
Signals: INT and TERM stop, once the requests in progress are answered; a second one cuts them, and so does QUIT. HUP
opens the log files anew and reads the certificates again. They are for the main process; of the worker processes of
--processes, TERM replaces one.

Exit codes: 0 stopped, and nothing was lost. 1 could not start. 2 wrong usage or configuration. 3 stopped, but requests
were cut, or threads or processes did not end as they should.
"""

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


class _Failed(click.ClickException):
    """A StartError, for click to show."""

    exit_code = StartError.exit_code


class _Group(click.Group):
    def resolve_command(self, ctx: click.Context, args: list[str]
                        ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if ":" in args[0] or "." in args[0]:
                raise click.UsageError(f"No such command {args[0]!r}; to serve an application, write: "
                                       f"{ctx.command_path} serve {args[0]}", ctx) from None
            raise


class _Serve(TeachingCommand):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if there := here_it_is(error.option_name):
                raise click.UsageError(f"No such option {error.option_name!r}: {there}.", ctx) from None
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, rows in help_sections():
            with formatter.section(title):
                for written, text in rows:
                    formatter.write(f"  {written}\n")
                    for line in textwrap.wrap(text, formatter.width - 6, break_on_hyphens=False):
                        formatter.write(f"      {line}\n")


def _parameter(option: Option) -> click.Parameter:
    """The option as click has it: text, taken as it is, or None or () if it is not given."""
    destination = _destination(option)
    if option.is_argument:
        return click.Argument([destination], required=False, metavar="[MODULE:ATTRIBUTE]", default=None)
    names = [destination, option.flag, *([option.short] if option.short else [])]
    if option.is_flag:
        names[1] += f"/--no-{option.name}" if option.everywhere else ""
        return click.Option(names, is_flag=True, default=None, help=option.help)

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if option.kind.is_path:
            return [CompletionItem(incomplete, type="dir" if option.kind.metavar == "DIR" else "file")]
        return [CompletionItem(each) for each in option.kind.choices if each.startswith(incomplete)]

    return click.Option(names, multiple=option.repeatable, default=None, metavar=option.kind.metavar, help=option.help,
                        type=click.STRING, shell_complete=complete)


def _run(**said: Any) -> NoReturn:
    context = click.get_current_context()
    try:
        command_line = {option.name: said[_destination(option)] for option in OPTIONS}
        configuration = read_configuration(command_line, os.environ, Path())
        code, text = 0, ""
        if configuration["print-config"]:
            text = configuration_as_toml(configuration, in_effect(configuration))
        elif configuration["check-config"]:
            check(configuration)
            text = "configuration ok\n"
        else:
            code = serve(configuration)
        for warning in configuration.warnings if text else ():  # else they are in the log
            click.echo(f"Warning: {warning}", err=True)
    except ConfigurationError as error:
        raise click.UsageError(str(error), context) from None
    except StartError as error:
        raise _Failed(str(error)) from None
    except Exception as error:  # shown without its traceback, which is ours and not the user's
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise _Failed(f"this is a bug in Taskmasters, please report it: {type(error).__name__}: {error} "
                      f"({place.filename}:{place.lineno})") from None
    click.echo(text, nl=False)
    context.exit(code)


def _destination(option: Option) -> str:
    return option.name.replace("-", "_")


@click.group(cls=_Group, invoke_without_command=True, context_settings=_SETTINGS)
@click.version_option(versions(), message="%(version)s")
@click.pass_context
def taskmaster(context: click.Context) -> None:
    """An HTTP/1.1 server with pluggable concurrency models."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


taskmaster.add_command(_Serve("serve", callback=_run, params=[_parameter(option) for option in OPTIONS], help=_ABOUT,
                              examples=_EXAMPLES, notes=_NOTES, short_help="Serve an application."))
taskmaster.add_command(watch)
taskmaster.add_command(top)
