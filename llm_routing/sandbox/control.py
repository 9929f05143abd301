"""The sandbox's own endpoints under `/_sandbox/`: script, log and reset."""

import json
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from . import fields
from .faults import FaultSyntaxError
from .fields import BadRequest
from .journal import MAX_STEPS, Journal, ScriptFull, Step

PREFIX = "/_sandbox/"


def control(journal: Journal, method: str, path: str, data: bytes) -> web.Response:
    """Handles `POST script`, `GET log` and `POST reset`."""
    try:
        match method, path.removeprefix(PREFIX):
            case "POST", "script":
                journal.script(*_steps(data))
                return web.json_response({"scripted": len(journal.steps)})
            case "GET", "log":
                return web.json_response(journal.dict())
            case "POST", "reset":
                journal.reset()
                return web.json_response({"scripted": 0})
    except (BadRequest, FaultSyntaxError, ScriptFull) as error:
        return web.json_response({"error": str(error)}, status=400)
    known = "POST /_sandbox/script, GET /_sandbox/log, POST /_sandbox/reset"
    return web.json_response({"error": f"unknown; there are {known}"}, status=404)


def _steps(data: bytes) -> Iterator[Step]:
    """Returns the steps in a body: an array, or an object with the array `steps`. Each step is a
    string of directives or an object with `faults`, `model`, `path` and `times`."""
    try:
        given: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body has to be JSON") from error
    if isinstance(given, dict):
        given = given.get("steps")
    for item in fields.sequence(given, "steps"):
        if isinstance(item, str):
            yield Step(item)
            continue
        step = fields.mapping(item, "steps")
        unknown = ", ".join(sorted(step.keys() - {"faults", "model", "path", "times"}))
        if unknown:
            raise BadRequest(f"a step has faults, model, path and times, not {unknown}")
        times = fields.integer(step, "times", 1, MAX_STEPS)
        for _ in range(1 if times is None else times):
            yield Step(
                fields.text(step, "faults", ""),
                fields.text(step, "model", ""),
                fields.text(step, "path", ""),
            )
