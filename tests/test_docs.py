"""The documentation: examples run, commands parse, links lead somewhere, and the table of settings is up to date."""

import doctest
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

import satmask
from satmask.cli import app
from satmask.datasets.dstl import LEGEND
from satmask.decisions import Decision, read_decision
from satmask.recipe import Recipe
from satmask.rules import read_rule

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<before>[^\n]*)\n(?:[ ]*\n)?```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)
NOT_RUN = "<!-- not run -->"
COMMAND = typer.main.get_command(app)


def blocks(page, *languages):
    """Code of a page in some languages, but for what is marked as not to be run."""
    found = FENCE.finditer("\n\n" + page.read_text(encoding="utf-8"))
    return [match["code"] for match in found if match["language"] in languages and NOT_RUN not in match["before"]]


def commands():
    """Every `satmask …` line of the pages' shell blocks."""
    for page in PAGES:
        for code in blocks(page, "sh", "bash", "console", "shell"):
            for line in code.replace("\\\n", " ").splitlines():
                text = re.sub(r"^(\$ )?((\w+=\S+|time) )*", "", line.strip())
                if text.startswith("satmask"):
                    yield pytest.param(text, id=f"{page.name}: {text}")


def anchors(page):
    """Names that the headings of a page are linked by."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in heads}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_examples_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for code in blocks(page, "python"):
        if ">>>" in code:
            example = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), 0)
            assert doctest.DocTestRunner().run(example, clear_globs=False).failed == 0
            names.update(example.globs)
        else:
            exec(compile(code, str(page), "exec"), names)  # noqa: S102  # our own pages


@pytest.mark.parametrize("text", list(commands()))
def test_commands_parse_and_their_settings_are_known(text):
    verb, *arguments = shlex.split(re.sub(r" > \S+$", "", text))[1:] or ["--help"]
    if verb.startswith("-"):
        assert verb in ("--help", "-h", "--version")
        return
    command = COMMAND.commands[verb]
    if hasattr(command, "commands"):  # a verb of several, such as `masks encode`
        command = command.commands[arguments.pop(0)]
    context = command.context_class(command, info_name=verb)
    values, left, _ = command.make_parser(context).parse_args(arguments)
    assert not left
    assert not [option.name for option in command.params if option.required and not values.get(option.name)]
    for option in command.params:
        # The files of examples aren't there.
        if option.name in values and "Path" not in str(option.type_descriptor.annotation):
            option.process_value(context, values[option.name])
    if verb == "train":
        model = [f"network.name={values['model']}"] if values.get("model") else []
        Recipe.load(settings=[*(values.get("settings") or []), *model])


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=lambda page: page.name)
def test_toml_examples_are_of_a_known_kind(page, tmp_path):
    for code in blocks(page, "toml"):
        path = tmp_path / "example.toml"
        path.write_text(code, encoding="utf-8")
        if "classes" in tomllib.loads(code):
            assert len(satmask.read_legend(path)) > 1
        elif "condition" in tomllib.loads(code):
            assert read_rule(path).conditions
        elif "merge" in tomllib.loads(code):
            assert read_decision(path, Decision(LEGEND)) != Decision(LEGEND)
        else:
            assert Recipe.load(path) != Recipe()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_is_in_the_menu():
    menu = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    pages = (ROOT / "docs").rglob("*.md")
    assert {page.relative_to(ROOT / "docs").as_posix() for page in pages} == set(menu)


def test_the_table_of_settings_is_up_to_date():
    spec = importlib.util.spec_from_file_location("recipe_table", ROOT / "tools" / "recipe_table.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    page = tool.PAGE.read_text(encoding="utf-8")
    assert "| `epochs` | `15` |" in page
    assert tool.written(page) == page, "run python tools/recipe_table.py"


def test_the_reference_lists_every_public_name():
    listed = set(
        re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert {f"{home}.{name}" for name, home in satmask._HOMES.items()} <= listed


def test_every_verb_is_described():
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert {verb for verb in COMMAND.commands if f"| `satmask {verb}` |" not in text} == set()
