"""How much code an image passes through, and how dense it is: python -m benchmarks.structure

Trains one epoch of configs/quickstart.py in a process of its own and counts the files and functions
of imgcls_jax that run (see trace.py). Counts tokens, conditional expressions and comprehensions of
the whole package. With --before it has a second column, for another checkout.
"""

import ast
import collections
import io
import json
import subprocess
import sys
import tokenize
from pathlib import Path

from benchmarks.common import add_before, command_line, progress
from benchmarks.contestants import BEFORE, CHECKOUT
from benchmarks.processes import QUIET, ROOT, environment_without

COUNTED_TOKENS = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def main(arguments: list[str]) -> None:
    parser = command_line("benchmarks.structure", __doc__)
    add_before(parser)
    options = parser.parse_args(arguments)
    checkouts = {"now": ROOT}
    if options.before:
        checkouts[BEFORE] = options.before.resolve()
    columns = {}
    for name, checkout in checkouts.items():
        progress(f"one epoch of quickstart: {name}")
        columns[name] = path_of_an_image(checkout) | density(checkout / "imgcls_jax")
    print(table(columns))


def path_of_an_image(checkout: Path) -> dict[str, int]:
    """Counts what runs in the first epoch of quickstart, in a new process."""
    environment = environment_without(CHECKOUT) | QUIET | {CHECKOUT: str(checkout)}
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.trace"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise RuntimeError(f"the training of {checkout} failed:\n{process.stderr[-2000:]}")
    *_, last_line = process.stdout.splitlines()
    functions = json.loads(last_line)
    files = {file for file, _ in functions["since_read"]}
    return {
        "files from the first read of an image to the epoch's metrics": len(files),
        "functions on that way": len(functions["since_read"]),
        "functions in the epoch alone": len(functions["since_epoch_start"]),
    }


def density(package: Path) -> dict[str, float]:
    """Measures how much the lines of a package's Python files hold.

    Lines are those that have a token: neither empty ones nor comments. A docstring is one token, of
    its first line.
    """
    tokens_of_lines = []
    conditionals = 0
    comprehensions = 0
    for file in sorted(package.rglob("*.py")):
        source = file.read_text()
        tokens_of_lines += count_tokens(source)
        for node in ast.walk(ast.parse(source)):
            conditionals += isinstance(node, ast.IfExp)
            comprehensions += isinstance(node, COMPREHENSIONS)
    thousands = len(tokens_of_lines) / 1000
    tokens_of_lines.sort()
    percentile = tokens_of_lines[int(0.9 * len(tokens_of_lines))]
    return {
        "tokens a line, 90th percentile": percentile,
        "conditional expressions in 1,000 lines": round(conditionals / thousands, 1),
        "comprehensions in 1,000 lines": round(comprehensions / thousands, 1),
    }


def count_tokens(source: str) -> list[int]:
    """Returns the number of tokens of each line that has any."""
    lines: collections.Counter[int] = collections.Counter()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in COUNTED_TOKENS:
            line, _ = token.start
            lines[line] += 1
    return list(lines.values())


def table(columns: dict[str, dict[str, float]]) -> str:
    """Returns the measures of each checkout as a Markdown table."""
    rows = [
        f"| measure | {' | '.join(columns)} |",
        "| --- |" + " ---: |" * len(columns),
    ]
    first, *_ = columns.values()
    for measure in first:
        cells = [f"{column[measure]:,}" for column in columns.values()]
        rows.append(f"| {measure} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
