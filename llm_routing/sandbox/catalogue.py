"""The models that the sandbox offers, and the operations that each supports."""

from dataclasses import dataclass

from .fields import BadRequest

CREATED = 1_767_225_600
CREATED_AT = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Model:
    """A model in the list: it either chats or embeds."""

    name: str
    embeds: bool = False


MODELS = (
    Model("sandbox-premium"),
    Model("sandbox-standard"),
    Model("sandbox-economy"),
    Model("sandbox-embedding", embeds=True),
)
_BY_NAME = {model.name: model for model in MODELS}


def admit(name: str, *, embeds: bool | None, refuse_unknown: bool) -> None:
    """Raises `BadRequest` if the named model does not support the operation. An unlisted name
    supports everything unless unknown names are refused; with `embeds` None any listed model
    does."""
    model = _BY_NAME.get(name)
    if not name or (model is None and refuse_unknown):
        raise BadRequest(
            f"The model '{name}' does not exist or you do not have access to it.",
            "model",
            status=404,
            code="model_not_found",
        )
    if model is not None and embeds not in (None, model.embeds):
        what = "embeddings" if embeds else "chat"
        raise BadRequest(f"The model '{name}' does not serve {what}.", "model", status=404)
