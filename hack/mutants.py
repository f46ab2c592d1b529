"""Mutation testing of the core: what of it could be changed without any test noticing?

``make mutants`` runs this. Each mutant is one small change to one module of the core (a comparison, an ``and``, a
``not``, a sign, a number, a row of a table taken out), and the tests of the core run against it in a process of their
own. A mutant that they let pass is a survivor: it shows a rule without a test, or code without a purpose.
"""

import argparse
import ast
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pydantic
import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "operator" / "vercel_certificate_operator" / "core"
PACKAGE = "vercel_certificate_operator"
LIMIT = 180
"""Seconds after which a mutant that never ends counts as killed."""
TABLES = 4
"""A tuple or dict of at least so many elements is a table: each of them is taken out once."""
LOADED = (hypothesis, pydantic, pytest)  # once, for all the processes that are forked from this one

FLAGS = ("-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """One change: to which node of a module's tree (as ``ast.walk`` counts them), and in which of its ways."""

    path: Path
    node: int
    variant: int

    def made(self) -> tuple[ast.Module, str]:
        """The changed module, and the change as people read it."""
        tree = ast.parse(self.path.read_text())
        node = next(node for number, node in enumerate(ast.walk(tree)) if number == self.node)
        before = _short(node)
        _change(node, self.variant)
        line = getattr(node, "lineno", 0)
        return tree, f"{self.path.relative_to(ROOT)}:{line}: {before}  ->  {_short(node)}"


def mutants_of(path: Path) -> Iterator[Mutant]:
    """All that are made of a module."""
    tree = ast.parse(path.read_text())
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    # Whether a class is frozen says what programmers may do, and nothing of what the operator does.
    flags = {id(node) for each in classes for decorator in each.decorator_list for node in ast.walk(decorator)}
    for number, node in enumerate(ast.walk(tree)):
        for variant in range(_variants(node) if id(node) not in flags else 0):
            yield Mutant(path, number, variant)


def _short(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 90 else f"{text[:60]} … {text[-25:]}"


def _variants(node: ast.AST) -> int:
    """In how many ways a node can be changed."""
    match node:
        case ast.Compare():
            return len(node.ops)
        case ast.BinOp():
            return int(type(node.op) in OPERATORS)
        case ast.BoolOp() | ast.UnaryOp(op=ast.Not()) | ast.Constant(value=int() | float()):
            return 1
        case ast.Tuple(ctx=ast.Load()):
            return len(node.elts) if len(node.elts) >= TABLES else 0
        case ast.Dict():
            return len(node.keys) if len(node.keys) >= TABLES else 0
    return 0


def _change(node: ast.AST, variant: int) -> None:
    match node:
        case ast.Compare():
            node.ops[variant] = COMPARISONS[type(node.ops[variant])]()
        case ast.BinOp():
            node.op = OPERATORS[type(node.op)]()
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.UnaryOp():
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
        case ast.Constant(value=bool() as truth):
            node.value = not truth
        case ast.Constant(value=int() | float() as number):
            node.value = number + 1
        case ast.Tuple():
            del node.elts[variant]
        case ast.Dict():
            del node.keys[variant], node.values[variant]


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the mutant in the place of the module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = f"{PACKAGE}.core.{mutant.path.stem}"

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def exec_module(self, module: types.ModuleType) -> None:
        tree, _ = self._mutant.made()
        exec(compile(ast.fix_missing_locations(tree), str(self._mutant.path), "exec"), module.__dict__)  # noqa: S102


def start(mutant: Mutant | None) -> int:
    """Run the tests of the core against a mutant (None: without any change), in a process of their own: its pid."""
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        if mutant is not None:
            sys.meta_path.insert(0, _Mutated(mutant))
        os._exit(pytest.main(["-x", "-q", *FLAGS, str(ROOT / "tests" / "core")]))
    return child


def survivors_of(mutants: Sequence[Mutant], jobs: int) -> Iterator[Mutant]:
    """Those that the tests let pass, as they are found."""
    waiting, running = list(mutants), dict[int, Mutant]()
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[start(mutant)] = mutant
        pid, status = os.wait()
        mutant = running.pop(pid)
        if status == 0:
            yield mutant


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, help="only so many mutants, drawn at random")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--module", help="only of this module of the core, such as policies")
    options = parser.parse_args()
    if os.waitpid(start(None), 0)[1] != 0:
        print("the tests of the core fail as they are")
        return 1
    paths = sorted(CORE.glob(f"{options.module or '*'}.py"))
    mutants = [mutant for path in paths for mutant in mutants_of(path)]
    found = len(mutants)
    if options.sample:
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, found))  # noqa: S311 - to be repeated
    print(f"{found} mutants; {len(mutants)} are tried", flush=True)
    survivors = 0
    for mutant in survivors_of(mutants, os.cpu_count() or 1):
        survivors += 1
        print(f"survives: {mutant.made()[1]}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} killed ({1 - survivors / len(mutants):.1%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
