"""The arrows of the house, held by reading the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STDLIB = set(sys.stdlib_module_names)

MAY_IMPORT = {
    "taskmaster": {"taskmaster"},
    "acceptor": {"acceptor", "taskmaster.base", "taskmaster.arguments"},
    "acceptor/cli": {"acceptor", "taskmaster", "click"},
    "handlers": {"handlers", "acceptor"},
    "watching": {"watching", "acceptor", "taskmaster"},
    "watching/slow_motion": {"watching", "acceptor", "taskmaster"},
    "watching/trace": {"watching", "acceptor", "taskmaster"},
}
"""What of ours, besides the standard library, the modules of a folder may import."""
LIBRARIES = {("acceptor", "wire"): {"h11"}, ("acceptor", "httptools_wire"): {"httptools"},
             ("acceptor", "testing"): {"pytest", "taskmaster"},
             ("acceptor/cli", "control"): {"watching"}, ("acceptor/cli", "watch"): {"watching"},
             ("watching", "clients"): {"h11"}, ("watching", "metrics"): {"prometheus_client"},
             ("watching", "top"): {"rich"}, ("watching", "top_picture"): {"rich"}}


def imports(path: Path) -> set[str]:
    """Every module that the file imports, wherever in it; `if TYPE_CHECKING` excepted."""
    found = set()
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body
                 if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).glob("*.py"))],
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_folder_may(path: Path) -> None:
    folder = str(path.parent.relative_to(ROOT))
    allowed = MAY_IMPORT[folder] | LIBRARIES.get((folder, path.stem), set())
    wrong = {name for name in imports(path)
             if name.partition(".")[0] not in STDLIB
             and not any(name == may or name.startswith(f"{may}.") for may in allowed)}
    assert not wrong, f"{folder} may import {sorted(allowed)} and the standard library"


def test_the_contract_knows_no_thread_pool_socket_or_http() -> None:
    for path in (ROOT / "taskmaster").glob("*.py"):
        known = {"socket"} if path.name == "channel.py" else set()  # between processes of one server
        assert not imports(path) & {"socket", "select", "http", "ssl", "queue"} - known, path


def test_only_the_models_know_the_models() -> None:
    models = {"taskmaster.single", "taskmaster.per_connection", "taskmaster.pooled", "taskmaster.recycling"}
    for path in (ROOT / "taskmaster").glob("*.py"):
        if path.name != "__init__.py":
            assert not imports(path) & models, f"{path} imports another model"


def test_a_users_own_package_called_handlers_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text("mine = True\n")
    program = (f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
               "import acceptor, taskmaster\nassert 'handlers' not in sys.modules\n"
               "import handlers; assert handlers.mine\n")
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_base_install_needs_h11_only() -> None:
    program = ("import sys; before = set(sys.modules)\nimport acceptor, taskmaster, handlers, watching\n"
               "print(*{name.partition('.')[0] for name in set(sys.modules) - before})")
    run = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True,
                         cwd=ROOT)
    theirs = set(run.stdout.split()) - STDLIB - {"acceptor", "taskmaster", "handlers", "watching"}
    assert theirs == {"h11"}
