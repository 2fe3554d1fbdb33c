"""What is written otherwise here: FastAPI's exception, and two spellings of Haystack 2."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from http.client import responses

from flaskcompat.migration.imports import Move
from flaskcompat.migration.names import STOOD_IN
from flaskcompat.migration.source import Source

_PACKAGES = ("fastapi", "starlette")
_EXCEPTION = "HTTPException"
_KEYWORDS = {"status_code": "status", "detail": "message", "headers": "headers"}
_METHODS = ("get", "post", "put", "patch", "delete", "head", "request")
_HAYSTACKS = ("haystack", "hayhooks", "flaskcompat")
_OTHER_RUNNERS = ("asyncio", "anyio", "subprocess")
_MESSAGE = 'raise flaskcompat.APIError("why", status=...) in its place'


def rewrite_exceptions(source: Source, needed: str = "") -> dict[ast.alias, Move]:
    """Have ``HTTPException`` be :class:`~flaskcompat.APIError`, in a file where it can be in every place.

    :param needed: where another file needs it as it is.
    """
    aliases = _aliases(source)
    if not aliases:
        return {}
    if found := needs_exception(source):
        for node in found:
            source.note(node, f"`{_EXCEPTION}` is left as it is: {_MESSAGE}")
        return {}
    if needed:
        source.note(aliases[0], f"`{_EXCEPTION}` is left as it is, for {needed}: {_MESSAGE}")
        return {}
    name = aliases[0].asname or _EXCEPTION
    own = "APIError" if name == _EXCEPTION else name
    for read in source.reads[name]:
        source.replace(*source.span(read), own)
        if isinstance(call := source.parents[read], ast.Call):
            _rewrite_arguments(source, call)
    text = own if own == "APIError" else f"APIError as {own}"
    return {alias: Move("from flaskcompat import", text) for alias in aliases}


def needs_exception(source: Source) -> list[ast.AST]:
    """Where a file needs ``HTTPException`` as it is, under its name or with its attributes: so others must raise it."""
    aliases = _aliases(source)
    if found := _imports_that_stay(source, aliases):
        return found[:1]
    found = [*source.quoted(_EXCEPTION), *_attributes_read(source)]
    for name in {alias.asname or _EXCEPTION for alias in aliases}:
        found += [*source.annotated(name), *source.quoted(name)]
        found += [
            read for read in source.reads[name] if not (_is_plain_call(source, read) or _is_passed_on(source, read))
        ]
    return found


def _aliases(source: Source) -> list[ast.alias]:
    _, statements = _imports(source)
    return [alias for node in statements for alias in node.names if alias.name == _EXCEPTION]


def _imports_that_stay(source: Source, aliases: list[ast.alias]) -> list[ast.AST]:
    """What in a file's imports, or in what else its names stand for, needs the exception."""
    whole, statements = _imports(source)
    if not aliases:
        return [node for node in source.nodes if whole and isinstance(node, ast.Attribute) and node.attr == _EXCEPTION]
    names = {alias.asname or _EXCEPTION for alias in aliases}
    offered = [STOOD_IN.get(node.module or "", {}) for node in statements]
    others = [node for node, own in zip(statements, offered, strict=True) if any(a.name not in own for a in node.names)]
    bound = [node for name in names for node in source.bindings[name] if node not in aliases]
    taken = [node for node in source.bindings["APIError"] if not _is_ours(source, node)]
    wrong = [*whole, *others, *bound, *taken]  # a program of FastAPI's needs its own
    is_unclear = len(names) > 1 or _EXCEPTION in names.intersection(source.asked_for)
    return wrong or (list(aliases) if is_unclear else [])


def _attributes_read(source: Source) -> Iterator[ast.AST]:
    """Where something may read an exception's attributes, which have other names here."""
    for node in source.nodes:
        match node:
            case ast.Attribute(attr="detail" | "status_code", value=value) if not _is_answer(source, value):
                yield node
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr"), args=[_, ast.Constant(value="detail" | "status_code"), *_]
            ):
                yield node


def _is_answer(source: Source, node: ast.expr) -> bool:
    """Whether it is what an HTTP client's method gave, or a name for that and for nothing else."""
    if not isinstance(node, ast.Name):
        return _is_request(node)
    given = [source.assigned(bound) for bound in source.bindings[node.id]]
    return bool(given) and all(_is_request(value) for value in given)


def _is_request(node: ast.expr | None) -> bool:
    match node:
        case ast.Await(value=value):
            return _is_request(value)
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in _METHODS
    return False


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
        and _stand_bare(source, call)
    )


def _stand_bare(source: Source, call: ast.Call) -> bool:
    """Whether its arguments without a keyword have no parentheses and comments around them."""
    _, at = source.span(call.func)
    for mark, argument in zip("(,", call.args, strict=False):
        start, end = source.span(argument)
        if source.text[at:start].strip() != mark:
            return False
        at = end
    return True


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
        _, end = source.span(next((part for part in call.keywords if part.value is status), status))
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
    """``["replies"][0].content`` of what a run gave becomes ``.text``; where that is not certain it is noted."""
    taken, results = _names_of_replies(source), _names_of_results(source)
    has_haystack = any(name.partition(".")[0] in _HAYSTACKS for name in _modules_imported(source))
    for node in source.nodes:
        match node:
            case ast.Attribute(attr="content", ctx=ast.Load(), value=ast.Subscript(value=replies, slice=index)) if (
                has_haystack and _are_replies(replies) and _is_number(index) and _is_result(replies, results)
            ):
                _, end = source.span(node)
                source.replace(end - len("content"), end, "text")
            case ast.Attribute(attr="content", ctx=ast.Load(), value=value) if _is_reply(value) or (
                isinstance(value, ast.Name) and value.id in taken
            ):
                source.note(node, "`.content` of a ChatMessage is `.text` in Haystack 3, where this is one")
            case ast.Attribute(attr="AsyncPipeline", value=ast.Name(id="haystack")):
                source.note(node, "`haystack.AsyncPipeline` is gone in Haystack 3: import it from flaskcompat")


def _modules_imported(source: Source) -> Iterator[str]:
    for node in source.nodes:
        match node:
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases)
            case ast.ImportFrom(level=0, module=str(module)):
                yield module


def _names_of_results(source: Source) -> set[str]:
    """Names that stand for what a run gave, or a part of that, and for nothing else."""
    names: set[str] = set()
    while more := {
        name
        for name, nodes in source.bindings.items()
        if name not in names and all(_is_result(source.assigned(node), names) for node in nodes)
    }:
        names |= more
    return names


def _is_result(node: ast.expr | None, names: set[str]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in names
        case ast.Await(value=whole) | ast.Subscript(value=whole) | ast.NamedExpr(value=whole):
            return _is_result(whole, names)
        case ast.Call(func=ast.Attribute(attr="run" | "run_async", value=runner)):
            return not (isinstance(runner, ast.Name) and runner.id in _OTHER_RUNNERS)
    return False


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


def _is_reply(node: ast.expr) -> bool:
    match node:
        case ast.Subscript(value=replies, slice=index):
            return _are_replies(replies) and not isinstance(index, ast.Slice)
    return False


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, int)
