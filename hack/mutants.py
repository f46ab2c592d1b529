"""Mutation testing of the core: what of it could be changed without any test noticing?

``make mutants`` runs this. Each mutant is one small change to one module of the core (a comparison, an ``and``, a
``not``, a sign, a number, a row of a table taken out), and the tests of the core run against it in a process of their
own. A mutant that they let pass is a survivor: it shows a rule without a test, or code without a purpose.

Most mutants change the inside of a function. For these, the tests are collected once, in a process from which one is
forked for each mutant: it exchanges the function's code and runs the tests that call the function, the fastest first.
The others (a constant, a table, a default) are what other modules import, so that everything is imported again.
"""

import argparse
import ast
import gc
import importlib.abc
import importlib.util
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import hypothesis
import pydantic
import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "operator" / "vercel_certificate_operator" / "core"
PACKAGE = "vercel_certificate_operator.core"
LIMIT = 300
"""Seconds after which a mutant that never ends counts as killed."""
TABLES = 4
"""A tuple or dict of at least so many elements is a table: each of them is taken out once."""
LOADED = (hypothesis, pydantic, pytest)  # once, for all the processes that are forked from this one

FLAGS = ("-q", "--capture=no", "--assert=plain", "-p", "no:cacheprovider")

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

T = TypeVar("T")

Function = tuple[str, str, int]
"""A function of the core: its file, qualified name and first line."""


# --- mutants ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """One change: to which node of a module's tree (as ``ast.walk`` counts them), and in which of its ways."""

    path: Path
    node: int
    variant: int
    function: Function | None = field(compare=False)
    """The function whose body it changes; None: something outside of all functions."""
    line: int = field(compare=False)

    def made(self) -> tuple[ast.Module, str]:
        """Returns the changed module, and the change as people read it."""
        tree = ast.parse(_source(self.path))
        node = next(node for number, node in enumerate(ast.walk(tree)) if number == self.node)
        before = _short(node)
        _change(node, self.variant)
        line = getattr(node, "lineno", 0)
        return ast.fix_missing_locations(tree), f"{self.path.relative_to(ROOT)}:{line}: {before}  ->  {_short(node)}"

    @property
    def module(self) -> str:
        return ".".join((PACKAGE, *self.path.relative_to(CORE).with_suffix("").parts))


@cache
def _source(path: Path) -> str:
    """Returns a module as it was at first: somebody may edit it meanwhile."""
    return path.read_text()


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yields all that are made of a module."""
    tree = ast.parse(_source(path))
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    # Whether a class is frozen says what programmers may do, and nothing about what the operator does.
    flags = {id(node) for each in classes for decorator in each.decorator_list for node in ast.walk(decorator)}
    # What a type allows is checked by mypy and not at run time.
    flags |= {id(node) for each in ast.walk(tree) if _is_literal(each) for node in ast.walk(each)}
    inside = _functions(path, tree)
    for number, node in enumerate(ast.walk(tree)):
        for variant in range(_variants(node) if id(node) not in flags else 0):
            yield Mutant(path, number, variant, inside.get(id(node)), getattr(node, "lineno", 0))


def _is_literal(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal"


def _functions(path: Path, tree: ast.Module) -> dict[int, Function]:
    """Returns, for each node in the body of a function or method of a module, that function."""
    found: dict[int, Function] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for statement in body:
            if isinstance(statement, ast.ClassDef):
                visit(statement.body, f"{prefix}{statement.name}.")
            elif isinstance(statement, ast.FunctionDef):
                first = min([statement.lineno, *(decorator.lineno for decorator in statement.decorator_list)])
                function = (str(path), f"{prefix}{statement.name}", first)
                found.update((id(node), function) for part in statement.body for node in ast.walk(part))

    visit(tree.body, "")
    return found


def _short(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 90 else f"{text[:60]} … {text[-25:]}"


def _variants(node: ast.AST) -> int:
    """Returns in how many ways a node can be changed."""
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


# --- running tests against them ---------------------------------------------------------------------------------------


def survivors_of(mutants: Sequence[Mutant], start: Callable[[Mutant], None], jobs: int) -> Iterator[Mutant]:
    """Yields those that the tests let pass, as they are found.

    Args:
        start: makes a mutant and runs the tests, in a process of their own that ends with 0 if they pass.
    """
    waiting, running = list(reversed(mutants)), dict[int, Mutant]()
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            child = os.fork()
            if child == 0:
                signal.alarm(LIMIT)
                _alone(partial(start, mutant))
            running[child] = mutant
        pid, status = os.wait()
        mutant = running.pop(pid)
        if status == 0:
            yield mutant


def _alone(run: Callable[[], object], *, quiet: bool = True) -> None:
    """Runs something in this forked process, which ends with it."""
    if quiet:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
    code = 1
    try:
        run()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os._exit(code)


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the mutant in place of the module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self._mutant.module else None

    def exec_module(self, module: types.ModuleType) -> None:
        tree, _ = self._mutant.made()
        exec(compile(tree, str(self._mutant.path), "exec"), module.__dict__)  # noqa: S102


def with_fresh_imports(mutant: Mutant) -> None:
    """Runs all tests with everything imported again. The tests of the module run first: they kill most mutants."""
    sys.meta_path.insert(0, _Mutated(mutant))
    own = ROOT / "tests" / "core" / f"test_{mutant.path.stem}.py"
    for tests in ((str(own),) if own.exists() else (), TESTS):
        if tests and (code := int(pytest.main(["-x", *FLAGS, *tests], plugins=[_UnitTestsFirst()]))):
            raise SystemExit(code)


TESTS: tuple[str, ...] = (str(ROOT / "tests" / "core"),)


class _UnitTestsFirst:
    """A plugin of pytest: what searches for examples comes last."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=_searches)


def _searches(item: pytest.Item) -> bool:
    return hasattr(getattr(item, "obj", None), "is_hypothesis_test") or "settling" in item.nodeid


class _Collected:
    """A plugin of pytest: runs the collected tests against many mutants, in processes forked from this one."""

    def __init__(self, mutants: Sequence[Mutant], jobs: int, found: Callable[[Mutant], None]) -> None:
        self._mutants = mutants
        self._jobs = jobs
        self._found = found
        self._calls: dict[Function, list[tuple[bool, float, int]]] = {}
        """For each function: the tests that call it, as what they cost and their number."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._calls = _in_a_child(lambda: _calls_of(session))
        for mutant in survivors_of(self._mutants, partial(self._run, session), self._jobs):
            self._found(mutant)
        return True

    def _run(self, session: pytest.Session, mutant: Mutant) -> None:
        _exchange_code(mutant)
        assert mutant.function is not None  # noqa: S101
        for *_, number in sorted(self._calls.get(mutant.function, ())):
            _protocol(session, number)
            if session.testsfailed:
                raise SystemExit(1)


def _calls_of(session: pytest.Session) -> dict[Function, list[tuple[bool, float, int]]]:
    """Runs all tests. Returns which of them call each function of the core."""
    found: dict[Function, list[tuple[bool, float, int]]] = {}
    called: set[types.CodeType] = set()

    def profile(frame: types.FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_code)

    for number, item in enumerate(session.items):
        called.clear()
        began = time.monotonic()
        sys.setprofile(profile)
        _protocol(session, number)
        sys.setprofile(None)
        took = time.monotonic() - began
        for code in called:
            if code.co_filename.startswith(str(CORE)):
                key = (code.co_filename, code.co_qualname, code.co_firstlineno)
                found.setdefault(key, []).append((_searches(item), took, number))
    if session.testsfailed:
        raise RuntimeError("the tests of the core fail as they are")
    return found


def _protocol(session: pytest.Session, number: int) -> None:
    item = session.items[number]
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)


def _exchange_code(mutant: Mutant) -> None:
    """Gives the functions of a module the code of its mutant."""
    tree, _ = mutant.made()
    changed: dict[tuple[str, int], types.CodeType] = {}
    codes = [compile(tree, str(mutant.path), "exec")]
    while codes:
        code = codes.pop()
        changed[code.co_qualname, code.co_firstlineno] = code
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    for one in gc.get_objects():
        if isinstance(one, types.FunctionType) and one.__code__.co_filename == str(mutant.path):
            one.__code__ = changed[one.__code__.co_qualname, one.__code__.co_firstlineno]


def _in_a_child(run: Callable[[], T], *, quiet: bool = True) -> T:
    """Returns what a function returns in a forked process: nothing of it is left in this one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)

        def send() -> None:
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(run(), pipe)

        _alone(send, quiet=quiet)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        sent = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("the tests of the core fail as they are")
    result: T = pickle.loads(sent)  # noqa: S301 - our own
    return result


def called_at_import() -> frozenset[Function]:
    """Returns the functions of the core that are called when it is imported: what they gave is there already."""

    def run() -> frozenset[Function]:
        called: set[types.CodeType] = set()
        sys.setprofile(lambda frame, event, _: called.add(frame.f_code) if event == "call" else None)
        for path in sorted(CORE.rglob("*.py")):
            importlib.import_module(Mutant(path, 0, 0, None, 0).module.removesuffix(".__init__"))
        sys.setprofile(None)
        return frozenset((code.co_filename, code.co_qualname, code.co_firstlineno) for code in called)

    return _in_a_child(run)


@cache
def changed_lines(path: Path, commit: str) -> frozenset[int]:
    """Returns the lines of a module that have changed since a commit."""
    command = ["git", "-C", str(ROOT), "diff", "--unified=0", commit, "--", str(path)]
    diff = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    hunks = re.findall(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", diff, re.MULTILINE)
    return frozenset(line for start, count in hunks for line in range(int(start), int(start) + int(count or 1)))


# --- the command ------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, help="only so many mutants, drawn at random")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--module", default="**/*", help="only of this module of the core, such as rules/gates")
    parser.add_argument("--since", help="only in lines that have changed since this commit")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="without the tests that search for examples")
    options = parser.parse_args()
    mutants = [mutant for path in sorted(CORE.glob(f"{options.module}.py")) for mutant in mutants_of(path)]
    made = len(mutants)
    if options.since:
        mutants = [one for one in mutants if one.line in changed_lines(one.path, options.since)]
    if options.sample:
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, made))  # noqa: S311 - to be repeated
    at_import = called_at_import()
    inside = [one for one in mutants if one.function is not None and one.function not in at_import]
    outside = [one for one in mutants if one not in set(inside)]
    print(f"{made} mutants; {len(mutants)} are tried, {len(inside)} of them inside functions", flush=True)
    if options.quick:
        global TESTS
        TESTS = (*TESTS, "--ignore-glob=*test_laws.py", "--ignore-glob=*test_settling.py")
    began = time.monotonic()
    survivors = _in_a_child(lambda: _survivors_inside(inside, options.jobs), quiet=False)
    print(f"{len(inside)} tried in {time.monotonic() - began:.0f} s", flush=True)
    for mutant in survivors_of(outside, with_fresh_imports, options.jobs):
        survivors += 1
        _report(mutant)
    share = 1 - survivors / len(mutants) if mutants else 1.0
    took = time.monotonic() - began
    print(f"{len(mutants) - survivors} of {len(mutants)} killed ({share:.1%}) in {took:.0f} s", flush=True)
    return 0


def _survivors_inside(mutants: Sequence[Mutant], jobs: int) -> int:
    """Returns how many mutants of the insides of functions survive."""
    found: list[Mutant] = []

    def report(mutant: Mutant) -> None:
        found.append(mutant)
        _report(mutant)

    pytest.main([*FLAGS, *TESTS], plugins=[_UnitTestsFirst(), _Collected(mutants, jobs, report)])
    return len(found)


def _report(mutant: Mutant) -> None:
    print(f"survives: {mutant.made()[1]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
