"""Who may import whom, as data: a tower of parts, each importing what lies below it.

Imports inside functions count. A name in a text counts as well (``import_module("a.b")``,
``"a.b:function"``): it reaches as far.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harness", "methods", "benchmarks", "reports")

GROUND = tuple(
    f"harness.{name}" for name in "errors files settings config network compute interface registry".split()
)
#: the tower, from the ground up: part -> what it may import of this project, itself and the ground apart
MAY: dict[str, tuple[str, ...]] = {
    "harness": (),  # the ground: the files that lie in it, not the folders
    "harness.tasks": (),
    "harness.nets": (),
    "harness.metrics": ("harness.tasks",),
    "harness.store": ("harness.tasks.catalog", "harness.tasks.cache"),
    "harness.trials": ("harness.store", "harness.metrics", "harness.nets", "harness.tasks"),
    "harness.schedule": ("harness.trials", "harness.store"),
    "harness.grids": (
        *("harness.schedule", "harness.trials", "harness.store"),
        *("harness.metrics", "harness.nets", "harness.tasks"),
    ),
    "harness.cli": ("harness", "reports"),
    "methods": ("harness.nets", "harness.tasks.views"),
    "benchmarks": (),
    "reports": (
        *("harness.store", "harness.metrics.base"),
        *("reports.numbers", "reports.tables", "reports.figures", "reports.page"),
    ),
    "reports.numbers": ("harness.store", "harness.metrics.base"),
    "reports.tables": ("harness.store", "harness.metrics.base", "reports.numbers"),
    "reports.figures": ("harness.store", "harness.metrics.base", "reports.numbers"),
    "reports.page": (
        *("harness.store", "harness.metrics.base"),
        *("reports.numbers", "reports.tables", "reports.figures"),
    ),
}
#: parts that do not stand on the whole ground
GROUND_OF = {"benchmarks": ("harness.config",)}
#: modules that reach up by name, and to what: methods register themselves by lying in their folder
BY_NAME = {"harness.registry": ("methods",)}
#: heavy library -> the one module that imports it
HOME = {
    "ray": "harness/schedule/on_ray.py",
    "mlflow": "harness/store/mlflow_runs.py",
    "pytorch_fid": "harness/metrics/fid.py",
    "torchvision.datasets": "harness/tasks/sources.py",
    "seaborn": "reports/figures/curves.py",
}
#: package -> libraries that it never imports
NEVER = {"reports": ("torch", "torchvision", "ray", "mlflow"), "methods": ("torchvision", "ray", "mlflow")}
#: what `dfkd --help` and shell completion must not wait for
HEAVY = set("torch torchvision ray mlflow pandas numpy scipy sklearn matplotlib".split())
#: the only places that take gradients: `Method.step` through `Compute.backward`, and teachers' own training
GRADIENTS = {"harness/compute.py", "harness/trials/teachers.py"}
#: lines of a file, files of a code folder, files of a chain of imports, at most
LINES, FILES, CHAIN = 300, 13, 14

NAME = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w*)+(?::\w+)?")


def imports(text: str, package: str = "") -> Iterator[str]:
    """Dotted names that a source imports, and modules that it names in a text."""
    tree = ast.parse(text)
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            literal = node.args[0]
            if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
                yield f"name:{literal.value}"
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and NAME.fullmatch(node.value)
            and id(node) not in documents
        ):
            yield f"name:{node.value.partition(':')[0].rstrip('.')}"


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


@cache
def sources() -> dict[str, Path]:
    """Dotted name -> file, of every source of the four packages."""
    found = {}
    for package in PACKAGES:
        files = sorted((ROOT / package).rglob("*.py"))
        assert files, f"no source of {package}: the tests would prove nothing"
        for file in files:
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = file
    return found


def imported(module: str) -> set[str]:
    """What a module imports and names."""
    file = sources()[module]
    package = ".".join(file.relative_to(ROOT).parent.parts)
    return set(imports(file.read_text(), package))


def part_of(module: str) -> str:
    """The part of the tower that a module lies in."""
    return max((part for part in MAY if within(module, part)), key=len)


def breaches(module: str, names: Iterable[str]) -> list[str]:
    """Names that a module may not reach."""
    part = part_of(module)
    may = (*MAY[part], *GROUND_OF.get(part, GROUND), *(() if part == "harness" else (part,)))
    found = []
    for name in names:
        plain = name.removeprefix("name:")
        if not any(within(plain, package) for package in PACKAGES):
            continue
        if name.startswith("name:") and any(within(plain, up) for up in BY_NAME.get(module, ())):
            continue
        own_part = plain in sources() and part_of(plain) != part and within(plain, part)
        if own_part and part != "harness.cli" and not any(within(plain, m) for m in MAY[part]):
            found.append(f"{module} reaches up to {plain}")  # a folder inside one's own: reports -> its parts
        elif not any(within(plain, m) for m in may):
            found.append(f"{module} reaches {plain}")
    return found


def graph(packages: tuple[str, ...] = PACKAGES) -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports or names."""
    known = sources()
    found: dict[str, set[str]] = {}
    for module in known:
        if not any(within(module, p) for p in packages):
            continue
        names = {name.removeprefix("name:") for name in imported(module)}
        aims = {n if n in known else n.rpartition(".")[0] for n in names}
        # a package's empty file is no step of a chain
        found[module] = {a for a in aims & known.keys() if a != module and known[a].stem != "__init__"}
    return found


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other round in a circle."""
    reach: dict[str, set[str]] = {}
    for start in arrows:
        seen, todo = set[str](), [*arrows[start]]
        while todo:
            if (one := todo.pop()) not in seen:
                seen.add(one)
                todo += arrows.get(one, ())
        reach[start] = seen
    rings = {frozenset(b for b in reach[a] if a in reach[b]) for a in arrows if a in reach[a]}
    return sorted(map(sorted, rings))


def longest_chain(arrows: dict[str, set[str]]) -> list[str]:
    """Modules of the longest way down; there must be no circle."""

    @cache
    def below(module: str) -> tuple[str, ...]:
        ways = [below(aim) for aim in sorted(arrows.get(module, ()))]
        return (module, *max(ways, key=len, default=()))

    return list(max((below(module) for module in arrows), key=len))


def test_the_reader_of_imports_sees_every_form():
    text = (
        '"""harness.cli"""\nimport a.b\nfrom c import d\ndef f():\n    from .g import h\n'
        "    import_module('i.j')\nif TYPE_CHECKING:\n    from k.l import m as n\n"
        "X = 'reports.page:write'\nY = f'methods.{x}'\n"
    )
    plain = {"a.b", "c.d", "p.q.g.h", "k.l.m"}
    assert set(imports(text, "p.q")) == plain | {"name:i.j", "name:reports.page", "name:methods"}


@pytest.mark.parametrize(
    ("module", "name", "breach"),
    [
        ("harness.config", "harness.tasks.catalog.recipe", True),  # the ground on a part
        ("harness.store.directory", "harness.trials.trial", True),
        ("harness.schedule.run", "harness.grids.search", True),
        ("harness.grids.plan", "harness.cli.printing", True),
        ("harness.grids.expand", "reports.report", True),
        ("harness.store.merge", "name:reports.report", True),  # upwards by name alone
        ("harness.files", "name:methods.cpsc", True),
        ("reports.numbers.rows", "reports.page.page", True),
        ("methods.cpsc", "harness.trials.trial", True),
        ("benchmarks.digits", "harness.interface", True),
        ("harness.cli.grid", "reports.report.Results", False),
        ("harness.schedule.attempt", "name:harness.trials.trial", False),
        ("harness.registry", "name:methods.cpsc", False),
        ("reports.page.page", "reports.tables.model.to_text", False),
        ("methods.cpsc", "methods.shared.losses", False),
    ],
)
def test_what_is_a_breach_and_what_is_allowed(module, name, breach):
    assert bool(breaches(module, [name])) == breach


@pytest.mark.parametrize("part", MAY)
def test_who_may_import_whom(part):
    own = [module for module in sources() if part_of(module) == part]
    assert own
    assert [line for module in own for line in breaches(module, imported(module))] == []


def test_circles_and_chains_are_found():
    ring = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"f"}, "f": {"e"}}
    assert circles(ring) == [["a", "b", "c"], ["e", "f"]]
    assert longest_chain({"a": {"b", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}) == ["a", "b", "c", "d"]


def test_no_circle_and_no_long_way_down():
    arrows = graph()
    assert circles(arrows) == []
    assert len(longest_chain(arrows)) <= CHAIN, longest_chain(arrows)


def test_files_and_folders_fit_in_a_head():
    long = {name: n for name, file in sources().items() if (n := len(file.read_text().splitlines())) > LINES}
    assert long == {}
    folders: dict[Path, int] = {}
    for file in sources().values():
        if file.stem != "__init__" and "benchmarks" not in file.parts:  # there a file is a grid
            folders[file.parent] = folders.get(file.parent, 0) + 1
    assert {str(folder): n for folder, n in folders.items() if n > FILES} == {}


def test_every_heavy_library_has_one_home():
    users: dict[str, set[str]] = {library: set() for library in HOME}
    for module, file in sources().items():
        for name in imported(module):
            for library in HOME:
                if within(name.removeprefix("name:"), library):
                    users[library].add(str(file.relative_to(ROOT)))
    assert users == {library: {home} for library, home in HOME.items()}


def test_some_libraries_are_never_imported():
    assert [
        f"{module} imports {name}"
        for module in sources()
        for package, libraries in NEVER.items()
        if within(module, package)
        for name in imported(module)
        if any(within(name.removeprefix("name:"), library) for library in libraries)
    ] == []


def test_packages_have_an_empty_init():
    for package in PACKAGES:
        for folder in {file.parent for name, file in sources().items() if within(name, package)}:
            assert (folder / "__init__.py").read_text() == "", folder


def test_no_utils():
    unclear = set("utils util misc common helpers".split())
    assert not {name.rpartition(".")[2] for name in sources()} & unclear


def test_gradients_are_taken_in_one_place():
    taken = re.compile(r"(?<!compute)\.backward\(|autograd\.grad\(|autograd\.backward\(")
    found = {
        str(file.relative_to(ROOT))
        for module, file in sources().items()
        if module.startswith(("harness", "methods")) and taken.search(file.read_text())
    }
    assert found == GRADIENTS


MAIN = """import sys; from harness.cli.main import main; sys.argv = ['dfkd', 'run', '--help']
try: main()
except SystemExit as end: assert not end.code"""
TASKS = "from harness.tasks import catalog as c; [c.version(n) for n in [*c.names(), 'folder:/x']]"
SPEC = """from harness.nets.catalog import spec; from harness.trials.toy import TOY
[spec(n, TOY) for n in ('wrn16_1', 'vgg11', 'lenet5', 'resnet18')]"""
COMPLETE = "from harness.cli.options import *; assert 'kd' in complete_method('') and complete_task('')"
DRIVER = """import harness.schedule.run, harness.store.mlflow_tracker, reports.report, harness.store.frame
import harness.schedule.progress"""


@pytest.mark.parametrize(
    ("code", "never"),
    [
        ("import harness.cli.main", HEAVY),
        (MAIN, HEAVY),
        (COMPLETE, {"torch", "numpy", "pandas"}),
        (TASKS, {"torch", "torchvision", "numpy", "sklearn", "PIL", "pooch", "pandas"}),
        (SPEC, {"torch._dynamo"}),  # the compiler, a second
        ("import reports.page.page", {"torch", "ray", "mlflow"}),
        (DRIVER, {"torch", "ray", "mlflow"}),  # with nothing to do
    ],
    ids=["cli", "help", "completion", "tasks", "spec", "reports", "driver"],
)
def test_nothing_heavy_is_loaded_for(code, never):
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.splitlines()[-1].split()) & never
