"""The table of options as people read it: --print-config, --help, and the settings reference of the documentation."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from acceptor.cli.configuration import Configuration, Source, Value
from acceptor.cli.options import OPTIONS, SECTIONS, Option
from acceptor.versions import installed_version

__all__ = ["configuration_as_toml", "help_sections", "settings_reference", "versions"]


def versions() -> str:
    """"Taskmasters 0.1.0, h11 0.16.0, Python 3.11.7"."""
    ours, h11s = (installed_version(name) or "(not installed)" for name in ("taskmasters", "h11"))
    return f"Taskmasters {ours}, h11 {h11s}, Python {platform.python_version()}"


def configuration_as_toml(configuration: Configuration, in_effect: Mapping[str, str] | None = None) -> str:
    """Every option, its value and where that is from: a TOML file for --config. What has no value is a comment.

    in_effect: what options that nobody has given come to, in the model that was chosen; "" if it has none.
    """
    lines = []
    section = ""
    for each in configuration:
        option = each.option
        if not option.everywhere or option.name == "config":
            continue
        if option.section != section:
            section = option.section
            lines += ["", f"# {section}"]
        lines.append(_line(each, configuration["taskmaster"], in_effect or {}))
    return "\n".join(lines[1:]) + "\n"


def _line(each: Value, model: str, in_effect: Mapping[str, str]) -> str:
    option = each.option
    if each.source is Source.DEFAULT and (text := in_effect.get(option.name)) is not None:
        value = option.kind.write(option.kind.parse(text)) if text else ""
        what, origin = f"# {option.name} = {value}".rstrip(), f"the model {model} {'has this' if text else 'has none'}"
    elif each.source is Source.DEFAULT and not option.has_default:
        what = f"# {option.name} ="
        origin = f"default: {option.default_text}" if option.default_text else "not set"
    else:
        what = f"{option.name} = {option.kind.write(each.value)}"
        origin = each.origin
    return f"{what:<39} # {origin}".replace("\n", " ")


def help_sections() -> list[tuple[str, list[tuple[str, str]]]]:
    """For each section its title, and for each option in it how it is written and what it does."""
    return [(section, [(_written(option), f"{option.help}  [{_defaults(option)}]") for option in OPTIONS
                       if option.section == section]) for section in SECTIONS]


def _written(option: Option) -> str:
    if option.is_argument:
        return option.kind.metavar
    short = f"{option.short}, " if option.short else ""
    negation = f" / --no-{option.name}" if option.is_flag and option.everywhere else ""
    return f"{short}{option.flag}{negation} {option.kind.metavar}".rstrip()


def _defaults(option: Option) -> str:
    """"repeatable; default: 30; TASKMASTER_GRACEFUL_TIMEOUT"."""
    return "; ".join(filter(None, [
        "repeatable" if option.repeatable else "",
        f"default: {option.default_shown}" if option.default_shown else "",
        option.variable if option.everywhere else "command line only",
    ]))


def settings_reference() -> str:
    """All options as Markdown tables, a section each, with what they are in Python."""
    parts = []
    for section in SECTIONS:
        parts += [f"### {section}", "", "| option | default | what it does | in Python |", "|---|---|---|---|"]
        for option in OPTIONS:
            if option.section == section:
                cells = (f"`{_written(option)}`", option.default_shown, option.help,
                         f"`{option.becomes}`" if option.becomes else "")
                parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        parts.append("")
    return "\n".join(parts)
