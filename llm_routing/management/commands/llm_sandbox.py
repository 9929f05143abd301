"""`manage.py llm_sandbox`: a server that answers like LLM vendors, for testing applications."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from llm_routing.sandbox.command import CannotListen, add_arguments, run


class Command(BaseCommand):
    """Runs the sandbox until it is interrupted."""

    help = "Runs a server that answers like OpenAI and Anthropic, without a model."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Adds the sandbox's options."""
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs the server. Raises `CommandError` if it cannot."""
        names = ("host", "port", "require_key", "refuse_unknown_models")
        try:
            run(**{name: options[name] for name in names}, say=self._say)
        except CannotListen as error:
            raise CommandError(str(error)) from error

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
