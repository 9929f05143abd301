"""Fits a request of OpenAI Chat Completions to the vendor and the model it goes to.

`Quirks` describe what a vendor accepts. A field or value that it would refuse is changed, or left
out and named, or `UnsupportedRequest` is raised so that the next target is called. Reasoning
settings are fitted in `reasoning`, messages in `fit_messages`.
"""

from collections.abc import Mapping
from typing import Any, Final

from llm_routing.core.capabilities import Capability
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.quirks import Quirks, is_model
from llm_routing.core.routing_table import Target
from llm_routing.core.types import LLMRequest
from llm_routing.formats.ignored_fields import check_can_be_ignored, has_effect, was_set_by_caller
from llm_routing.formats.tool_names import fitted_name
from llm_routing.formats.tool_schema import object_schema

from .fit_messages import fit_messages
from .reasoning import fit_reasoning
from .strict_schema import is_strict

_NOTHING: Final[frozenset[str]] = frozenset()
_SAMPLING: Final = frozenset(("temperature", "top_p"))
_PARALLEL: Final = "parallel_tool_calls"
_ABOUT_TOOLS: Final = ("tools", "tool_choice", _PARALLEL)
# Written by the gateway itself at the end.
_STREAMING: Final = frozenset(("stream", "stream_options"))


def fit_request(
    body: dict[str, Any], request: LLMRequest, target: Target, ignored: list[str], *, is_own: bool
) -> None:
    """Fits `body` in place and adds the names of ignored fields to `ignored`. Only the outermost
    object is changed. `is_own`: the body is the caller's own. Raises `UnsupportedRequest`."""
    quirks, model = target.provider.quirks, target.model
    if request.reasoning is None and not model.quirks and quirks.plain_fields.issuperset(body):
        # As most requests are.
        _write_limit(body, request, target, ignored)
    else:
        _Fit(body, request, target, ignored).run(is_own=is_own)
    fit_messages(body, target, ignored)


def _write_limit(
    body: dict[str, Any], request: LLMRequest, target: Target, ignored: list[str]
) -> None:
    """Writes the token limit under the vendor's name and within the model's limit. If the caller
    set both names, the newer one wins."""
    newer, older = body.pop("max_completion_tokens", None), body.pop("max_tokens", None)
    limit = older if newer is None else newer
    if limit is None:
        return
    most = target.model.max_output_tokens
    if most is not None and limit > most:
        name = "max_tokens" if newer is None else "max_completion_tokens"
        if was_set_by_caller(request, name):
            ignored.append(name)
        limit = most
    body[target.provider.quirks.limit_field] = limit


class _Fit:
    def __init__(
        self, body: dict[str, Any], request: LLMRequest, target: Target, ignored: list[str]
    ) -> None:
        self._body = body
        self._request = request
        self._target = target
        self._quirks: Quirks = target.provider.quirks
        self._model = target.model
        self._ignored = ignored

    def run(self, *, is_own: bool) -> None:
        """Changes the body."""
        body, request, target, ignored = self._body, self._request, self._target, self._ignored
        fit_reasoning(body, request, target, ignored, is_own=is_own)
        _write_limit(body, request, target, ignored)
        self._leave_out_fields()
        self._fit_values()
        self._check_answer()
        if body.get("tools"):
            self._fit_tools()
        if body.get("tools") == []:
            # Vendors refuse an empty list, and a tool choice without tools.
            for name in _ABOUT_TOOLS:
                body.pop(name, None)

    def _leave_out_fields(self) -> None:
        """Renames fields, and leaves out what the vendor or the model refuses. Fields that a caller
        in process gives as the vendor's own are kept."""
        body, quirks = self._body, self._quirks
        for name, theirs in quirks.field_names:
            value = body.pop(name, None)
            if value is not None:
                body.setdefault(theirs, value)
        by_model, known = self._refused_by_model, quirks.fields
        is_fitting = quirks.refused_fields.isdisjoint(body) and by_model.isdisjoint(body)
        if is_fitting and (known is None or known.issuperset(body)):
            return
        kept = self._request.extra
        for name in [*body]:
            is_foreign = name in quirks.refused_fields or (
                known is not None and name not in known and name not in _STREAMING
            )
            if (is_foreign and name not in kept) or name in by_model:
                self._leave_out(name)

    @property
    def _refused_by_model(self) -> frozenset[str]:
        quirks, model = self._quirks, self._model
        refused = _NOTHING
        if model.refuses_sampling:
            is_reasoning = is_model(quirks.reasoning_models, model.model_id)
            refused = _SAMPLING | quirks.reasoning_refuses if is_reasoning else _SAMPLING
        if _PARALLEL in self._body and is_model(quirks.refuses_parallel_tool_calls, model.model_id):
            refused |= {_PARALLEL}
        return refused

    def _leave_out(self, name: str) -> None:
        value = self._body.pop(name, None)
        if name == "tool_choice" and value == "none":
            # Having no tools is equivalent.
            self._body.pop("tools", None)
            return
        check_can_be_ignored(name, value)
        if has_effect(name, value) and was_set_by_caller(self._request, name):
            self._ignored.append(name)

    def _fit_values(self) -> None:
        """Changes values to what the vendor accepts."""
        body, quirks = self._body, self._quirks
        for name, values in quirks.field_values:
            if isinstance(body.get(name), str) and body[name] not in values:
                self._leave_out(name)
        highest = quirks.max_temperature
        if highest is not None and (body.get("temperature") or 0) > highest:
            body["temperature"] = highest
            self._ignored.append("temperature")
        stop = body.get("stop")
        if quirks.max_stops is not None and isinstance(stop, list) and len(stop) > quirks.max_stops:
            body["stop"] = stop[: quirks.max_stops]
            self._ignored.append("stop")

    def _check_answer(self) -> None:
        """Raises `UnsupportedRequest` if the vendor cannot give the requested kind of answer."""
        body, quirks = self._body, self._quirks
        if quirks.one_answer and (body.get("n") or 1) > 1:
            raise UnsupportedRequest(
                f"The vendor of {self._model.key} supports only one answer per request."
            )
        wanted = body.get("response_format")
        if (
            not quirks.json_schema
            and isinstance(wanted, dict)
            and wanted.get("type") == "json_schema"
            and Capability.JSON_SCHEMA not in self._model.capabilities
        ):
            raise UnsupportedRequest(
                f"The model {self._model.key} does not support JSON Schema output."
            )

    def _fit_tools(self) -> None:
        """Gives tools the names and schemas that the vendor accepts."""
        body = self._body
        choice = body.get("tool_choice")
        if isinstance(choice, dict):
            body["tool_choice"] = self._choice(choice)
        elif choice == "any":
            # Mistral's callers write this; its API accepts both.
            body["tool_choice"] = "required"
        body["tools"] = [self._tool(tool) for tool in body["tools"]]

    def _choice(self, choice: Mapping[str, Any]) -> Any:
        """Returns the tool choice in the vendor's form. Only OpenAI has `allowed_tools`; for others
        the tools that are not allowed are left out, which is equivalent."""
        if choice.get("type") != "allowed_tools":
            return self._chosen(choice)
        allowed = choice["allowed_tools"]
        chosen = [self._chosen(tool) for tool in allowed.get("tools") or ()]
        if self._quirks.tool_types is None:
            return {**choice, "allowed_tools": {**allowed, "tools": chosen}}
        names = {_name_of(tool) for tool in allowed.get("tools") or ()}
        tools = self._body["tools"]
        self._body["tools"] = [tool for tool in tools if _name_of(tool) in names]
        return allowed.get("mode") or "auto"

    def _chosen(self, tool: Mapping[str, Any]) -> Mapping[str, Any]:
        function = tool.get("function")
        return {**tool, "function": self._named(function)} if isinstance(function, dict) else tool

    def _tool(self, tool: Mapping[str, Any]) -> Mapping[str, Any]:
        quirks = self._quirks
        kind = tool.get("type")
        if quirks.tool_types is not None and kind not in quirks.tool_types:
            raise UnsupportedRequest(f"The vendor of {self._model.key} has no tools of this type.")
        if "cache_control" in tool and not is_model(quirks.marks_cache, self._model.model_id):
            tool = {name: value for name, value in tool.items() if name != "cache_control"}
            self._ignored.append("cache_control")
        function = tool.get("function")
        if kind != "function" or not isinstance(function, dict):
            return tool
        fitted = self._with_object(self._named(function))
        return tool if fitted is function else {**tool, "function": fitted}

    def _named(self, function: Mapping[str, Any]) -> Mapping[str, Any]:
        name = function["name"]
        fitted = fitted_name(name, self._quirks.max_tool_name_length)
        return function if fitted == name else {**function, "name": fitted}

    def _with_object(self, function: Mapping[str, Any]) -> Mapping[str, Any]:
        given = function.get("parameters")
        schema = object_schema(given or {})
        if schema is given:
            return function
        fitted = {**function, "parameters": schema}
        if fitted.get("strict") and not is_strict(schema):
            del fitted["strict"]
            self._ignored.append("tools.strict")
        return fitted


def _name_of(tool: Mapping[str, Any]) -> Any:
    owner = tool.get(tool.get("type") or "")
    return owner.get("name") if isinstance(owner, dict) else None
