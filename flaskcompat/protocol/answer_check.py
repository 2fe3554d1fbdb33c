"""Whether an answer has the form that its request asks for: JSON, or JSON of a schema.

A schema comes from a client. It may be large, or small and take for ever: references that double at each level, regular
expressions, comparisons of all with all. So its size is bounded, what cannot be bounded is not done or refused, and the
rest ends at a deadline.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any, NoReturn

from flaskcompat.errors import APIError, InvalidValue
from flaskcompat.log import log
from flaskcompat.protocol.json_schema import TooLarge, objects_of
from flaskcompat.protocol.parameters import answer_format

#: Refuses an answer's text.
AnswerCheck = Callable[[str], None]

#: Seconds that the check of one answer may take.
MOST_TIME = 2.0
# A client's regular expression may take for ever on some text; comparing each item with each, the square of a length.
_UNCHECKED = ("pattern", "uniqueItems")
# What `additionalProperties` means rests on its expressions.
_REFUSED = ("patternProperties",)


class InvalidAnswer(APIError):
    """A model's answer is not what its request asks for."""

    code = "invalid_answer"
    message = "The model's answer is not in the form that the request asks for."


def answer_check(body: Mapping[str, Any]) -> AnswerCheck | None:
    """What checks the answer to a request to either API; None where any text will do.

    ``pattern`` and ``uniqueItems`` are not looked at, and nothing that a schema refers to is fetched. The check raises
    :class:`InvalidAnswer`.

    :raises InvalidValue: for what is no schema, or one that is not checked here.
    """
    form = answer_format(body)
    match form and form["type"]:
        case "json_object":
            return lambda text: _refuse_unless(isinstance(_parsed(text), dict), "no object")
        case "json_schema":
            assert form is not None
            return _of_schema(form.get("schema"), "response_format" if "response_format" in body else "text.format")
    return None


def _of_schema(schema: Any, param: str) -> AnswerCheck:
    # Takes its time to import, and few models are asked for a schema.
    from jsonschema import Draft202012Validator, FormatChecker, validators
    from jsonschema.exceptions import best_match
    from referencing import Registry

    def refuse(what: str) -> NoReturn:
        raise InvalidValue(f"'{param}' has a schema that {what}.", param=param)

    if not isinstance(schema, dict):
        raise InvalidValue(f"'{param}' has no schema.", param=param)
    _look_over(schema, refuse)
    try:
        # Without formats: `regex` would refuse what is none in Python.
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(()))
    except Exception:
        refuse("is none")
    end = [0.0]

    def timed(keyword: Any) -> Any:
        def check(*args: Any) -> Any:
            if monotonic() > end[0]:
                raise TimeoutError
            return keyword(*args)

        return check

    keywords = {name: timed(keyword) for name, keyword in Draft202012Validator.VALIDATORS.items()}
    kind = validators.extend(Draft202012Validator, keywords | dict.fromkeys(_UNCHECKED, _unchecked))
    validator = kind(schema, registry=Registry())

    def check(text: str) -> None:
        value = _parsed(text)
        end[0] = monotonic() + MOST_TIME
        try:
            error = best_match(validator.iter_errors(value))
        except Exception as unusable:  # a reference to nowhere, or in a circle; numbers beyond any measure
            log.info("the schema of a request cannot be followed: {}", type(unusable).__name__)
            refuse("cannot be followed for this answer")
        # Where it is wrong, not what: contents do not belong in logs.
        _refuse_unless(error is None, f"{error and error.validator} at {error and error.json_path}")

    return check


def _unchecked(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    return iter(())


def _look_over(schema: dict[str, Any], refuse: Callable[[str], NoReturn]) -> None:
    """Refuse what would take too long to look at, or points to another place."""
    try:
        for part in objects_of(schema):
            if any(key in part for key in _REFUSED):
                refuse("has 'patternProperties', which is not checked here")
            if any(isinstance(part.get(key), str) and not part[key].startswith("#") for key in ("$ref", "$dynamicRef")):
                refuse("refers to another place")
    except TooLarge:
        refuse("is too large")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        log.warning("an answer that has to be JSON is none")
        raise InvalidAnswer from None


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _refuse_unless(fits: bool, why: str) -> None:
    if not fits:
        log.warning("an answer does not fit the schema of its request: {}", why)
        raise InvalidAnswer
