"""Break the decisions at random and see tests fail: `python -m tests.random_mutants [--help] [MODULE...]`.

Cosmic Ray makes the mutants: a comparison, a sign, a constant, `and` for `or`, a loop that never runs. Each place of
the modules in `MODULES` is as likely as any other, and so is each change that is possible there. A mutant is tried in a
copy of the tree by the tests of its module first, then by the others, until one fails or hangs.

What changes nothing is listed with its reason in `tests/equivalent_mutants.toml`, by its function and the line as it is
and as the mutant has it. It is drawn, but neither tried nor counted. A survivor is a hole in the tests, or belongs in
that list.

A run of 300 fails when fewer than 95 % are caught. A smaller sample, such as the gate's, is no measure of a share: it
fails only with so many survivors as less than one sample in 10,000 has by luck, where 95 % of all are caught. Of 100
that is sixteen, of 50 eleven. Where 98 % are caught, no more than one sample in a million fails.

Exit status: 0 the share that is caught is high enough, 1 it is not, 2 the tests fail on an untouched copy.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import random
import secrets
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from math import comb, inf
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.copies import NOT_THE_COPY, TREE, Copies, Copy
from tests.proofs import say

if TYPE_CHECKING:
    from collections.abc import Iterator

EQUIVALENT: Final = TREE / "tests" / "equivalent_mutants.toml"
WANTED: Final = 0.95  # the share of mutants that is caught
MEASURED_AT: Final = 300  # with so many tried the share is measured; fewer are a sample of it
BY_LUCK: Final = 1e-4  # how often a sample may look worse than it is
AT_ONCE: Final = 2
LONGEST_S: Final = 180.0  # of one mutant's tests at one stage; nearly all take a second
EACH_S: Final = 30.0  # one of these tests
MOST_CPU_S: Final = 90  # of the processor at one stage, which a busy machine does not lengthen
MOST_BYTES: Final = 4 * 2**30

_GOVERNED: Final = ("tests/pure/test_governor.py", "tests/pure/test_ledger_oracle.py", "tests/pure/test_snapshot.py")
_LEDGER: Final = ("tests/pure/test_ledger.py", *_GOVERNED)
_CLAIMS: Final = (
    *("tests/pure/test_claims.py", "tests/pure/test_admission.py", "tests/pure/test_long_lines.py"),
    *_GOVERNED,
)
# The decision modules, each with the tests that are tried on it first.
MODULES: Final = {
    "moe_segments/core/quota/ledger.py": _LEDGER,
    "moe_segments/core/quota/usage.py": _LEDGER,
    "moe_segments/core/quota/window.py": ("tests/pure/test_usage_history.py", *_LEDGER),
    "moe_segments/core/state/admission.py": _CLAIMS,
    "moe_segments/core/state/waiting_line.py": _CLAIMS,
    "moe_segments/core/state/lookahead.py": _CLAIMS,
    "moe_segments/core/state/verdicts.py": _CLAIMS,
    "moe_segments/core/quota/active_segments.py": ("tests/pure/test_gauge.py", *_LEDGER),
    "moe_segments/core/quota/call_limits.py": _LEDGER,
    "moe_segments/core/quota/decision.py": _LEDGER,
    "moe_segments/core/quota/claims.py": _CLAIMS,
    "moe_segments/core/quota/forecast.py": _CLAIMS,
    "moe_segments/core/quota/profile.py": ("tests/pure/test_profile.py", *_CLAIMS),
    "moe_segments/core/state/jobs.py": ("tests/pure/test_jobs.py", *_GOVERNED),
    "moe_segments/governor/paced_grants.py": ("tests/pure/test_paced_grants.py", "tests/live/test_pace.py"),
    "moe_segments/core/state/retry.py": ("tests/pure/test_retry.py",),
    "moe_segments/core/state/row_counts.py": ("tests/pure/test_row_counts.py",),
    "moe_segments/core/state/workspace.py": ("tests/pure/test_workspace.py", *_GOVERNED),
}
# What is tried next, a stage at a time: the cheapest first.
_OF_QUOTAS: Final = (
    ("tests/proofs/test_window_oracle.py", "tests/proofs/test_cases.py"),
    ("tests/proofs/test_service_models.py",),
)
_OF_THE_LINE: Final = (("tests/proofs/test_waiters.py",),)
_OF_ALL: Final = (
    ("tests/live/test_every_answer.py", "tests/live/test_filter_segments.py", "tests/live/test_used_names.py"),
)


def stages_of(module: str) -> tuple[tuple[str, ...], ...]:
    """The tests that are tried on a module, those of one stage after those of the other."""
    in_line = _OF_THE_LINE if _CLAIMS[0] in MODULES[module] else ()
    return (MODULES[module], *in_line, *(_OF_QUOTAS if "/quota/" in module else ()), *_OF_ALL)


# `is` where `==` stands, and the other way round, nearly always changes nothing.
_SAME: Final = frozenset({frozenset({"Is", "Eq"}), frozenset({"IsNot", "NotEq"})})


class Place(NamedTuple):
    """Where something can be changed, and how.

    Attributes:
        module: The file, from the tree's root.
        start: Its line and column.
        end: Those of its end.
    """

    module: str
    start: tuple[int, int]
    end: tuple[int, int]


class Mutant(NamedTuple):
    """A module with one change in it.

    Attributes:
        module: The file, from the tree's root.
        line: Where.
        function: The function or class around it.
        was: The changed lines as they are.
        now: What stands there instead.
        text: The whole module with the change.
    """

    module: str
    line: int
    function: str
    was: str
    now: str
    text: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is known by, wherever its function may move."""
        return self.function, self.was, self.now

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.function}: {self.was} -> {self.now}"


# Which mutants there are


def places_of(module: str, source: str) -> dict[Place, list[tuple[str, int]]]:
    """The places of a module, each with the operators of Cosmic Ray, and the occurrences of them, that change it."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes, idle, lines = list(ast_nodes(get_ast(source))), list(_idle(ast.parse(source))), source.splitlines()
    places: dict[Place, list[tuple[str, int]]] = defaultdict(list)
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or frozenset(name.split("_")[1:]) in _SAME:
            continue
        found = (place for node in nodes for place in operator().mutation_positions(node))
        for occurrence, (start, end) in enumerate(found):
            if lines[start[0] - 1][start[1] :].startswith("*,"):
                continue  # of a signature, which Cosmic Ray takes for an operator
            if not any(first <= start and end <= last for first, last in idle):
                places[Place(module, start, end)].append((name, occurrence))
    return dict(sorted(places.items()))


def _idle(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The parts of a module that are never run: annotations, and what is under `TYPE_CHECKING`."""
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign | ast.arg):
            parts = [node.annotation]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts = [node.returns]
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            parts = [node]
        for part in parts:
            if isinstance(part, ast.expr | ast.stmt):
                yield (part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)


def mutated(place: Place, operator: str, occurrence: int, source: str) -> Mutant | None:
    """The mutant that an operator makes; None when it makes none that compiles."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    text = mutate_code(source, get_operator(operator)(), occurrence)
    try:
        ast.parse(text or "(")
    except SyntaxError:
        return None
    before, after = source.splitlines(), text.splitlines()
    first = _alike(before, after)
    last = _alike(before[first:][::-1], after[first:][::-1])
    was, now = (" ".join(" ".join(lines[first : len(lines) - last]).split()) for lines in (before, after))
    if was == now:
        return None
    return Mutant(place.module, first + 1, _function_at(ast.parse(source), first + 1), was, now, text)


def _alike(some: list[str], others: list[str]) -> int:
    """How many lines at the beginning are the same."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(some, others, strict=False)))


def _function_at(tree: ast.AST, line: int, name: str = "") -> str:
    """The qualified name of the innermost function or class at a line."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first <= line <= (node.end_lineno or 0):
                return _function_at(node, line, f"{name}.{node.name}" if name else node.name)
    return name or "the module"


def drawn(modules: list[str], seed: int, function: str) -> Iterator[Mutant]:
    """Mutants in a random order, one a place; with *function* all of that function, in order."""
    chance = random.Random(seed)
    sources = {module: (TREE / module).read_text(encoding="utf-8") for module in modules}
    places = {place: ways for module, source in sources.items() for place, ways in places_of(module, source).items()}
    order = list(places)
    if not function:
        chance.shuffle(order)
    for place in order:
        ways = places[place]
        for operator, occurrence in ways if function else [chance.choice(ways)]:
            mutant = mutated(place, operator, occurrence, sources[place.module])
            if mutant is not None and function in ("", mutant.function):
                yield mutant


def equivalents() -> dict[tuple[str, str, str], str]:
    """What is known to change nothing, with its reason."""
    entries = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")).get("mutant", [])
    return {(entry["function"], entry["was"], entry["now"]): entry["why"] for entry in entries}


# Whether one is caught


def catches(copy: Copy, mutant: Mutant) -> bool:
    """Whether a test fails on *mutant*."""
    with copy.changed(mutant.module, mutant.text):
        return any(_status(copy, tests) for tests in stages_of(mutant.module))


def untouched(copy: Copy, tests: tuple[str, ...]) -> str:
    """Run *tests* on a copy as it is. Returns what they say when they fail."""
    return copy.said[-4_000:] if _status(copy, tests) else ""


def _status(copy: Copy, tests: tuple[str, ...]) -> int:
    # A power of large numbers takes all the memory there is, and no signal interrupts it.
    status = copy.run(tests, longest_s=LONGEST_S, each_s=EACH_S, cpu_s=MOST_CPU_S, memory=MOST_BYTES)
    assert status != NOT_THE_COPY
    return status


# The command


def could_be_luck(caught: int, tried: int) -> bool:
    """Whether a sample may catch so few although the wanted share of all mutants is caught.

    A sample of twenty is no measure of a share: one survivor is likely, and a gate that fails for it fails by luck. It
    fails where that many survivors come by luck less than once in ten thousand samples.
    """
    chance = sum(comb(tried, n) * WANTED**n * (1 - WANTED) ** (tried - n) for n in range(caught + 1))
    return chance >= BY_LUCK


def is_enough(caught: int, tried: int) -> bool:
    """Whether so many of those that were tried are enough: the share itself, where it can be measured."""
    return caught >= WANTED * tried if tried >= MEASURED_AT else could_be_luck(caught, tried)


class Run:
    """What came of mutants that were tried side by side."""

    def __init__(self, until: float) -> None:
        self._until = until
        self.caught = 0
        self.survivors: list[Mutant] = []

    def try_one(self, copy: Copy, mutant: Mutant) -> None:
        """Try a mutant, unless it is too late to begin, and say how it ended."""
        begun = time.monotonic()
        if begun > self._until:
            return
        is_caught = catches(copy, mutant)
        if is_caught:
            self.caught += 1
        else:
            self.survivors.append(mutant)
        say(f"{'caught  ' if is_caught else 'SURVIVED'} {time.monotonic() - begun:5.1f} s  {mutant}")


def tried(sample: list[Mutant], within_s: float) -> Run | None:
    """Try a sample, side by side; None when the tests fail on an untouched copy."""
    run = Run(time.monotonic() + within_s)
    with tempfile.TemporaryDirectory(prefix="mutants-") as place, ThreadPoolExecutor(AT_ONCE) as workers:
        stages = dict.fromkeys(tests for mutant in sample for tests in stages_of(mutant.module))
        files = tuple(dict.fromkeys(file for tests in stages for file in tests))
        copies = Copies(Path(place).resolve(), AT_ONCE, files)
        for wrong in workers.map(copies.lend, itertools.repeat(untouched), stages):
            if wrong:
                say("the tests fail on an untouched copy:", wrong)
                return None
        list(workers.map(copies.lend, itertools.repeat(run.try_one), sample))
    return run


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.random_mutants", description=(__doc__ or "").split(":")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as window; default: all decision modules")
    parser.add_argument("--count", type=int, default=MEASURED_AT, help="how many at most (%(default)s)")
    parser.add_argument("--within", type=float, default=inf, metavar="SECONDS", help="begin no further one after that")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="repeat a sample; default: a new one"
    )
    parser.add_argument(
        "--function", default="", help="instead of a sample: all of one function, as UsageHistory.settle"
    )
    parser.add_argument("--list", action="store_true", help="only name them")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Try a sample, and say how to repeat it."""
    options, known, begun = _options(arguments), equivalents(), time.monotonic()
    modules = [module for module in MODULES if not options.modules or Path(module).stem in options.modules]
    say(f"seed {options.seed}, {', '.join(Path(module).stem for module in modules)}")
    sample = list(itertools.islice(drawn(modules, options.seed, options.function), options.count))
    same = [mutant for mutant in sample if mutant.key in known]
    if options.list:
        for mutant in sample:
            say(f"{mutant}  [{known[mutant.key]}]" if mutant.key in known else mutant)
        return 0
    run = tried([mutant for mutant in sample if mutant.key not in known], options.within)
    if run is None:
        return 2
    count = run.caught + len(run.survivors)
    for mutant in run.survivors:
        say("survived:", mutant)
    say(
        f"{count} random mutants, {run.caught} caught, {len(run.survivors)} survived; {len(same)} more change nothing; "
        f"{time.monotonic() - begun:.0f} s"
    )
    again = ("python -m tests.random_mutants", *options.modules, f"--count {options.count} --seed {options.seed}")
    say("again:", *again)
    return 0 if is_enough(run.caught, count) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
