"""Who may import whom, as data: the module map of the design. Imports inside functions count too."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("harness", "methods", "benchmarks", "reports")

#: package -> what it may import of this project: a module, or a package with all that is in it
MAY = {
    "harness": ("harness",),
    "methods": (
        "methods",
        "harness.interface",
        "harness.config",
        "harness.settings",
        "harness.nets",
        "harness.compute",
        "harness.errors",
        "harness.views",
    ),
    "benchmarks": ("harness.config", "benchmarks.settings"),
    "reports": ("reports", "harness.store", "harness.frames", "harness.errors", "harness.spans"),
}
#: heavy library -> the one module that imports it
HOME = {
    "ray": "harness/schedule.py",
    "mlflow": "harness/store.py",
    "pytorch_fid": "harness/metrics/fid.py",
    "torchvision.datasets": "harness/data.py",
    "seaborn": "reports/figures.py",
    "optuna": "harness/draws.py",
}
#: package -> libraries that it never imports
NEVER = {"reports": ("torch", "torchvision", "ray", "mlflow"), "methods": ("torchvision", "ray", "mlflow")}
#: what `dfkd --help` and shell completion must not wait for
HEAVY = {
    "torch",
    "torchvision",
    "ray",
    "mlflow",
    "pandas",
    "numpy",
    "scipy",
    "sklearn",
    "matplotlib",
}

#: the only places that take gradients: `Method.step` through `Compute.backward`, and teachers' own training
GRADIENTS = {"harness/compute.py", "harness/teachers.py"}


def imports(text: str, package: str = "") -> Iterator[str]:
    """Dotted names that a source imports, also by ``importlib.import_module`` with a literal name."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            literal = node.args[0]
            if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
                yield f"importlib:{literal.value}"


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"no source of {package}: the test would prove nothing"
    return found


def imported(file: Path) -> set[str]:
    return set(imports(file.read_text(), ".".join(file.relative_to(ROOT).parent.parts)))


def test_the_reader_of_imports_sees_every_form():
    text = (
        "import a.b\nfrom c import d\ndef f():\n    from .g import h\n    import_module('i.j')\n"
        "if TYPE_CHECKING:\n    from k.l import m as n\n"
    )
    assert set(imports(text, "p.q")) == {"a.b", "c.d", "p.q.g.h", "importlib:i.j", "k.l.m"}


@pytest.mark.parametrize("package", PACKAGES)
def test_who_may_import_whom(package):
    breaches = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sources(package)
        for name in imported(file)
        if any(within(name, p) for p in PACKAGES) and not any(within(name, m) for m in MAY[package])
    ]
    assert not breaches


def test_every_heavy_library_has_one_home():
    users: dict[str, set[str]] = {library: set() for library in HOME}
    for package in PACKAGES:
        for file in sources(package):
            for name in imported(file):
                for library in HOME:
                    if within(name.removeprefix("importlib:"), library):
                        users[library].add(str(file.relative_to(ROOT)))
    assert users == {library: {home} for library, home in HOME.items()}


def test_some_libraries_are_never_imported():
    breaches = [
        f"{file.relative_to(ROOT)} imports {name}"
        for package, libraries in NEVER.items()
        for file in sources(package)
        for name in imported(file)
        if any(within(name.removeprefix("importlib:"), library) for library in libraries)
    ]
    assert not breaches


@pytest.mark.parametrize(
    "file", ["methods", "harness", "reports", "benchmarks", "harness/nets", "harness/metrics"]
)
def test_packages_have_an_empty_init(file):
    assert (ROOT / file / "__init__.py").read_text() == ""


def test_no_utils():
    assert not [
        f for p in PACKAGES for f in sources(p) if f.stem in ("utils", "util", "misc", "common", "helpers")
    ]


def test_gradients_are_taken_in_one_place():
    taken = re.compile(r"(?<!compute)\.backward\(|autograd\.grad\(|autograd\.backward\(")
    found = {
        str(file.relative_to(ROOT))
        for package in ("harness", "methods")
        for file in sources(package)
        if taken.search(file.read_text())
    }
    assert found == GRADIENTS


def loaded(code: str) -> set[str]:
    """Modules that a fresh Python has loaded after ``code``."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_the_command_line_loads_nothing_heavy():
    assert not loaded("import harness.cli") & HEAVY
    main = "import sys; from harness.cli import main; sys.argv = ['dfkd', 'run', '--help']\n"
    assert not loaded(main + "try: main()\nexcept SystemExit as end: assert not end.code") & HEAVY


def test_names_complete_without_torch():
    found = loaded("from harness.options import *; assert 'kd' in complete_method('') and complete_task('')")
    assert not found & {"torch", "numpy", "pandas"}


def test_reports_load_no_torch():
    assert not loaded("import reports.page") & {"torch", "ray", "mlflow"}


def test_a_driver_with_nothing_to_do_loads_neither_ray_nor_mlflow():
    found = loaded(
        "import harness.schedule, harness.tracker, harness.results, harness.frames, harness.progress"
    )
    assert not found & {"torch", "ray", "mlflow"}
