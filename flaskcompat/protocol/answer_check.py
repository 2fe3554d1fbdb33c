"""Whether an answer has the form that its request asks for: JSON, or JSON of a schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flaskcompat.errors import APIError, InvalidValue
from flaskcompat.log import log
from flaskcompat.protocol.parameters import answer_format

#: Refuses an answer's text.
AnswerCheck = Callable[[str], None]

# A client's regular expression may take for ever on some text.
_UNCHECKED = ("pattern", "patternProperties")


class InvalidAnswer(APIError):
    """A model's answer is not what its request asks for."""

    code = "invalid_answer"
    message = "The model's answer is not in the form that the request asks for."


def answer_check(body: Mapping[str, Any]) -> AnswerCheck | None:
    """What checks the answer to a request to either API; None where any text will do.

    Regular expressions of a schema are not looked at, and nothing that it refers to is fetched. The check raises
    :class:`InvalidAnswer`.

    :raises InvalidValue: for what is no schema.
    """
    form = answer_format(body)
    match form and form["type"]:
        case "json_object":
            return lambda text: _refuse_unless(isinstance(_parsed(text), dict), "no object")
        case "json_schema":
            assert form is not None
            return _of_schema(form.get("schema"), "response_format" if body.get("response_format") else "text.format")
    return None


def _of_schema(schema: Any, param: str) -> AnswerCheck:
    # Takes its time to import, and few models are asked for a schema.
    from jsonschema import SchemaError, validators
    from jsonschema.exceptions import best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    if not isinstance(schema, dict) or any(not ref.startswith("#") for ref in _references(schema)):
        raise InvalidValue(f"'{param}' has no schema, or one that refers to another place.", param=param)
    base = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        base.check_schema(schema)
    except (SchemaError, RecursionError):
        raise InvalidValue(f"'{param}' has a schema that is none.", param=param) from None
    kind = validators.extend(base, dict.fromkeys(_UNCHECKED, _unchecked))
    validator = kind(schema, registry=Registry())

    def check(text: str) -> None:
        value = _parsed(text)
        try:
            error = best_match(validator.iter_errors(value))
        except (Unresolvable, RecursionError) as unusable:
            raise InvalidValue(f"'{param}' has a schema that cannot be followed.", param=param) from unusable
        # Where it is wrong, not what: contents do not belong in logs.
        _refuse_unless(error is None, f"{error and error.validator} at {error and error.json_path}")

    return check


def _unchecked(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    return iter(())


def _references(schema: Any) -> Iterator[str]:
    """What a schema refers to; one that is too deep is none to follow."""
    rest = [schema]
    while rest:
        part = rest.pop()
        if isinstance(part, dict):
            yield from (str(part[key]) for key in ("$ref", "$dynamicRef") if isinstance(part.get(key), str))
            rest += part.values()
        elif isinstance(part, list):
            rest += part


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        log.warning("an answer that has to be JSON is none")
        raise InvalidAnswer from None


def _refuse_unless(fits: bool, why: str) -> None:
    if not fits:
        log.warning("an answer does not fit the schema of its request: {}", why)
        raise InvalidAnswer
