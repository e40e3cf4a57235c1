"""Import what "module:attribute" names: the application, a taskmaster of the user's own, hooks.

What is not there is answered with what is there and looks like it. What the user's code raises is shown as its own
traceback: the frames of this package and of importlib, which the user can do nothing about, are left out.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import inspect
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from acceptor.cli.errors import CliError, ConfigurationError, StartError, did_you_mean
from acceptor.interfaces import binds, factory_signature, takes

__all__ = ["call_users", "load", "load_application", "look_here_first"]

_R = TypeVar("_R")

_DEFAULTS = ("app", "application")
_NAME = r"[^\W\d]\w*"
_DOTTED = re.compile(rf"{_NAME}(\.{_NAME})*")
_OURS = (str(Path(__file__).parent), str(Path(importlib.__file__).parent), "<frozen importlib")


def look_here_first(directory: str, where: str) -> Path:
    """Put `directory` in front of sys.path; its absolute path. StartError if there is no such directory."""
    path = Path(directory).absolute()
    if not path.is_dir():
        raise StartError(f"{where} {directory!r}: {'this is no directory' if path.exists() else 'it does not exist'}")
    sys.path.insert(0, str(path))
    return path


def load_application(reference: str, where: str, directory: Path, *, factory: bool, guess: bool = False) -> Any:
    """The application that `reference` names: "module:attribute", "module", "module:make()".

    where: what the user calls the option. directory: the first in sys.path. factory: call what is found. guess: nobody
    has said what it is; StartError if it looks like a factory that should have been called.
    """
    written = reference
    if match := re.fullmatch(rf"(.+:.*{_NAME})\(\)", reference):
        reference, factory = match[1], True
    elif reference.endswith(")"):
        raise ConfigurationError(f"{where} {reference!r}: no arguments can be passed; name a function that takes "
                                 f'none: "{reference.partition("(")[0]}()"')
    module, path = _split(reference, where, directory)
    imported = _module(module, where, directory)
    if not path:
        path = next((name for name in _DEFAULTS if hasattr(imported, name)), "")
        if not path:
            raise StartError(f"{where} {module!r}: the module has neither app nor application"
                             f"{_submodules(imported) or _candidates(imported)}")
    found, name = _attribute(imported, module, path, where), f"{module}:{path}"
    _check_is_something(found, name, where)
    if not factory:
        if guess and (signature := factory_signature(found)) is not None:
            fix = (f"Write '{name}()', or add --factory" if takes(found, 0) else
                   "Nobody passes it anything; name a function that takes none, and call it")
            raise StartError(f"{where} {name!r} takes {signature}: that looks like a factory. {fix}; if it really is a "
                             "handler, say --interface handler (or wsgi)")
        return found
    if not callable(found):
        raise StartError(f"{where} {name!r}: it is {found!r:.80}, which cannot be called to make an application")
    if not takes(found, 0):
        fix = "" if written.endswith("()") else ", or leave --factory out"
        raise StartError(f"{where} {name!r}: it takes {inspect.signature(found)}; name a function that takes none{fix}")
    made = call_users(found, f"the factory {name}")
    if made is None:
        raise StartError(f"{where} {name!r}: the factory returned None: is a return missing?")
    return made


def _check_is_something(found: object, name: str, where: str) -> None:
    """StartError, that says more than that it cannot be called, for what is often named by mistake."""
    if found is None:
        raise StartError(f"{where} {name!r}: it is None; where the application is made, is it bound to this name?")
    if isinstance(found, ModuleType):
        raise StartError(f"{where} {name!r}: it is the module {found.__name__}; name something in it")


def load(reference: str, where: str, directory: Path, *, module_alone: bool = False) -> Any:
    """The object that "module:attribute" or, if `module_alone`, "module" names."""
    module, path = _split(reference, where, directory)
    if not path and not module_alone:
        raise ConfigurationError(f'{where} {reference!r}: write "{module}:" and the name of what is meant')
    imported = _module(module, where, directory)
    return _attribute(imported, module, path, where) if path else imported


def call_users(function: Callable[[], _R], what: str) -> _R:
    """What `function`, which is the user's, returns; what it raises becomes a StartError with the user's traceback."""
    try:
        return function()
    except CliError:
        raise
    except Exception as error:
        raise StartError(f"{what} failed:\n\n{_traceback(error)}") from None
    except SystemExit as error:
        raise StartError(f"{what} has ended the program: sys.exit({error.code!r})") from None


def _split(reference: str, where: str, directory: Path) -> tuple[str, str]:
    """The two sides of the colon, the right one perhaps empty; ConfigurationError if these are not dotted names."""
    module, _, path = reference.partition(":")
    if _DOTTED.fullmatch(module) and not module.endswith(".py") and (not path or _DOTTED.fullmatch(path)):
        return module, path
    raise ConfigurationError(f"{where} {reference!r}: {_fix(module, path, directory)}")


def _fix(module: str, path: str, directory: Path) -> str:
    if "/" in module or module.endswith(".py"):
        file = Path(module.rstrip("/").removesuffix(".py"))
        folder, names = file.parent, [file.name]
        while (folder / "__init__.py").exists() and folder.name:  # a package, whose name is part of the module's
            names.insert(0, folder.name)
            folder = folder.parent
        there = "" if folder.resolve() == directory.resolve() else f", with --app-dir {folder}"
        return f'write the name of a module, not of its file: "{".".join(names)}:{path or "app"}"{there}'
    if module.startswith("."):
        return f'a relative name means nothing here; write "package.{module.strip(".")}:{path or "app"}"'
    return 'write "module:attribute", as in "app:app" or "package.module:make_app"'


def _module(name: str, where: str, directory: Path) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Of the module itself or a package around it, not of something that it imports.
        if error.name is None or not f"{name}.".startswith(f"{error.name}.") or _users_frames(error):
            raise StartError(f"{where} {name!r} cannot be imported; its own error is:\n\n{_traceback(error)}") from None
        raise StartError(f"{where} {name!r}: {_missing(error.name, directory)}") from None
    except Exception as error:
        raise StartError(f"{where} {name!r} cannot be imported; its own error is:\n\n{_traceback(error)}") from None
    except SystemExit as error:
        raise StartError(f"{where} {name!r} has ended the program while it was imported: sys.exit({error.code!r})"
                         ) from None
    top = name.partition(".")[0]
    here = importlib.machinery.PathFinder.find_spec(top, [str(directory)])
    there = getattr(sys.modules[top], "__file__", None)
    if here is not None and here.has_location and os.path.realpath(here.origin or "") != os.path.realpath(there or ""):
        raise StartError(f"{where} {name!r}: {here.origin} cannot be imported, for Python has another module of this "
                         f"name already, {there or 'a built-in one'}; rename yours")
    return module


def _missing(name: str, directory: Path) -> str:
    parent, _, last = name.rpartition(".")
    if parent:
        folders: Iterable[str] = getattr(sys.modules.get(parent), "__path__", [])
        colon = f'; did you mean "{parent}:{last}"?' if hasattr(sys.modules.get(parent), last) else ""
        if colon or not folders:
            kind = "package" if folders else "module, not a package,"
            return f"{parent!r} is a {kind} and has no module {last!r} in it{colon}"
        near = did_you_mean(last, (module.name for module in pkgutil.iter_modules(folders)))
        return f"there is no module {last!r} in the package {parent!r}{near}"
    names = {module.name for module in pkgutil.iter_modules([str(directory)])}
    near = did_you_mean(name, names)
    if not near and 0 < len(names) <= 10:
        near = f"; there are {', '.join(sorted(names))}"
    elsewhere = "" if near else "; if it lies somewhere else, say --app-dir DIR"
    return f"there is no module {name!r} in {directory}{near}{elsewhere}"


def _attribute(module: ModuleType, name: str, path: str, where: str) -> Any:
    found: Any = module
    for index, part in enumerate(path.split(".")):
        try:
            found = getattr(found, part)
        except AttributeError:
            if index:
                owner = f"{name}:{'.'.join(path.split('.')[:index])}"
                raise StartError(f"{where} {f'{name}:{path}'!r}: {owner} ({type(found).__name__}) has no {part!r}"
                                 f"{did_you_mean(part, dir(found))}") from None
            if any(each.name == part for each in pkgutil.iter_modules(getattr(module, "__path__", []))):
                raise StartError(f"{where} {f'{name}:{path}'!r}: {name}.{part} is a module of this package; write "
                                 f'"{name}.{part}:" and the name of something in it') from None
            near = did_you_mean(part, (each for each in vars(module) if not each.startswith("__")))
            raise StartError(f"{where} {f'{name}:{path}'!r}: the module {name!r} has no {part!r}"
                             f"{near or _candidates(module)}") from None
    return found


def _candidates(module: ModuleType) -> str:
    """What in the module might be meant: what can be called as an application or a handler is, or makes one."""
    applications, factories = [], []
    for name, value in vars(module).items():
        imported = inspect.isroutine(value) and getattr(value, "__module__", None) != module.__name__
        if name.startswith("_") or isinstance(value, type) or not callable(value) or imported:
            continue
        try:
            signature = inspect.signature(value)
        except Exception:  # it has none; or whatever an object with a __getattr__ of its own raises
            continue
        none, one, two = (binds(signature, count) for count in range(3))
        if none and (not one or factory_signature(value)):
            factories.append(f"{module.__name__}:{name}()")
        elif factory_signature(value):  # which wants arguments that nobody passes
            continue
        elif one != two:  # what takes any number is no application, but a proxy or the like
            applications.append(f"{module.__name__}:{name}")
    text = f"; perhaps {' or '.join(applications[:5])} is meant" if applications else ""
    return text + (f"; functions that might make it: {', '.join(factories[:5])}" if factories else "")


def _submodules(package: ModuleType) -> str:
    """Which of a package's modules have an application, as far as their source says it: nothing is imported."""
    found = []
    for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
        spec = importlib.machinery.PathFinder.find_spec(f"{package.__name__}.{module.name}", package.__path__)
        try:
            tree = ast.parse(Path(spec.origin or "").read_bytes() if spec else b"")
        except (OSError, SyntaxError, ValueError):  # not a source file, or a broken one
            continue
        names = {name for statement in tree.body for name in _bound(statement)}
        found += [(module.name, name) for name in _DEFAULTS if name in names][:1]
    if not found:
        return ""
    module_name, name = min(found, key=lambda each: (each[0] != "wsgi", each[0]))
    return f'; {package.__name__}.{module_name} has {name}: write "{package.__name__}.{module_name}:{name}"'


def _bound(statement: ast.stmt) -> Iterable[str]:
    """The names that a statement binds, if it is an assignment or a definition."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else \
        [statement.target] if isinstance(statement, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _users_frames(error: BaseException) -> bool:
    return any(not frame.filename.startswith(_OURS) for frame in traceback.extract_tb(error.__traceback__))


def _traceback(error: BaseException) -> str:
    """As Python prints it, without the frames of this package and of importlib."""
    report = traceback.TracebackException.from_exception(error)
    _shorten(report, set())
    return "".join(report.format()).rstrip() + _install(error)


def _install(error: BaseException) -> str:
    """What to ask if it is a package that is not there; "" else, as for a module in a package that is there."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    top = error.name.partition(".")[0]
    if top in sys.modules or importlib.machinery.PathFinder.find_spec(top) is not None:
        return ""
    return f"\n\n{top}: is it installed for {sys.executable}?"


def _shorten(report: traceback.TracebackException | None, done: set[int]) -> None:
    if report is None or id(report) in done:
        return
    done.add(id(report))
    report.stack = traceback.StackSummary.from_list(
        [frame for frame in report.stack if not frame.filename.startswith(_OURS)])
    for other in (report.__cause__, report.__context__, *(getattr(report, "exceptions", None) or ())):
        _shorten(other, done)
