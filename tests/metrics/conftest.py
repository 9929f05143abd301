"""Reading an exposition the way Prometheus does."""

from prometheus_client.parser import text_string_to_metric_families

from tests.router.conftest import (
    clean_process,
    configuration,
    connections_given_back,
    router,
)

__all__ = ["Numbers", "clean_process", "configuration", "connections_given_back", "router"]


class Numbers:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name that have these labels; `llm_routing_` is understood."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == f"llm_routing_{name}" and labels.items() <= sample.labels.items()
        )

    def values(self, label: str) -> set[str]:
        """Every value of a label."""
        return {sample.labels[label] for sample in self.samples if label in sample.labels}
