"""What the house promises of itself, measured."""

import ast
from pathlib import Path
from statistics import median

HOUSE = Path(__file__).parents[2]
SHIPPED = [HOUSE / "operator", HOUSE / "trainer"]


def functions() -> list[tuple[str, int]]:
    """(place, lines of code below the docstring) of every function that ships."""
    return [
        (f"{path.relative_to(HOUSE)}:{node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for path in sorted(path for folder in SHIPPED for path in folder.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_most_functions_are_short():
    assert median(lines for _, lines in functions()) <= 12


def test_no_function_is_longer_than_sixty_lines():
    assert [place for place, lines in functions() if lines > 60] == []


def test_nothing_shadows_the_standard_library():
    assert not (HOUSE / "operator" / "__init__.py").exists()


def test_every_module_says_what_it_is_responsible_for():
    modules = [path for folder in SHIPPED for path in folder.rglob("*.py")]
    assert [
        str(path) for path in modules if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ] == []


def test_no_two_modules_of_tests_have_one_name():
    """pytest finds helpers in all tiers at once: of two with one name it imports the first it meets."""
    names = [path.stem for path in (HOUSE / "tests").rglob("*.py") if path.stem != "conftest"]
    assert sorted({name for name in names if names.count(name) > 1}) == []
