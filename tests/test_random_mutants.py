"""The tool that breaks the decisions at random: what it counts as enough, and the list of what changes nothing."""

from __future__ import annotations

import ast
from typing import Final

import pytest

from tests.copies import TREE
from tests.random_mutants import MODULES, equivalents, is_enough

KNOWN: Final = equivalents()


def functions(tree: ast.AST, prefix: str = "") -> set[str]:
    """The qualified name of every function and class of a module."""
    found = {"the module"}
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found |= {f"{prefix}{node.name}"} | functions(node, f"{prefix}{node.name}.")
    return found


@pytest.mark.parametrize(
    ("caught", "tried", "enough"),
    [
        (0, 0, True),
        (19, 20, True),  # half of all samples of twenty have a survivor or more where 96 % are caught
        (17, 20, True),
        (13, 20, False),
        (0, 5, False),
        (45, 50, True),
        (40, 50, True),
        (85, 100, True),
        (84, 100, False),
        (285, 300, True),
        (284, 300, False),
    ],
)
def test_a_sample_fails_where_it_cannot_be_luck_and_three_hundred_by_their_share(
    caught: int, tried: int, *, enough: bool
) -> None:
    """A gate that fails by luck is switched off; one that never fails is none."""
    assert is_enough(caught, tried) is enough


@pytest.mark.parametrize("known", sorted(KNOWN), ids=" ".join)
def test_what_is_said_to_change_nothing_is_about_code_that_is_there(known: tuple[str, str, str]) -> None:
    """A function that was changed may have made a mutant matter: take its entry out, and try it again."""
    function, was, now = known
    sources = [(TREE / module).read_text(encoding="utf-8") for module in MODULES]
    there = [" ".join(source.split()) for source in sources if function in functions(ast.parse(source))]
    assert any(was in source for source in there)
    assert was != now
    assert KNOWN[known]
