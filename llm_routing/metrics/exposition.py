"""Renders metrics in the text formats of Prometheus and OpenMetrics."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .families import FAMILIES, Family, Kind
from .recorder import Metrics


class Exposition(Collector):
    """A collector in a registry of its own, apart from other uses of prometheus_client in the
    process. A project that wants these metrics in its own registry registers the collector there.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def describe(self) -> list[Metric]:
        """Returns every family without numbers, which is all that registering needs."""
        return [_family(family) for family in FAMILIES.values()]

    def collect(self) -> Iterator[Metric]:
        """Yields every family with the numbers of all processes."""
        found = {name: _family(family) for name, family in FAMILIES.items()}
        for (name, labels), values in sorted(self._metrics.total().items()):
            family, metric = FAMILIES[name], found[name]
            if isinstance(metric, HistogramMetricFamily):
                *counts, total = values
                if not any(counts):
                    continue
                bounds = [*map(floatToGoString, family.buckets), "+Inf"]
                metric.add_metric(
                    labels, list(zip(bounds, accumulate(counts), strict=True)), sum_value=total
                )
            else:
                assert isinstance(metric, CounterMetricFamily | GaugeMetricFamily)
                metric.add_metric(labels, values[0])
        yield from found.values()

    def text(self, accept: str) -> tuple[bytes, str]:
        """Returns the text in the format that an `Accept` header requests, and its media type."""
        try:
            encode, media_type = choose_encoder(accept)
        except (TypeError, ValueError):
            # The header requests an invalid version.
            encode, media_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return encode(self._registry), media_type


def _family(family: Family) -> Metric:
    if family.kind is Kind.HISTOGRAM:
        return HistogramMetricFamily(
            family.name, family.help, labels=family.labels, unit=family.unit
        )
    if family.kind is Kind.COUNTER:
        return CounterMetricFamily(family.name, family.help, labels=family.labels, unit=family.unit)
    return GaugeMetricFamily(family.name, family.help, labels=family.labels, unit=family.unit)
