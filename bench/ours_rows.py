"""Fills the database of our gateway for one run: `python -m bench.ours_rows`, the rest of the
settings from the environment. Prints the keys that load is sent with, as JSON.
"""

import argparse
import json
import secrets
from decimal import Decimal

import django

BATCH = 5_000
# Load cycles through at most this many routes and keys, so that they stay warm.
MOST_USED = 1_000


def route_names(routes: int) -> list[str]:
    """The use cases that load asks for."""
    return [f"bench-{index}" for index in range(min(routes, MOST_USED))]


def write_routing(routes: int, plain: str, stream: str, sizes: list[str]) -> None:
    """Creates models with a route each, one route for streams, and one for each size of answer."""
    from llm_routing.models import ModelConfig, Provider, RouteTarget, UseCaseRoute

    def provider(name: str, base_url: str) -> Provider:
        return Provider.objects.create(
            name=name,
            vendor="openai",
            base_url=f"{base_url}/v1",
            api_key_env="BENCH_UPSTREAM_KEY",
            max_connections=8192,
        )

    def write(owner: Provider, names: list[str]) -> None:
        models = ModelConfig.objects.bulk_create(
            [
                ModelConfig(
                    provider=owner,
                    model_id=name,
                    input_price=Decimal("0.5"),
                    output_price=Decimal("1.5"),
                )
                for name in names
            ],
            batch_size=BATCH,
        )
        made = UseCaseRoute.objects.bulk_create(
            [UseCaseRoute(use_case=name) for name in names], batch_size=BATCH
        )
        pairs = zip(made, models, strict=True)
        RouteTarget.objects.bulk_create(
            [RouteTarget(route=route, model=model) for route, model in pairs], batch_size=BATCH
        )

    write(provider("plain", plain), [f"bench-{index}" for index in range(routes)])
    write(provider("stream", stream), ["bench-stream"])
    for size in sizes:
        write(provider(f"plain-{size}", f"{plain}/{size}"), [f"bench-{size}"])


def write_keys(count: int) -> list[str]:
    """Creates API keys; returns the clear text of those that the load uses."""
    from django.db import transaction
    from django.db.models import QuerySet

    from llm_routing.models import ApiKey

    clear = [ApiKey.objects.issue(f"used-{n}")[1] for n in range(min(count, MOST_USED))]
    # Keys that stand by have no history: a million rows less, and nothing reads them.
    plain: QuerySet[ApiKey] = QuerySet(ApiKey)
    with transaction.atomic():
        for start in range(len(clear), count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            plain.bulk_create(
                ApiKey(name=f"idle-{n}", prefix="sk-llm-idle", digest=secrets.token_hex(32))
                for n in numbers
            )
    return clear


def main() -> None:
    """Migrates, writes, prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--routes", type=int, required=True)
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--plain", required=True)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--sizes", nargs="*", default=[])
    arguments = parser.parse_args()
    django.setup()
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)
    write_routing(arguments.routes, arguments.plain, arguments.stream, arguments.sizes)
    print(json.dumps(write_keys(arguments.keys)))


if __name__ == "__main__":
    main()
