"""The compose file and the Dockerfile as Docker reads them: what runs, in which environment."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
_RUNTIME = DOCKERFILE.rpartition("\nFROM ")[2]


def image_command() -> list[str]:
    """What the image runs where a service says nothing."""
    (command,) = re.findall(r"^CMD (\[.*\])$", _RUNTIME, re.MULTILINE)
    return [str(word) for word in json.loads(command)]


def image_environment() -> dict[str, str]:
    """The variables that the image sets."""
    lines = re.findall(r"^ENV (.*)$", _RUNTIME, re.MULTILINE)
    return dict(word.split("=", 1) for line in lines for word in line.split())


def image_sources() -> list[str]:
    """What of this repository is in the image's working directory."""
    return re.findall(r"^COPY (?!--from)(\S+) \S+$", _RUNTIME, re.MULTILINE)


def command(name: str) -> list[str]:
    """What a service runs."""
    return list(SERVICES[name].get("command") or image_command())


def health_check(name: str) -> list[str]:
    """The command of a service's health check."""
    kind, *words = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD"
    return [str(word) for word in words]


def seconds(duration: str) -> float:
    """A duration such as `40s`."""
    return float(duration.removesuffix("s"))


def environment(name: str, dotenv: Mapping[str, str]) -> dict[str, str]:
    """The variables of a service of ours where `.env` holds `dotenv`; a variable that is optional
    and not in there is an empty text, as Compose has it."""
    service = SERVICES[name]
    from_file = dotenv if service["env_file"] == [{"path": ".env", "required": False}] else {}
    own = {key: _filled_in(str(text), dotenv) for key, text in service["environment"].items()}
    return image_environment() | dict(from_file) | own


def _filled_in(text: str, dotenv: Mapping[str, str]) -> str:
    """`${NAME:-default}` and `${NAME:?message}`."""

    def value(found: re.Match[str]) -> str:
        given = dotenv.get(found["name"], "")
        assert given or found["operator"] == ":-", f"{found['name']}: {found['word']}"
        return given or found["word"]

    return re.sub(r"\$\{(?P<name>\w+)(?P<operator>:-|:\?)(?P<word>[^}]*)\}", value, text)
