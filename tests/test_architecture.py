"""The shape of the program, as far as a test can see it: who imports what, and what documents cite."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "logflume").rglob("*.py"))
DOCUMENTS = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Full names of what a module imports: ``from a import b`` is both ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(package: str) -> set[str]:
    return {name_of(path) for path in MODULES if package in {name.split(".")[0] for name in imports(path)}}


def test_the_core_imports_no_clock_socket_thread_or_file() -> None:
    forbidden = {"asyncio", "io", "os", "pathlib", "random", "shutil", "signal", "socket", "subprocess"}
    forbidden |= {"tempfile", "threading", "time", "multiprocessing", "concurrent", "queue", "ssl", "logging"}
    ours = ("logflume.core", "logflume.errors", "logflume.model")
    core = [path for path in MODULES if "core" in path.relative_to(ROOT).parts]
    assert core
    for path in core:
        for name in imports(path):
            top = name.split(".")[0]
            if top == "logflume":
                assert name == "logflume" or name.startswith(ours), f"{name_of(path)} imports {name}"
            else:
                assert top in sys.stdlib_module_names - forbidden, f"{name_of(path)} imports {name}"


def test_only_the_kafka_package_imports_the_kafka_client() -> None:
    found = importers("confluent_kafka")
    assert found
    assert {path for path in found if not path.startswith("logflume/kafka/")} == set()


@pytest.mark.parametrize(
    ("package", "module"), [("hdfs_native", "logflume/store/hdfs.py"), ("hdfs", "logflume/store/webhdfs.py")]
)
def test_each_hdfs_client_has_one_importer(package: str, module: str) -> None:
    assert importers(package) == {module}


def test_zookeeper_has_one_importer_at_most() -> None:
    assert len(importers("kazoo")) <= 1


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def cited_paths(text: str, folders: set[str]) -> set[str]:
    """What stands in backticks and can only be a path of the repository: it begins with a folder of it."""
    quoted = re.findall(r"`([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*/?)`", text)
    files = re.compile(r"[\w.-]+\.(md|toml|lock|py|sh|service)")
    return {one for one in quoted if ("/" in one and one.split("/")[0] in folders) or files.fullmatch(one)}


def test_a_cited_path_is_told_from_other_words() -> None:
    text = "`logflume/gone.py` `make test` `NOTICE.md` `dt=…/hour=…` `a/b` `tests/` `_SUCCESS` `logflume`"
    assert cited_paths(text, {"logflume", "tests"}) == {"logflume/gone.py", "NOTICE.md", "tests/"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_path_that_a_document_cites_exists(document: Path) -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in tracked_files() if path.parent != ROOT}
    cited = cited_paths(document.read_text(encoding="utf-8"), folders)
    assert {path for path in cited if not (ROOT / path).exists()} == set()


def test_no_file_names_this_machine_or_a_package_registry() -> None:
    machine = re.compile(r"(^|[^A-Za-z0-9_.>])/(work|root|farm)/")
    # in two pieces, so that this file does not hold them
    hosts = ["pypi" + ".org", "python" + "hosted.org", "repo.maven" + ".apache.org", "repo1.maven" + ".org"]
    hosts += ["registry." + "npmjs", "deb." + "debian.org", "proxy.golang" + ".org", "crates" + ".io"]
    found = []
    for path in tracked_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # not text
        for number, line in enumerate(lines, 1):
            if machine.search(line) or any(host in line for host in hosts):
                found.append(f"{name_of(path)}:{number}: {line.strip()[:80]}")
    assert found == []


def keeps_everything(handler: ast.ExceptHandler) -> bool:
    """Whether it catches all errors and does not end with ``raise``."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {one.id for one in types if isinstance(one, ast.Name)}
    return handler.type is None or not names.isdisjoint({"Exception", "BaseException"})


def comment(line: str) -> str:
    """The words of a line's comment, without what is meant for a tool."""
    return re.sub(r"^(noqa|type:)[^(#]*", "", line.partition("#")[2].strip())


def test_whoever_catches_everything_says_why() -> None:
    found = []
    for path in [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))]:
        text = path.read_text(encoding="utf-8")
        lines = ["", *text.splitlines(), ""]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ExceptHandler) and keeps_everything(node):
                # on the line, above it, or as the first line of what is done about it
                near = lines[node.lineno - 1 : node.lineno + 2]
                if not any(re.search(r"\w{2}", comment(line)) for line in near):
                    found.append(f"{name_of(path)}:{node.lineno}")
    assert found == []
