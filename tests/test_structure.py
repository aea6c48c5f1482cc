"""The order of the layers in DESIGN: imports go one way. And every config can be had."""

import ast
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from imgcls_jax import models
from imgcls_jax.data.sources import SOURCES
from imgcls_jax.data.transforms import parse
from imgcls_jax.training import optimizers, schedules

ROOT = Path(__file__).parents[1]
# Each may import what comes before it, and its own neighbours.
LAYERS = [
    "base",
    "config",
    "data",
    "models",
    "run",
    "pretrained",
    "training",
    "evaluation",
    "reporting",
    "demo",
    "commands",
]
BASE = {
    *("errors", "files", "trees", "backend", "console", "pickles", "distributed", "peers"),
    *("devices", "foreign"),
}
CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.py"))


def layer(module: str) -> int:
    """The index in LAYERS of "imgcls_jax.data.sources" and the like."""
    part = (module.split(".") + [""])[1]
    if part in BASE | {""}:
        part = "base"
    if part in ("__main__", "api"):
        part = "commands"
    return LAYERS.index(part)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from imgcls_jax import data` names a layer, `from imgcls_jax.data import checks` lies in one
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "imgcls_jax"
                else {node.module}
            )
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "imgcls_jax").rglob("*.py")),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_imports_go_one_way(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if module == "imgcls_jax":
        module = "imgcls_jax.api"  # which it exports
    for imported in imports(path):
        if imported.startswith("imgcls_jax"):
            assert layer(imported) <= layer(module), (
                f"{module} imports {imported}, which comes after it"
            )
        assert not imported.startswith("configs"), f"{module} imports {imported}"


def test_contributing_names_the_layers_in_their_order():
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text().split())
    assert ", ".join(LAYERS) in text


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_configs_import_nothing_of_the_package(path):
    assert not any(name.startswith("imgcls_jax") for name in imports(ROOT / path))


def load(path: Path) -> ConfigDict:
    scope: dict = {}
    exec(compile((ROOT / path).read_text(), str(path), "exec"), scope)  # as config_flags does
    return scope["get_config"]()


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_config_names_things_that_there_are(path):
    config = load(path)
    rows = config.get("rows", {"": ConfigDict({"config": config})})
    for one in config.get("members", {}).values() or [row.config for row in rows.values()]:
        assert one.data.source in SOURCES
        models.create(one.model, num_classes=10)
        schedule = schedules.create(
            one.schedule, peak=1.0, epochs=one.train.epochs, steps_per_epoch=10
        )
        optimizers.create(one.optimizer, schedule)
        parse(one.data.transform)
    assert f"--config {path}" in (ROOT / path).read_text() or path.name == "base.py", (
        "its docstring gives its command"
    )


def test_files_are_read_in_one_sitting():
    limits = {"launch.py": 60, "CONTRIBUTING.md": 40, "imgcls_jax/training/loop.py": 250}
    files = [
        *ROOT.glob("*.md"),
        ROOT / "launch.py",
        *(ROOT / "imgcls_jax").rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
    ]
    for file in files:
        name = str(file.relative_to(ROOT))
        lines = len(file.read_text().splitlines())
        assert lines < limits.get(
            name, 600 if name.startswith("tests") or name.endswith(".md") else 400
        ), name
