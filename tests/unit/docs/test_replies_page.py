"""docs/reference/replies.md lists every reply of the SMTP ports: code, enhanced status code, and text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from pages import ROOT, page, section, table

PAGE = page("reference/replies.md")
TABLES = ("Success", "Try again later", "Refused: the command", "Refused: who may do what", "Refused: the message")
# `commands.py` chooses these two by the command; every other reply is one call with constants.
CHOSEN = {("501 5.1.7", "Bad address: ..."), ("553 5.1.3", "Bad address: ...")}
SASL = "501 5.5.2"


def documented() -> set[tuple[str, str]]:
    return {(row[0].strip("`"), row[1]) for name in TABLES for row in table(section(PAGE, name))}


def in_the_code() -> set[tuple[str, str]]:
    found = set(CHOSEN)
    files = [*(ROOT / "relay/smtpd").glob("*.py"), *(ROOT / "relay/intake").glob("*.py")]
    files.append(ROOT / "relay/policy/suppression.py")
    for path in files:
        if not path.name.startswith("sandbox_"):
            found |= set(_replies(ast.parse(path.read_text(encoding="utf-8"))))
    return found


def _replies(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for function in [
        tree,
        *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)),
    ]:
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", "")
            if name == "SaslError":
                yield SASL, _text(call.args[0], function)
            elif name == "reply" and isinstance(call.args[0], ast.Constant):
                code, status, text = call.args
                shown = _text(text, function)
                if shown != "?":
                    yield f"{ast.literal_eval(code)} {ast.literal_eval(status)}", shown


def _text(node: ast.expr, function: ast.AST) -> str:
    """The text with `...` for what varies; `?` where it is not decided in this scope."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = (str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
        return "".join(parts)
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "printable":
        return _text(node.args[0], function)
    if isinstance(node, ast.Name):
        for line in ast.walk(function):
            if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == node.id:
                return _text(line.value, function)
    return "?"


def test_every_reply_is_listed_and_none_is_invented() -> None:
    assert documented() == in_the_code()


def test_what_is_temporary_stands_where_clients_try_again() -> None:
    for name in TABLES:
        classes = {row[0][1] for row in table(section(PAGE, name))}
        assert classes == {"Success": {"2"}, "Try again later": {"4"}}.get(name, {"5"})


def test_the_page_says_what_to_do_in_the_words_of_the_settings() -> None:
    from relay.settings import Settings

    for group, key in re.findall(r"`(limits|spool)\.(\w+)`", PAGE):
        assert key in type(getattr(Settings(), group)).model_fields
