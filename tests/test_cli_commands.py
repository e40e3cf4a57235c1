"""The command as a person meets it, as far as nothing is listened on: help, errors, exit codes, what is loaded."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import trustme
from click.testing import CliRunner, Result

from acceptor.cli.commands import _EXAMPLES, taskmaster
from acceptor.cli.options import OPTIONS, SECTIONS
from tests.cli_programs import ROOT, clean_environ, run

APPLICATIONS = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

def handler(request):
    return "hello"

def make():
    return app

def fails():
    raise ValueError("no database")

def wants(settings):
    return app

def create_app(test_config=None):
    return app

def forgetful():
    pass

import sys
nothing = None

async def asgi(scope, receive, send):
    pass

class Box:
    inside = staticmethod(app)

box = Box()
number = 5
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module `shop` in it. Nothing of what is imported is left afterwards."""
    (tmp_path / "shop.py").write_text(APPLICATIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("PORT", "FORWARDED_ALLOW_IPS", "WEB_CONCURRENCY", *(option.variable for option in OPTIONS)):
        monkeypatch.delenv(name, raising=False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def invoke(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    return CliRunner(env=environ).invoke(taskmaster, arguments, prog_name="taskmaster")


def check(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    return invoke("serve", *arguments, "--check-config", environ=environ)


def expect_error(result: Result, code: int, message: str) -> None:
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "acceptor/cli" not in result.output
    assert "configuration ok" not in result.output


# Help.


def test_alone_it_prints_its_help() -> None:
    result = invoke()
    assert result.exit_code == 0
    assert result.output == invoke("--help").output
    assert "serve" in result.output


def test_version() -> None:
    result = invoke("--version")
    assert re.fullmatch(r"Taskmasters \S+, h11 \d+\.\d+\S*, Python \d+\.\d+\S*\n", result.output)


def test_the_help_names_every_section_option_and_variable() -> None:
    text = invoke("serve", "--help").output
    assert re.findall(r"^(\w+):$", text, re.MULTILINE) == ["Examples", *SECTIONS]
    words = set(re.findall(r"[^\s\[\],;]+", text))
    for option in OPTIONS:
        assert option.flag in words
        assert not option.everywhere or option.variable in words


@pytest.mark.parametrize(("columns", "width"), [(60, 60), (80, 80), (120, 120), (200, 120)])
def test_the_help_keeps_to_the_terminals_width(columns: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    serve = taskmaster.commands["serve"]
    with click.Context(taskmaster, info_name="taskmaster", **taskmaster.context_settings) as parent:
        text = serve.get_help(click.Context(serve, parent=parent, info_name="serve"))
    text = "".join(text.partition("Examples:\n")[::2]).replace(_EXAMPLES, "")
    longest = max(text.splitlines(), key=len)
    assert len(longest) <= width, longest
    assert len(longest) > width * 3 // 4, "it does not use the width"
    assert not [line for line in text.splitlines() if line.endswith("-")], "an option is broken in two"


@pytest.mark.usefixtures("site")
def test_the_examples_of_the_help_are_understood() -> None:
    text = invoke("serve", "--help").output
    examples = re.findall(r"^ +(taskmaster serve .*)$", text, re.MULTILINE)
    assert len(examples) >= 4
    for example in examples:
        assert invoke(*shlex.split(example)[1:], "--print-config").exit_code == 0, example
    snippet = text.partition("  [tool.taskmaster]\n")[2].partition("Application:")[0]
    Path("own.toml").write_text(re.sub("^ +", "", snippet, flags=re.MULTILINE))
    assert invoke("serve", "--config", "own.toml", "--print-config").exit_code == 0


# What is loaded, and what is said if it cannot be.


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("arguments", [
    ["shop"], ["shop:app"], ["shop:handler"], ["shop:box.inside"], ["shop:make()"], ["shop:make", "--factory"],
    ["shop:app", "--interface", "wsgi", "--script-name", "/a"], ["shop:handler", "--interface", "handler"],
    ["shop", "-t", "single"], ["shop", "-t", "thread", "--threads", "none"], ["shop", "-t", "pool", "--queue", "none"],
    ["shop", "--live-path", "/livez", "--ready-path", "/readyz", "--trusted-proxies", "*", "--leave", "3"],
    ["shop", "--allow", "OBS_FOLD", "--allow", "bare-lf", "--proxy-protocol", "unix"],
    ["shop", "--access-log", "access.log", "--access-log-format", "json", "--error-log", "error.log"],
    ["shop", "--pidfile", "shop.pid", "--reload", "--reuse-port"],
    ["shop", "--idle", "park"], ["shop", "-t", "pool", "--idle", "hold"], ["shop", "-t", "loop"],
    ["shop", "-t", "loop", "--offload", "threads:4"], ["shop", "-t", "loop", "--offload", "processes:2"],
    ["shop", "-t", "loop", "--offload", "shop:make"], ["shop", "-t", "loop", "--offload", "none"],
    ["shop", "--processes", "2", "--max-requests", "1000", "--max-requests-jitter", "50", "--max-memory", "300M"],
    ["shop", "-t", "single", "--processes", "auto", "--max-requests", "none"], ["shop", "--processes", "none"],
])
def test_a_right_configuration_is_ok(arguments: list[str]) -> None:
    result = check(*arguments)
    assert result.exit_code == 0, result.output
    assert result.output == "configuration ok\n"
    assert sorted(path.name for path in Path().iterdir()) == ["shop.py"], "nothing is made"


@pytest.mark.usefixtures("site")
def test_the_application_may_be_named_anywhere() -> None:
    expect_error(check(), 2, 'name the application: "taskmaster serve module:attribute"')
    assert check(environ={"TASKMASTER_APP": "shop:make", "TASKMASTER_FACTORY": "true"}).exit_code == 0
    Path("pyproject.toml").write_text('[tool.taskmaster]\napp = "shop"\n')
    assert check().exit_code == 0


@pytest.mark.parametrize(("reference", "code", "message"), [
    ("sho", 1, "there is no module 'sho' in {site}; did you mean 'shop'?"),
    ("zzz", 1, "there is no module 'zzz' in {site}; there are lacking, package, shop, site_"),
    ("shop:ap", 1, "the module 'shop' has no 'ap'; did you mean 'app'?"),
    ("shop:zzz", 1, "has no 'zzz'; perhaps shop:app or shop:handler is meant; functions that might make it: "),
    ("shop:zzz", 1, "that might make it: shop:make(), shop:fails(), shop:create_app(), shop:forgetful()"),
    ("shop:create_app", 1, "'shop:create_app' takes (test_config=None): that looks like a factory. Write 'shop:"),
    ("shop:create_app", 1, "'shop:create_app()', or add --factory; if it really is a handler, say --interface handler"),
    ("shop:wants", 1, "takes (settings): that looks like a factory. Nobody passes it anything; name a function that"),
    ("shop:nothing", 1, "'shop:nothing': it is None"),
    ("shop:forgetful()", 1, "'shop:forgetful': the factory returned None: is a return missing?"),
    ("shop:sys", 1, "'shop:sys': it is the module sys; name something in it"),
    ("shop:make()()", 2, "no arguments can be passed"),
    ("site_.wsgi.app", 1, "has no module 'app' in it; did you mean \"site_.wsgi:app\"?"),
    ("site_", 1, "has neither app nor application; site_.wsgi has app: write \"site_.wsgi:app\""),
    ("site_:wsgi", 1, 'site_.wsgi is a module of this package; write "site_.wsgi:" and the name of something in it'),
    ("site_/wsgi.py", 2, 'write the name of a module, not of its file: "site_.wsgi:app"\n'),
    ("site_/wsgi:app", 2, 'write the name of a module, not of its file: "site_.wsgi:app"\n'),
    ("folder/web.py:x", 2, 'not of its file: "web:x", with --app-dir folder\n'),
    ("lacking", 1, "nowhere_at_all: is it installed for " + sys.executable + "?"),
    ("shop:box.outside", 1, "shop:box (Box) has no 'outside'; did you mean 'inside'?"),
    ("shop:number", 1, "it (int) cannot be called"),
    ("shop:number()", 1, "'shop:number': it is 5, which cannot be called to make an application"),
    ("shop:asgi", 1, "it is asynchronous, as ASGI applications are"),
    ("shop:make", 1, 'write "shop:make()", or add --factory'),
    ("shop:fails()", 1, "the factory shop:fails failed:\n\nTraceback"),
    ("shop:wants()", 1, "'shop:wants': it takes (settings); name a function that takes none"),
    ("shop:make(1)", 2, 'no arguments can be passed; name a function that takes none: "shop:make()"'),
    ("shop.app", 1, "'shop' is a module, not a package, and has no module 'app' in it; did you mean \"shop:app\"?"),
    ("package.wbe", 1, "there is no module 'wbe' in the package 'package'; did you mean 'web'?"),
    ("package", 1, "the module has neither app nor application"),
    ("shop.py", 2, 'write the name of a module, not of its file: "shop:app"'),
    ("./package/web.py:x", 2, 'not of its file: "package.web:x"\n'),
    (".shop", 2, 'a relative name means nothing here; write "package.shop:app"'),
    ("shop:", 0, ""),
    ("shop:a b", 2, 'write "module:attribute"'),
    ("a b", 2, 'write "module:attribute"'),
])
def test_an_application_that_is_not_there_is_answered_with_what_is(
        reference: str, code: int, message: str, site: Path) -> None:
    (site / "package").mkdir()
    (site / "package" / "__init__.py").touch()
    (site / "package" / "web.py").touch()
    (site / "site_").mkdir()
    (site / "site_" / "__init__.py").touch()
    (site / "site_" / "wsgi.py").write_text("from shop import app as other\napp = other\n")
    (site / "site_" / "broken.py").write_text("app = (\n")
    (site / "folder").mkdir()
    (site / "lacking.py").write_text("import nowhere_at_all\n")
    result = check(reference)
    if code:
        expect_error(result, code, message.replace("{site}", str(site)))
    else:
        assert result.exit_code == 0


@pytest.mark.parametrize("how", ["import", "factory", "model", "hooks"])
def test_an_error_of_the_users_is_shown_with_the_users_frames_only(how: str, site: Path) -> None:
    (site / "broken.py").write_text("def deeper():\n    import not_there_at_all\n\ndeeper()\n")
    (site / "package").mkdir()
    (site / "package" / "__init__.py").write_text("import broken\n")
    (site / "late.py").write_text("def make():\n    import package\n")
    arguments = {"import": ["package"], "factory": ["late:make()"], "model": ["shop", "-t", "package:Model"],
                 "hooks": ["shop", "--hooks", "package"]}[how]
    result = check(*arguments)
    expect_error(result, 1, "ModuleNotFoundError: No module named 'not_there_at_all'")
    files = re.findall(r'^  File "(.*?)", line (\d+)', result.output, re.MULTILINE)
    expected = [("package/__init__.py", "1"), ("broken.py", "4"), ("broken.py", "2")]
    assert files == [(str(site / name), line) for name, line in
                     ([("late.py", "2")] if how == "factory" else []) + expected]


@pytest.mark.parametrize(("source", "message"), [
    ("def app(:\n", "SyntaxError: "),
    ("import sys; sys.exit('go away')\n", "has ended the program while it was imported: sys.exit('go away')"),
    ("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise OSError('disk') from error\n",
     "The above exception was the direct cause"),
    ("import shop.sub\n", "No module named 'shop.sub'; 'shop' is not a package"),
    ("import wrong.sub\n", "No module named 'wrong.sub'; 'wrong' is not a package"),
    ("raise ModuleNotFoundError('own', name='wrong')\n", "ModuleNotFoundError: own"),
])
def test_a_module_that_cannot_be_imported_says_why(source: str, message: str, site: Path) -> None:
    (site / "wrong.py").write_text(source)
    expect_error(check("wrong"), 1, message)


def test_a_module_whose_name_is_taken_is_said_to_be(site: Path) -> None:
    (site / "taskmaster.py").write_text("def app(request): return ''\n")
    expect_error(check("taskmaster"), 1, "Python has another module of this name already")


def test_the_users_own_packages_win(site: Path) -> None:
    (site / "elsewhere").mkdir()
    for folder in (site, site / "elsewhere"):
        for name in ("handlers", "tests", "bench"):
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(f"where = {folder.name!r}\n")
        (folder / "mine.py").write_text("import handlers, tests, bench\n"
                                        f"assert handlers.where == tests.where == bench.where == {folder.name!r}\n"
                                        "def app(request): return ''\n")
        result = run(site, "serve", "mine", "--app-dir", str(folder), "--check-config")  # here `tests` is imported
        assert (result.returncode, result.stdout) == (0, "configuration ok\n"), result.stderr


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(("arguments", "code", "message"), [
    (["--app-dir", "nowhere"], 1, "--app-dir 'nowhere': it does not exist"),
    (["--app-dir", "shop.py"], 1, "--app-dir 'shop.py': this is no directory"),
    (["--factory"], 1, "it takes (environ, start_response); name a function that takes none, or leave --factory out"),
    (["--reload-dir", "."], 2, "--reload-dir: nothing is watched without --reload; give both"),
    (["--reload-include", "*.html"], 2, "--reload-include: nothing is watched without --reload"),
    (["--reload", "--reload-dir", "nowhere"], 1, "--reload-dir 'nowhere': there is no such directory"),
    (["--access-log-format", "json"], 2, "--access-log-format: there is no access log without --access-log"),
    (["--log-config", "log.yaml"], 2, "--log-config 'log.yaml': YAML is not read: write .json, .toml or .ini"),
    (["--max-requests", "9"], 2, "--max-requests 9: it is about worker processes, and there are none without --proc"),
    (["--max-memory", "1G"], 2, "--max-memory 1G: it is about worker processes"),
    (["--processes", "2", "--max-requests-jitter", "9"], 2, "there is no --max-requests; give both"),
    (["--processes", "0"], 2, "--processes '0': write a whole number of at least 1"),
    (["--processes", "many"], 2, "write a number of at least 1, auto (one for each processor), or none"),
    (["--processes", "1000"], 2, "--processes 1000: write a whole number from 1 to 256"),
    (["--offload", "threads:4"], 2, "the model recycling has no --offload; loop has, so write -t loop too"),
    (["-t", "loop", "--offload", "threads"], 2, "say how many, as in threads:16"),
    (["-t", "loop", "--offload", "many"], 2, "write threads:16, processes:4, none, or package.module:function"),
    (["-t", "loop", "--offload", "shop:number"], 1, "--offload 'shop:number' is 5: name a function that makes an exec"),
    (["-t", "loop", "--offload", "shop:nothere"], 1, "--offload 'shop:nothere': the module 'shop' has no 'nothere'"),
    (["-t", "loop", "--threads", "4"], 2, "pool and recycling have. Or its application has: write --offload threads:N"),
    (["-t", "thread", "--idle", "park"], 2, "--idle park: the model thread has no --idle; pool and recycling have"),
    (["--idle", "maybe"], 2, "write one of hold, park"),
    (["--workers-lifetime", "9"], 2, "--max-requests and --max-memory say when one is"),
    (["-k", "gthread"], 2, "No such option '-k': for gthread, --taskmaster pool is the most like it"),
    (["-t", "30"], 2, "gunicorn's -t is --timeout-handler here"),
    (["--chdir", "/"], 2, "the working directory stays: cd first"),
    (["--interface", "handler"], 1, "cannot be called with a Request alone"),
    (["--forwarded-header", "forwarded"], 2, "say who is by --trusted-proxies"),
    (["--keyfile", "key.pem"], 2, "--keyfile: there is no TLS without --certfile"),
    (["--certfile", "no.pem"], 1, "--certfile 'no.pem': No such file"),
    (["--certfile", "shop.py"], 1, "--certfile 'shop.py': no CERTIFICATE is in it"),
    (["--certfile", "x", "--client-ca", "y"], 2, "--client-ca y: clients are asked for no certificate"),
    (["--certfile", "x", "--client-certificate", "required"], 2, "say by --client-ca which authorities"),
    (["--certfile", "x", "--keyfile-password-file", "no"], 1, "--keyfile-password-file no: No such file"),
    (["--live-path", "/a", "--ready-path", "/a"], 2, "--live-path /a and --ready-path /a: they say different things"),
    (["--hooks", "nowhere"], 1, "there is no module 'nowhere'"),
    (["--hooks", "shop:app"], 1, "has no function called starting, ready"),
    (["--hooks", "shop:Box"], 1, "is a class; name an object made of it"),
    (["--error-log", "no/where"], 1, "--error-log 'no/where': there is no directory no; make it"),
    (["--access-log", "no/where"], 1, "--access-log 'no/where': there is no directory no; make it"),
    (["--pidfile", "no/where"], 1, "--pidfile 'no/where': there is no directory no; make it"),
    (["--log-config", "no.json"], 1, "--log-config 'no.json': No such file"),
    (["--log-config", "no.json", "--log-level", "debug"], 2, "--log-level and --log-config: the latter says all"),
    (["--log-config", "shop.py"], 2, "--log-config 'shop.py': "),
    (["--threds", "4"], 2, "--threads"),
    (["--workers", "4"], 2, "No such option '--workers': here it is --processes."),
    (["--listen", ":1"], 2, "No such option '--listen': here it is --bind."),
    (["-w", "4"], 2, "No such option '-w': here it is --processes."),
    (["-b", "8080"], 2, "--bind '8080': write \"127.0.0.1:8080\""),
])
def test_a_wrong_option_says_what_to_write(arguments: list[str], code: int, message: str) -> None:
    expect_error(check("shop", *arguments), code, message)


@pytest.mark.usefixtures("site")
def test_what_belongs_to_wsgi_is_not_for_handlers() -> None:
    expect_error(check("shop:handler", "--script-name", "/a"), 2, "'shop:handler' is a handler")
    expect_error(check("shop:handler", "--interface", "wsgi"), 1, "takes a Request, and so is a handler")


def test_somebody_who_forgets_the_command_or_a_value_is_told() -> None:
    expect_error(invoke("serve", "shop", "--backlog"), 2, "requires an argument")
    expect_error(invoke("shop:app"), 2, "to serve an application, write: taskmaster serve shop:app")
    expect_error(invoke("serv"), 2, "serv")


def test_certificates_are_loaded_by_the_check(site: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path("ca.pem")
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path("cert.pem")
    certificate.private_key_pem.write_to_path("key.pem")
    subprocess.run(["openssl", "pkey", "-aes256", "-passout", "pass:secret", "-in", "key.pem", "-out", "locked.pem"],
                   check=True, capture_output=True)
    (site / "password").write_text("secret\nnever read\n")
    right = ["shop", "--certfile", "cert.pem", "--keyfile", "locked.pem", "--keyfile-password-file", "password",
             "--client-ca", "ca.pem", "--client-certificate", "required", "--tls-minimum", "1.3"]
    assert check(*right).output == "configuration ok\n"
    expect_error(check("shop", "--certfile", "cert.pem", "--keyfile", "locked.pem"), 1,
                 "--keyfile 'locked.pem': its key is encrypted; give --keyfile-password-file")
    expect_error(check("shop", "--certfile", "cert.pem"), 1,
                 "--certfile 'cert.pem' holds no private key: give --keyfile")
    (site / "wrong").write_text("wrong\n")
    expect_error(check(*right[:5], "--keyfile-password-file", "wrong"), 1,
                 "--keyfile-password-file 'wrong': the password in it is wrong for 'locked.pem'")
    expect_error(check("shop", "--certfile", "cert.pem", "--keyfile", "key.pem", "--ciphers", "nope"), 1,
                 "--ciphers 'nope': No cipher can be selected; give a list")


# --print-config.


@pytest.mark.usefixtures("site")
def test_what_is_printed_can_be_checked_and_needs_no_application() -> None:
    printed = invoke("serve", "nowhere", "--print-config", "-t", "pool", "--threads", "3")
    assert printed.exit_code == 0
    assert 'app = "nowhere"' in printed.stdout
    assert re.search(r"^# queue = 1000 +# the model pool has this$", printed.stdout, re.MULTILINE)
    Path("own.toml").write_text(printed.stdout)
    expect_error(check("--config", "own.toml"), 1, "there is no module 'nowhere'")
    assert check("shop", "--config", "own.toml").output == "configuration ok\n"


@pytest.mark.usefixtures("site")
def test_warnings_are_shown_and_change_nothing() -> None:
    result = check("shop", environ={"TASKMASTER_THREDS": "4"})
    assert (result.exit_code, result.stdout) == (0, "configuration ok\n")
    assert "Warning: TASKMASTER_THREDS in the environment is no option" in result.stderr


@pytest.mark.usefixtures("site")
def test_what_waits_in_a_file_for_another_day_is_no_error() -> None:
    Path("own.toml").write_text("reload-dir = ['nowhere']\naccess-log-format = 'json'\n")
    assert check("shop", "--config", "own.toml").output == "configuration ok\n"


# The house.


@pytest.mark.parametrize("path", sorted((ROOT / "acceptor" / "cli").glob("*.py")), ids=lambda path: path.name)
def test_only_the_commands_know_click_and_only_one_module_knows_the_models(path: Path) -> None:
    allowed = {"commands": {"click"}, "models": {"taskmaster"}, "__init__": {"click"}, "control": {"watching"},
               "teaching": {"click"}, "watch": {"click", "watching"}}.get(path.stem, set())
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
            [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for module in modules:
            top = module.partition(".")[0]
            if top not in sys.stdlib_module_names and top != "acceptor":
                assert top in allowed or module in ("taskmaster.arguments", "taskmaster.base", "taskmaster.threaded")


def test_importing_the_server_imports_no_command_line() -> None:
    program = ("import sys, acceptor; print({'click', 'acceptor.cli'} & set(sys.modules))\n"
               "import acceptor.cli.commands; print('handlers' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
                          timeout=60)
    assert done.stdout.splitlines() == ["set()", "False"]


def test_without_click_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['click'] = None; from acceptor.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False,
                          timeout=60, env=clean_environ())
    assert done.returncode == 2
    assert done.stderr == ("The command line needs click, which is not installed; say: pip install "
                           "'taskmasters[cli]'\n")


@pytest.mark.usefixtures("site")
def test_a_bug_of_ours_shows_no_traceback_but_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(configuration: object) -> None:
        raise AttributeError("oops")

    monkeypatch.setattr("acceptor.cli.commands.check", broken)
    result = check("shop")
    assert result.exit_code == 1
    assert re.search(r"this is a bug in Taskmasters, please report it: AttributeError: oops \(.*:\d+\)", result.output)
    assert "Traceback" not in result.output
