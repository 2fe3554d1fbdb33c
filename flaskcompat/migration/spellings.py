"""What is written otherwise here: FastAPI's exception, and two spellings of Haystack 2."""

from __future__ import annotations

import ast
from http.client import responses

from flaskcompat.migration.imports import Move
from flaskcompat.migration.names import STOOD_IN
from flaskcompat.migration.source import Source

_PACKAGES = ("fastapi", "starlette")
_EXCEPTION = "HTTPException"
_KEYWORDS = {"status_code": "status", "detail": "message", "headers": "headers"}
_MESSAGE = 'raise flaskcompat.APIError("why", status=...) in its place'


def rewrite_exceptions(source: Source) -> dict[ast.alias, Move]:
    """Have ``HTTPException`` be :class:`~flaskcompat.APIError`, in a file where it can be in every place."""
    whole, statements = _imports(source)
    aliases = [alias for node in statements for alias in node.names if alias.name == _EXCEPTION]
    if not aliases:
        return {}
    names = {alias.asname or _EXCEPTION for alias in aliases}
    offered = [STOOD_IN.get(node.module or "", {}) for node in statements]
    others = [node for node, own in zip(statements, offered, strict=True) if any(a.name not in own for a in node.names)]
    bound = [node for name in names for node in source.bindings[name] if node not in aliases]
    taken = [node for node in source.bindings["APIError"] if not _is_ours(source, node)]
    wrong = [*whole, *others, *bound, *taken]  # a program of FastAPI's needs its own
    if wrong or len(names) > 1 or _EXCEPTION in names.intersection(source.asked_for):
        source.note((wrong or aliases)[0], f"`{_EXCEPTION}` is left as it is: {_MESSAGE}")
        return {}
    [name] = names
    uncertain = [
        read for read in source.reads[name] if not (_is_plain_call(source, read) or _is_passed_on(source, read))
    ]
    for read in uncertain:
        source.note(read, f"`{_EXCEPTION}` is left as it is: {_MESSAGE}")
    if uncertain:
        return {}
    own = "APIError" if name == _EXCEPTION else name
    for read in source.reads[name]:
        source.replace(*source.span(read), own)
        if isinstance(call := source.parents[read], ast.Call):
            _rewrite_arguments(source, call)
    text = own if own == "APIError" else f"APIError as {own}"
    return {alias: Move("from flaskcompat import", text) for alias in aliases}


def _imports(source: Source) -> tuple[list[ast.Import], list[ast.ImportFrom]]:
    """The statements that import FastAPI or Starlette: as a whole, and names of theirs."""
    whole, names = [], []
    for node in source.nodes:
        match node:
            case ast.Import() if any(alias.name.partition(".")[0] in _PACKAGES for alias in node.names):
                whole.append(node)
            case ast.ImportFrom(level=0, module=str(module)) if module.partition(".")[0] in _PACKAGES:
                names.append(node)
    return whole, names


def _is_ours(source: Source, node: ast.AST) -> bool:
    parent = source.parents[node]
    return isinstance(parent, ast.ImportFrom) and parent.module == "flaskcompat"


def _arguments(call: ast.Call) -> dict[str, ast.expr]:
    named = {keyword.arg or "": keyword.value for keyword in call.keywords}
    return dict(zip(_KEYWORDS, call.args, strict=False)) | named


def _is_plain_call(source: Source, read: ast.Name) -> bool:
    """Whether it is called with a status of an error and a text, in a way that can be rewritten in place."""
    call = source.parents[read]
    if not (isinstance(call, ast.Call) and call.func is read and len(call.args) <= 2):
        return False
    given = _arguments(call)
    detail = given.get("detail")
    return (
        given.keys() <= _KEYWORDS.keys()
        and _is_status(given.get("status_code"))
        and (detail is None or _is_text(detail))
        and all(source.text[: source.span(argument)[0]].rstrip()[-1:] in "(," for argument in call.args)
    )


def _is_status(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and 400 <= node.value <= 599


def _is_text(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr() | ast.Call(func=ast.Name(id="str")):
            return True
    return False


def _is_passed_on(source: Source, read: ast.Name) -> bool:
    """Whether it is caught only to be raised again."""
    match source.parents[read]:
        case ast.ExceptHandler(type=caught, name=None, body=[ast.Raise(exc=None)]):
            return caught is read
    return False


def _rewrite_arguments(source: Source, call: ast.Call) -> None:
    for name, argument in zip(_KEYWORDS.values(), call.args, strict=False):
        start, _ = source.span(argument)
        source.replace(start, start, f"{name}=")
    for keyword in call.keywords:
        start, _ = source.span(keyword)
        source.replace(start, start + len(keyword.arg or ""), _KEYWORDS[keyword.arg or ""])
    given = _arguments(call)
    if "detail" not in given and isinstance(status := given["status_code"], ast.Constant):
        _, end = source.span(status)
        text = responses.get(status.value, "") if isinstance(status.value, int) else ""
        source.replace(end, end, f', message="{text}"')


def move_async_pipeline(source: Source, statement: ast.ImportFrom) -> dict[ast.alias, Move]:
    """``AsyncPipeline``, which Haystack 3 has no more."""
    if (statement.module or "").partition(".")[0] != "haystack":
        return {}
    return {
        alias: Move("from flaskcompat import", source.text_of(alias))
        for alias in statement.names
        if alias.name == "AsyncPipeline"
    }


def rewrite_replies(source: Source) -> None:
    """``replies[0].content`` becomes ``.text``; ``content`` of what was taken from replies before is noted."""
    taken = _names_of_replies(source)
    for node in source.nodes:
        match node:
            case ast.Attribute(attr="content", ctx=ast.Load(), value=value) if _is_reply(value, certain=True):
                _, end = source.span(node)
                source.replace(end - len("content"), end, "text")
            case ast.Attribute(attr="content", ctx=ast.Load(), value=value) if _is_reply(value) or (
                isinstance(value, ast.Name) and value.id in taken
            ):
                source.note(node, "`.content` of a ChatMessage is `.text` in Haystack 3, where this is one")
            case ast.Attribute(attr="AsyncPipeline", value=ast.Name(id="haystack")):
                source.note(node, "`haystack.AsyncPipeline` is gone in Haystack 3: import it from flaskcompat")


def _names_of_replies(source: Source) -> set[str]:
    names = set()
    for node in source.nodes:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.NamedExpr(target=ast.Name(id=name), value=value)
            ) if _is_reply(value):
                names.add(name)
            case (
                ast.For(target=ast.Name(id=name), iter=replies)
                | ast.comprehension(target=ast.Name(id=name), iter=replies)
            ) if _are_replies(replies):
                names.add(name)
    return names


def _are_replies(node: ast.expr) -> bool:
    match node:
        case ast.Name(id="replies") | ast.Attribute(attr="replies"):
            return True
        case ast.Subscript(slice=ast.Constant(value="replies")):
            return True
    return False


def _is_reply(node: ast.expr, *, certain: bool = False) -> bool:
    match node:
        case ast.Subscript(value=replies, slice=index) if _are_replies(replies):
            return _is_number(index) or not (certain or isinstance(index, ast.Slice))
    return False


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, int)
