from decimal import Decimal

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import django.utils.timezone
import simple_history.models
from django.db import migrations, models

import llm_routing.models.fields
import llm_routing.models.model_configs
import llm_routing.models.text


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="BreakerReset",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "provider",
                    llm_routing.models.text.ExactCharField(max_length=64, verbose_name="provider"),
                ),
                (
                    "model",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=200, verbose_name="model"
                    ),
                ),
                (
                    "ordered_by",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=150, verbose_name="ordered by"
                    ),
                ),
                ("ordered_at", models.DateTimeField(verbose_name="ordered")),
            ],
            options={
                "verbose_name": "circuit breaker reset",
                "verbose_name_plural": "circuit breaker resets",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="ConfigurationVersion",
            fields=[
                (
                    "area",
                    llm_routing.models.text.ExactCharField(
                        choices=[
                            ("routing", "routing"),
                            ("access", "access"),
                            ("health", "health"),
                        ],
                        max_length=16,
                        primary_key=True,
                        serialize=False,
                        verbose_name="area",
                    ),
                ),
                ("version", models.PositiveBigIntegerField(default=0, verbose_name="version")),
                (
                    "stamp",
                    llm_routing.models.text.ExactCharField(
                        blank=True, default="", max_length=32, verbose_name="stamp"
                    ),
                ),
            ],
            options={
                "verbose_name": "configuration version",
                "verbose_name_plural": "configuration versions",
            },
        ),
        migrations.CreateModel(
            name="HistoricalApiKey",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                (
                    "name",
                    llm_routing.models.text.ExactCharField(
                        db_index=True,
                        error_messages={"unique": "There is already a key with this name."},
                        help_text="The person or service that uses the key; recorded with its usage.",
                        max_length=100,
                        validators=[llm_routing.models.fields.address_name],
                        verbose_name="name",
                    ),
                ),
                (
                    "tenant",
                    llm_routing.models.text.ExactSlugField(
                        default="default",
                        help_text="Caches and usage records are separate for each tenant.",
                        max_length=64,
                        verbose_name="tenant",
                    ),
                ),
                (
                    "prefix",
                    llm_routing.models.text.ExactCharField(
                        editable=False,
                        help_text="The start of the key, which identifies it.",
                        max_length=12,
                        verbose_name="prefix",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Off: the key is revoked, and requests with it are rejected.",
                        verbose_name="active",
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="The key is rejected from then on. Empty: never.",
                        null=True,
                        verbose_name="expires",
                    ),
                ),
                (
                    "deadline",
                    models.FloatField(
                        blank=True,
                        help_text="Maximum seconds for a request with this key. Empty: as in the route or the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="deadline",
                    ),
                ),
                (
                    "reads_metrics",
                    models.BooleanField(
                        default=False,
                        help_text="On: the key may read /metrics, which includes all tenants.",
                        verbose_name="reads metrics",
                    ),
                ),
                (
                    "history_change_reason",
                    llm_routing.models.text.ExactCharField(max_length=100, null=True),
                ),
                (
                    "history_user_id",
                    llm_routing.models.text.ExactCharField(max_length=255, null=True),
                ),
                (
                    "history_id",
                    models.BigAutoField(editable=False, primary_key=True, serialize=False),
                ),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
            ],
            options={
                "verbose_name": "historical API key",
                "verbose_name_plural": "historical API keys",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalProvider",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                (
                    "name",
                    llm_routing.models.text.ExactSlugField(
                        error_messages={"unique": "There is already a provider with this name."},
                        help_text="A short and permanent name, such as “openai”: it is part of every model's address.",
                        max_length=64,
                        verbose_name="name",
                    ),
                ),
                (
                    "vendor",
                    llm_routing.models.text.ExactCharField(
                        help_text="The vendor whose API this is. It determines the wire format and how the key is sent.",
                        max_length=32,
                        verbose_name="vendor",
                    ),
                ),
                (
                    "base_url",
                    llm_routing.models.text.ExactCharField(
                        blank=True,
                        help_text="Empty: the vendor's own address. Private addresses are allowed only if the settings allow their network (LLM_ALLOWED_UPSTREAM_NETWORKS).",
                        max_length=500,
                        verbose_name="base URL",
                    ),
                ),
                (
                    "api_key_env",
                    llm_routing.models.text.ExactCharField(
                        blank=True,
                        help_text="The environment variable with the API key. Preferred, because then the key is not in the database. Empty: the vendor's own variable.",
                        max_length=128,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^(?![0-9])[A-Za-z0-9_]*API_KEY[A-Za-z0-9_]*\\Z",
                                "Name an environment variable with API_KEY in its name, such as ACME_API_KEY: letters, digits and underscores only.",
                                code="api_key_variable",
                            )
                        ],
                        verbose_name="key variable",
                    ),
                ),
                (
                    "key_changed_at",
                    models.DateTimeField(
                        editable=False,
                        help_text="When the stored key was last set or cleared.",
                        null=True,
                        verbose_name="API key changed",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Off: no requests go to any of its models.",
                        verbose_name="active",
                    ),
                ),
                (
                    "priority",
                    models.PositiveSmallIntegerField(
                        default=100,
                        help_text="Among targets in one position of a route, the lowest number comes first.",
                        verbose_name="priority",
                    ),
                ),
                (
                    "connect_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds to wait for a connection. Empty: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="connect timeout",
                    ),
                ),
                (
                    "first_token_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds to wait for the first token of an answer. Empty: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="first token timeout",
                    ),
                ),
                (
                    "idle_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds that a stream may pause between tokens. Empty: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="idle timeout",
                    ),
                ),
                (
                    "total_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Maximum seconds for one attempt. Empty: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="total timeout",
                    ),
                ),
                (
                    "max_connections",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Maximum open connections per process. Empty: as in the settings.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="most connections",
                    ),
                ),
                (
                    "notes",
                    models.TextField(
                        blank=True, help_text="For operators; never sent.", verbose_name="notes"
                    ),
                ),
                (
                    "history_change_reason",
                    llm_routing.models.text.ExactCharField(max_length=100, null=True),
                ),
                (
                    "history_user_id",
                    llm_routing.models.text.ExactCharField(max_length=255, null=True),
                ),
                (
                    "history_id",
                    models.BigAutoField(editable=False, primary_key=True, serialize=False),
                ),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
            ],
            options={
                "verbose_name": "historical provider",
                "verbose_name_plural": "historical providers",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalUseCaseRoute",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                (
                    "use_case",
                    llm_routing.models.text.ExactCharField(
                        db_index=True,
                        help_text="The name that callers request, such as “debugging”. Any name is possible.",
                        max_length=64,
                        validators=[llm_routing.models.fields.address_name],
                        verbose_name="use case",
                    ),
                ),
                (
                    "tier",
                    llm_routing.models.text.ExactCharField(
                        choices=[
                            ("premium", "Premium"),
                            ("standard", "Standard"),
                            ("economy", "Economy"),
                        ],
                        default="standard",
                        help_text="If a use case lacks the requested tier, Standard serves it.",
                        max_length=16,
                        verbose_name="tier",
                    ),
                ),
                (
                    "system_prompt",
                    models.TextField(
                        blank=True,
                        help_text="Inserted before the conversation, unless the caller sends a system prompt.",
                        verbose_name="system prompt",
                    ),
                ),
                (
                    "temperature",
                    models.FloatField(
                        blank=True,
                        help_text="From 0 (deterministic) to 2 (random). Empty: the vendor's default.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.0),
                            django.core.validators.MaxValueValidator(2.0),
                        ],
                        verbose_name="temperature",
                    ),
                ),
                (
                    "max_tokens",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Maximum tokens of an answer. Empty: the vendor's default.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="most tokens",
                    ),
                ),
                (
                    "cache_ttl",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Seconds that an answer may be served from the cache. 0: never. Empty: as in the settings.",
                        null=True,
                        verbose_name="cache lifetime",
                    ),
                ),
                (
                    "deadline",
                    models.FloatField(
                        blank=True,
                        help_text="Maximum seconds for a request, including every attempt. Empty: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="deadline",
                    ),
                ),
                (
                    "connect_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds to wait for a connection. Empty: as in the provider or the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="connect timeout",
                    ),
                ),
                (
                    "first_token_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds to wait for the first token of a stream before the next target is tried. Empty: as in the provider or the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="first token timeout",
                    ),
                ),
                (
                    "idle_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds that a stream may pause between tokens. Empty: as in the provider or the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="idle timeout",
                    ),
                ),
                (
                    "stream_recovery",
                    llm_routing.models.text.ExactCharField(
                        choices=[
                            ("error", "End it with an error"),
                            ("continue", "Have another model continue it"),
                            ("buffer", "Send it only when it is complete"),
                        ],
                        default="error",
                        help_text="What happens if a stream breaks after callers have received part of it. Only models with the capability “Prefill” can continue a stream.",
                        max_length=16,
                        verbose_name="a stream that breaks off",
                    ),
                ),
                (
                    "is_hedged",
                    models.BooleanField(
                        default=False,
                        help_text="Also try the next target if the first one is slower than usual; the first good answer wins, and both may be billed.",
                        verbose_name="hedged",
                    ),
                ),
                (
                    "probes_when_all_open",
                    models.BooleanField(
                        default=False,
                        help_text="Off: requests are rejected at once while every circuit breaker is open.",
                        verbose_name="ask even when all circuits are open",
                    ),
                ),
                (
                    "allowed_fields",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="Request fields that callers of this route may send although they can change the model, the provider or the price, or make the provider send requests. Other such fields are ignored or rejected.",
                        verbose_name="allowed fields",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Off: callers get the error that the route does not exist.",
                        verbose_name="active",
                    ),
                ),
                (
                    "history_change_reason",
                    llm_routing.models.text.ExactCharField(max_length=100, null=True),
                ),
                (
                    "history_user_id",
                    llm_routing.models.text.ExactCharField(max_length=255, null=True),
                ),
                (
                    "history_id",
                    models.BigAutoField(editable=False, primary_key=True, serialize=False),
                ),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
            ],
            options={
                "verbose_name": "historical route",
                "verbose_name_plural": "historical routes",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="SweepLease",
            fields=[
                (
                    "name",
                    llm_routing.models.text.ExactCharField(
                        max_length=32, primary_key=True, serialize=False, verbose_name="name"
                    ),
                ),
                (
                    "holder",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=200, verbose_name="holder"
                    ),
                ),
                ("claimed_at", models.DateTimeField(null=True, verbose_name="claimed")),
                ("expires_at", models.DateTimeField(null=True, verbose_name="expires")),
                ("swept_at", models.DateTimeField(null=True, verbose_name="last sweep")),
            ],
            options={
                "verbose_name": "sweep lease",
                "verbose_name_plural": "sweep leases",
            },
        ),
        migrations.CreateModel(
            name="ApiKey",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "name",
                    llm_routing.models.text.ExactCharField(
                        error_messages={"unique": "There is already a key with this name."},
                        help_text="The person or service that uses the key; recorded with its usage.",
                        max_length=100,
                        unique=True,
                        validators=[llm_routing.models.fields.address_name],
                        verbose_name="name",
                    ),
                ),
                (
                    "tenant",
                    llm_routing.models.text.ExactSlugField(
                        default="default",
                        help_text="Caches and usage records are separate for each tenant.",
                        max_length=64,
                        verbose_name="tenant",
                    ),
                ),
                (
                    "prefix",
                    llm_routing.models.text.ExactCharField(
                        editable=False,
                        help_text="The start of the key, which identifies it.",
                        max_length=12,
                        verbose_name="prefix",
                    ),
                ),
                (
                    "digest",
                    llm_routing.models.text.ExactCharField(
                        editable=False, max_length=64, unique=True, verbose_name="digest"
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Off: the key is revoked, and requests with it are rejected.",
                        verbose_name="active",
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="The key is rejected from then on. Empty: never.",
                        null=True,
                        verbose_name="expires",
                    ),
                ),
                (
                    "deadline",
                    models.FloatField(
                        blank=True,
                        help_text="Maximum seconds for a request with this key. Empty: as in the route or the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="deadline",
                    ),
                ),
                (
                    "reads_metrics",
                    models.BooleanField(
                        default=False,
                        help_text="On: the key may read /metrics, which includes all tenants.",
                        verbose_name="reads metrics",
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
            ],
            options={
                "verbose_name": "API key",
                "verbose_name_plural": "API keys",
                "ordering": ("name",),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("name", ""), _negated=True),
                        name="llm_key_name_filled",
                        violation_error_code="name",
                        violation_error_message="A key needs a name.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("tenant", ""), _negated=True),
                        name="llm_key_tenant_filled",
                        violation_error_code="tenant",
                        violation_error_message="A key needs a tenant.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("name", django.db.models.functions.text.Trim("name"))),
                        name="llm_key_name_trimmed",
                        violation_error_code="name",
                        violation_error_message="Write this without blanks at the beginning or the end.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("tenant", django.db.models.functions.text.Trim("tenant"))
                        ),
                        name="llm_key_tenant_trimmed",
                        violation_error_code="tenant",
                        violation_error_message="Write this without blanks at the beginning or the end.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("digest__regex", "^[0-9a-f]{64}$")),
                        name="llm_key_digest",
                        violation_error_code="digest",
                        violation_error_message="A key is stored only as its digest.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("deadline__gte", 0.001), ("deadline__lte", 3600.0)),
                            ("deadline__isnull", True),
                            _connector="OR",
                        ),
                        name="llm_key_deadline",
                        violation_error_code="deadline",
                        violation_error_message="A deadline must be more than 0 and at most 3600 seconds.",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BreakerReport",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "process",
                    llm_routing.models.text.ExactCharField(max_length=150, verbose_name="process"),
                ),
                (
                    "provider",
                    llm_routing.models.text.ExactCharField(max_length=64, verbose_name="provider"),
                ),
                (
                    "model",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=200, verbose_name="model"
                    ),
                ),
                (
                    "credential",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=32, verbose_name="credential"
                    ),
                ),
                (
                    "state",
                    llm_routing.models.text.ExactCharField(
                        choices=[("open", "Open"), ("half_open", "Half open")],
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "cause",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=64, verbose_name="cause"
                    ),
                ),
                ("openings", models.PositiveIntegerField(default=1, verbose_name="openings")),
                ("opened_at", models.DateTimeField(verbose_name="open since")),
                ("retry_at", models.DateTimeField(verbose_name="next probe")),
                ("seen_at", models.DateTimeField(verbose_name="reported")),
            ],
            options={
                "verbose_name": "open circuit breaker",
                "verbose_name_plural": "open circuit breakers",
                "ordering": ("provider", "model", "process"),
                "permissions": (("reset_breaker", "Can reset circuit breakers"),),
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("process", "provider", "model"), name="llm_breaker_of_process"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="HealthCheck",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "provider",
                    llm_routing.models.text.ExactCharField(max_length=64, verbose_name="provider"),
                ),
                (
                    "model",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=200, verbose_name="model"
                    ),
                ),
                (
                    "kind",
                    llm_routing.models.text.ExactCharField(
                        default="sweep", max_length=32, verbose_name="kind"
                    ),
                ),
                ("is_healthy", models.BooleanField(verbose_name="healthy")),
                (
                    "error_code",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=64, verbose_name="error"
                    ),
                ),
                (
                    "latency_ms",
                    models.FloatField(blank=True, null=True, verbose_name="latency in ms"),
                ),
                (
                    "checked_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="checked"),
                ),
            ],
            options={
                "verbose_name": "health check",
                "verbose_name_plural": "health checks",
                "ordering": ("-checked_at", "-id"),
                "indexes": [
                    models.Index(fields=["-checked_at", "-id"], name="llm_health_checked"),
                    models.Index(
                        fields=["provider", "model", "-checked_at"],
                        name="llm_health_target_checked",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("latency_ms__gte", 0), ("latency_ms__isnull", True), _connector="OR"
                        ),
                        name="llm_health_latency_ms",
                        violation_error_code="latency_ms",
                        violation_error_message="A latency must not be below 0.",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Provider",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "name",
                    llm_routing.models.text.ExactSlugField(
                        error_messages={"unique": "There is already a provider with this name."},
                        help_text="A short and permanent name, such as “openai”: it is part of every model's address.",
                        max_length=64,
                        unique=True,
                        verbose_name="name",
                    ),
                ),
                (
                    "vendor",
                    llm_routing.models.text.ExactCharField(
                        help_text="The vendor whose API this is. It determines the wire format and how the key is sent.",
                        max_length=32,
                        verbose_name="vendor",
                    ),
                ),
                (
                    "base_url",
                    llm_routing.models.text.ExactCharField(
                        blank=True,
                        help_text="Empty: the vendor's own address. Private addresses are allowed only if the settings allow their network (LLM_ALLOWED_UPSTREAM_NETWORKS).",
                        max_length=500,
                        verbose_name="base URL",
                    ),
                ),
                (
                    "api_key_env",
                    llm_routing.models.text.ExactCharField(
                        blank=True,
                        help_text="The environment variable with the API key. Preferred, because then the key is not in the database. Empty: the vendor's own variable.",
                        max_length=128,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^(?![0-9])[A-Za-z0-9_]*API_KEY[A-Za-z0-9_]*\\Z",
                                "Name an environment variable with API_KEY in its name, such as ACME_API_KEY: letters, digits and underscores only.",
                                code="api_key_variable",
                            )
                        ],
                        verbose_name="key variable",
                    ),
                ),
                (
                    "encrypted_key",
                    models.TextField(blank=True, editable=False, verbose_name="stored API key"),
                ),
                (
                    "key_changed_at",
                    models.DateTimeField(
                        editable=False,
                        help_text="When the stored key was last set or cleared.",
                        null=True,
                        verbose_name="API key changed",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Off: no requests go to any of its models.",
                        verbose_name="active",
                    ),
                ),
                (
                    "priority",
                    models.PositiveSmallIntegerField(
                        default=100,
                        help_text="Among targets in one position of a route, the lowest number comes first.",
                        verbose_name="priority",
                    ),
                ),
                (
                    "connect_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds to wait for a connection. Empty: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="connect timeout",
                    ),
                ),
                (
                    "first_token_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds to wait for the first token of an answer. Empty: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="first token timeout",
                    ),
                ),
                (
                    "idle_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds that a stream may pause between tokens. Empty: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="idle timeout",
                    ),
                ),
                (
                    "total_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Maximum seconds for one attempt. Empty: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="total timeout",
                    ),
                ),
                (
                    "max_connections",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Maximum open connections per process. Empty: as in the settings.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="most connections",
                    ),
                ),
                (
                    "notes",
                    models.TextField(
                        blank=True, help_text="For operators; never sent.", verbose_name="notes"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="changed")),
            ],
            options={
                "verbose_name": "provider",
                "verbose_name_plural": "providers",
                "ordering": ("priority", "name"),
                "permissions": (
                    ("check_health", "Can check the health of providers now"),
                    ("discover_models", "Can discover the models of providers"),
                    (
                        "send_environment_keys",
                        "Can have keys of the environment sent to any address",
                    ),
                ),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("name", ""), _negated=True),
                        name="llm_provider_name_filled",
                        violation_error_code="name",
                        violation_error_message="A provider needs a name.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("vendor", ""), _negated=True),
                        name="llm_provider_vendor_filled",
                        violation_error_code="vendor",
                        violation_error_message="A provider needs a vendor.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("name", django.db.models.functions.text.Trim("name"))),
                        name="llm_provider_name_trimmed",
                        violation_error_code="name",
                        violation_error_message="Write this without blanks at the beginning or the end.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("base_url", ""),
                            ("base_url__startswith", "https://"),
                            ("base_url__startswith", "http://"),
                            _connector="OR",
                        ),
                        name="llm_provider_base_url",
                        violation_error_code="base_url",
                        violation_error_message="The base URL must begin with https:// or http://.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("connect_timeout__gte", 0.001), ("connect_timeout__lte", 3600.0)
                            ),
                            ("connect_timeout__isnull", True),
                            _connector="OR",
                        ),
                        name="llm_provider_connect_timeout",
                        violation_error_code="connect_timeout",
                        violation_error_message="A timeout must be more than 0 and at most 3600 seconds.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("first_token_timeout__gte", 0.001),
                                ("first_token_timeout__lte", 3600.0),
                            ),
                            ("first_token_timeout__isnull", True),
                            _connector="OR",
                        ),
                        name="llm_provider_first_token_timeout",
                        violation_error_code="first_token_timeout",
                        violation_error_message="A timeout must be more than 0 and at most 3600 seconds.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("idle_timeout__gte", 0.001), ("idle_timeout__lte", 3600.0)),
                            ("idle_timeout__isnull", True),
                            _connector="OR",
                        ),
                        name="llm_provider_idle_timeout",
                        violation_error_code="idle_timeout",
                        violation_error_message="A timeout must be more than 0 and at most 3600 seconds.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("total_timeout__gte", 0.001), ("total_timeout__lte", 3600.0)),
                            ("total_timeout__isnull", True),
                            _connector="OR",
                        ),
                        name="llm_provider_total_timeout",
                        violation_error_code="total_timeout",
                        violation_error_message="A timeout must be more than 0 and at most 3600 seconds.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("max_connections__gte", 1),
                            ("max_connections__isnull", True),
                            _connector="OR",
                        ),
                        name="llm_provider_max_connections",
                        violation_error_code="max_connections",
                        violation_error_message="A provider needs at least one connection.",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ModelConfig",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "model_id",
                    llm_routing.models.text.ExactCharField(
                        help_text="The provider's own identifier, sent unchanged: “gpt-5-mini”.",
                        max_length=200,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[^\\s\\x00-\\x1f\\x7f]+\\Z",
                                "Use no blanks or line breaks.",
                                code="blanks",
                            )
                        ],
                        verbose_name="model ID",
                    ),
                ),
                (
                    "alias",
                    llm_routing.models.text.ExactCharField(
                        blank=True,
                        error_messages={"unique": "Another model has this alias."},
                        help_text="A name that callers may use instead of “provider/model ID”, such as “gpt-4o” or “team/fast”. It takes precedence over an equal address.",
                        max_length=200,
                        null=True,
                        unique=True,
                        validators=[llm_routing.models.fields.address_name],
                        verbose_name="alias",
                    ),
                ),
                (
                    "display_name",
                    llm_routing.models.text.ExactCharField(
                        blank=True,
                        help_text="For people.",
                        max_length=100,
                        verbose_name="display name",
                    ),
                ),
                (
                    "capabilities",
                    models.JSONField(
                        blank=True,
                        default=llm_routing.models.model_configs.default_capabilities,
                        help_text="Requests go only to models that support what they need. Prefill: the model can continue a partial answer of another model.",
                        verbose_name="capabilities",
                    ),
                ),
                (
                    "quirks",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="No sampling: the model rejects temperature and top_p, so they are left out.",
                        verbose_name="quirks",
                    ),
                ),
                (
                    "context_window",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Maximum tokens of prompt and answer together. Empty: unknown.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="context window",
                    ),
                ),
                (
                    "max_output_tokens",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Maximum tokens of an answer. Empty: unknown.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="longest answer",
                    ),
                ),
                (
                    "input_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per million tokens of prompt. Empty: costs are unknown.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="input price",
                    ),
                ),
                (
                    "output_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per million tokens of answer. Empty: the cost of an answer is unknown. Embeddings need no output price.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="output price",
                    ),
                ),
                (
                    "cached_input_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per million tokens read from the provider's cache. Empty: the input price.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="cached input price",
                    ),
                ),
                (
                    "cache_write_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per million tokens written to the provider's cache for five minutes. Empty: 1.25 times the input price.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="cache write price",
                    ),
                ),
                (
                    "cache_write_1h_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per million tokens written to the provider's cache for an hour. Empty: twice the input price.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="1-hour cache write price",
                    ),
                ),
                (
                    "web_search_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per thousand web searches that the provider runs. Empty: costs of answers with searches are unknown.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="web search price",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Off: no requests go to this model.",
                        verbose_name="active",
                    ),
                ),
                (
                    "vanished_at",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="When the model was first missing from the provider's list of models.",
                        null=True,
                        verbose_name="vanished",
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="changed")),
                (
                    "provider",
                    models.ForeignKey(
                        help_text="The provider that runs the model.",
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="models",
                        to="llm_routing.provider",
                        verbose_name="provider",
                    ),
                ),
            ],
            options={
                "verbose_name": "model",
                "verbose_name_plural": "models",
                "ordering": ("provider", "model_id"),
            },
        ),
        migrations.CreateModel(
            name="HistoricalModelConfig",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                (
                    "model_id",
                    llm_routing.models.text.ExactCharField(
                        help_text="The provider's own identifier, sent unchanged: “gpt-5-mini”.",
                        max_length=200,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[^\\s\\x00-\\x1f\\x7f]+\\Z",
                                "Use no blanks or line breaks.",
                                code="blanks",
                            )
                        ],
                        verbose_name="model ID",
                    ),
                ),
                (
                    "alias",
                    llm_routing.models.text.ExactCharField(
                        blank=True,
                        db_index=True,
                        error_messages={"unique": "Another model has this alias."},
                        help_text="A name that callers may use instead of “provider/model ID”, such as “gpt-4o” or “team/fast”. It takes precedence over an equal address.",
                        max_length=200,
                        null=True,
                        validators=[llm_routing.models.fields.address_name],
                        verbose_name="alias",
                    ),
                ),
                (
                    "display_name",
                    llm_routing.models.text.ExactCharField(
                        blank=True,
                        help_text="For people.",
                        max_length=100,
                        verbose_name="display name",
                    ),
                ),
                (
                    "capabilities",
                    models.JSONField(
                        blank=True,
                        default=llm_routing.models.model_configs.default_capabilities,
                        help_text="Requests go only to models that support what they need. Prefill: the model can continue a partial answer of another model.",
                        verbose_name="capabilities",
                    ),
                ),
                (
                    "quirks",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="No sampling: the model rejects temperature and top_p, so they are left out.",
                        verbose_name="quirks",
                    ),
                ),
                (
                    "context_window",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Maximum tokens of prompt and answer together. Empty: unknown.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="context window",
                    ),
                ),
                (
                    "max_output_tokens",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Maximum tokens of an answer. Empty: unknown.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="longest answer",
                    ),
                ),
                (
                    "input_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per million tokens of prompt. Empty: costs are unknown.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="input price",
                    ),
                ),
                (
                    "output_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per million tokens of answer. Empty: the cost of an answer is unknown. Embeddings need no output price.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="output price",
                    ),
                ),
                (
                    "cached_input_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per million tokens read from the provider's cache. Empty: the input price.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="cached input price",
                    ),
                ),
                (
                    "cache_write_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per million tokens written to the provider's cache for five minutes. Empty: 1.25 times the input price.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="cache write price",
                    ),
                ),
                (
                    "cache_write_1h_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per million tokens written to the provider's cache for an hour. Empty: twice the input price.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="1-hour cache write price",
                    ),
                ),
                (
                    "web_search_price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="USD per thousand web searches that the provider runs. Empty: costs of answers with searches are unknown.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="web search price",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Off: no requests go to this model.",
                        verbose_name="active",
                    ),
                ),
                (
                    "history_change_reason",
                    llm_routing.models.text.ExactCharField(max_length=100, null=True),
                ),
                (
                    "history_user_id",
                    llm_routing.models.text.ExactCharField(max_length=255, null=True),
                ),
                (
                    "history_id",
                    models.BigAutoField(editable=False, primary_key=True, serialize=False),
                ),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "provider",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="The provider that runs the model.",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="llm_routing.provider",
                        verbose_name="provider",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical model",
                "verbose_name_plural": "historical models",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="UsageRecord",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "attempt_id",
                    llm_routing.models.text.ExactCharField(
                        max_length=64, unique=True, verbose_name="attempt ID"
                    ),
                ),
                (
                    "request_id",
                    llm_routing.models.text.ExactCharField(
                        max_length=128, verbose_name="request ID"
                    ),
                ),
                (
                    "tenant",
                    llm_routing.models.text.ExactCharField(
                        default="default", max_length=64, verbose_name="tenant"
                    ),
                ),
                (
                    "api_key_name",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=100, verbose_name="API key"
                    ),
                ),
                (
                    "operation",
                    llm_routing.models.text.ExactCharField(max_length=32, verbose_name="operation"),
                ),
                (
                    "use_case",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=64, verbose_name="use case"
                    ),
                ),
                (
                    "tier",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=16, verbose_name="tier"
                    ),
                ),
                (
                    "provider",
                    llm_routing.models.text.ExactCharField(max_length=64, verbose_name="provider"),
                ),
                (
                    "model",
                    llm_routing.models.text.ExactCharField(max_length=200, verbose_name="model"),
                ),
                ("attempt", models.PositiveSmallIntegerField(default=1, verbose_name="attempt")),
                (
                    "outcome",
                    llm_routing.models.text.ExactCharField(
                        choices=[
                            ("success", "Success"),
                            ("failure", "Failure"),
                            ("cancelled", "Cancelled"),
                            ("interrupted", "Interrupted"),
                        ],
                        max_length=16,
                        verbose_name="outcome",
                    ),
                ),
                (
                    "error_code",
                    llm_routing.models.text.ExactCharField(
                        blank=True, max_length=64, verbose_name="error"
                    ),
                ),
                (
                    "status",
                    models.PositiveSmallIntegerField(
                        blank=True, null=True, verbose_name="HTTP status"
                    ),
                ),
                (
                    "input_tokens",
                    models.PositiveIntegerField(default=0, verbose_name="input tokens"),
                ),
                (
                    "output_tokens",
                    models.PositiveIntegerField(default=0, verbose_name="output tokens"),
                ),
                (
                    "cached_input_tokens",
                    models.PositiveIntegerField(default=0, verbose_name="cached input tokens"),
                ),
                (
                    "cache_write_tokens",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="Input tokens written to the provider's cache.",
                        verbose_name="cache write tokens",
                    ),
                ),
                (
                    "cache_write_1h_tokens",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="The part of the cache write tokens that is cached for an hour.",
                        verbose_name="1-hour cache write tokens",
                    ),
                ),
                (
                    "reasoning_tokens",
                    models.PositiveIntegerField(default=0, verbose_name="reasoning tokens"),
                ),
                (
                    "web_searches",
                    models.PositiveIntegerField(default=0, verbose_name="web searches"),
                ),
                (
                    "is_estimated",
                    models.BooleanField(default=False, verbose_name="tokens estimated"),
                ),
                (
                    "cost",
                    models.DecimalField(
                        blank=True,
                        decimal_places=10,
                        help_text="Empty: unknown, because the model has no price. Zero is a known cost.",
                        max_digits=18,
                        null=True,
                        verbose_name="cost in USD",
                    ),
                ),
                (
                    "cost_source",
                    llm_routing.models.text.ExactCharField(
                        blank=True,
                        choices=[
                            ("vendor", "Provider's bill"),
                            ("price_list", "Price list"),
                            ("estimated", "Price list, tokens estimated"),
                        ],
                        default="",
                        max_length=16,
                        verbose_name="cost from",
                    ),
                ),
                ("latency_ms", models.FloatField(default=0.0, verbose_name="latency in ms")),
                (
                    "time_to_first_token_ms",
                    models.FloatField(
                        blank=True, null=True, verbose_name="time to first token in ms"
                    ),
                ),
                ("started_at", models.DateTimeField(verbose_name="started")),
                (
                    "upstream_request_id",
                    llm_routing.models.text.ExactCharField(
                        blank=True, default="", max_length=128, verbose_name="provider's request ID"
                    ),
                ),
                (
                    "error_message",
                    llm_routing.models.text.ExactCharField(
                        blank=True,
                        default="",
                        help_text="The provider's error message, without quotes from the request.",
                        max_length=300,
                        verbose_name="error message",
                    ),
                ),
            ],
            options={
                "verbose_name": "usage record",
                "verbose_name_plural": "usage records",
                "ordering": ("-started_at", "-id"),
                "indexes": [
                    models.Index(fields=["-started_at", "-id"], name="llm_usage_started"),
                    models.Index(fields=["tenant", "-started_at"], name="llm_usage_tenant_started"),
                    models.Index(fields=["request_id"], name="llm_usage_request"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("outcome__in", ["success", "failure", "cancelled", "interrupted"])
                        ),
                        name="llm_usage_outcome",
                        violation_error_code="outcome",
                        violation_error_message="The outcome is unknown.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("cost__gte", 0), ("cost__isnull", True), _connector="OR"
                        ),
                        name="llm_usage_cost",
                        violation_error_code="cost",
                        violation_error_message="A cost must not be below 0.",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="UseCaseRoute",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "use_case",
                    llm_routing.models.text.ExactCharField(
                        db_index=True,
                        help_text="The name that callers request, such as “debugging”. Any name is possible.",
                        max_length=64,
                        validators=[llm_routing.models.fields.address_name],
                        verbose_name="use case",
                    ),
                ),
                (
                    "tier",
                    llm_routing.models.text.ExactCharField(
                        choices=[
                            ("premium", "Premium"),
                            ("standard", "Standard"),
                            ("economy", "Economy"),
                        ],
                        default="standard",
                        help_text="If a use case lacks the requested tier, Standard serves it.",
                        max_length=16,
                        verbose_name="tier",
                    ),
                ),
                (
                    "system_prompt",
                    models.TextField(
                        blank=True,
                        help_text="Inserted before the conversation, unless the caller sends a system prompt.",
                        verbose_name="system prompt",
                    ),
                ),
                (
                    "temperature",
                    models.FloatField(
                        blank=True,
                        help_text="From 0 (deterministic) to 2 (random). Empty: the vendor's default.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.0),
                            django.core.validators.MaxValueValidator(2.0),
                        ],
                        verbose_name="temperature",
                    ),
                ),
                (
                    "max_tokens",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Maximum tokens of an answer. Empty: the vendor's default.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="most tokens",
                    ),
                ),
                (
                    "cache_ttl",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Seconds that an answer may be served from the cache. 0: never. Empty: as in the settings.",
                        null=True,
                        verbose_name="cache lifetime",
                    ),
                ),
                (
                    "deadline",
                    models.FloatField(
                        blank=True,
                        help_text="Maximum seconds for a request, including every attempt. Empty: as in the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="deadline",
                    ),
                ),
                (
                    "connect_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds to wait for a connection. Empty: as in the provider or the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="connect timeout",
                    ),
                ),
                (
                    "first_token_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds to wait for the first token of a stream before the next target is tried. Empty: as in the provider or the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="first token timeout",
                    ),
                ),
                (
                    "idle_timeout",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds that a stream may pause between tokens. Empty: as in the provider or the settings.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.001),
                            django.core.validators.MaxValueValidator(3600.0),
                        ],
                        verbose_name="idle timeout",
                    ),
                ),
                (
                    "stream_recovery",
                    llm_routing.models.text.ExactCharField(
                        choices=[
                            ("error", "End it with an error"),
                            ("continue", "Have another model continue it"),
                            ("buffer", "Send it only when it is complete"),
                        ],
                        default="error",
                        help_text="What happens if a stream breaks after callers have received part of it. Only models with the capability “Prefill” can continue a stream.",
                        max_length=16,
                        verbose_name="a stream that breaks off",
                    ),
                ),
                (
                    "is_hedged",
                    models.BooleanField(
                        default=False,
                        help_text="Also try the next target if the first one is slower than usual; the first good answer wins, and both may be billed.",
                        verbose_name="hedged",
                    ),
                ),
                (
                    "probes_when_all_open",
                    models.BooleanField(
                        default=False,
                        help_text="Off: requests are rejected at once while every circuit breaker is open.",
                        verbose_name="ask even when all circuits are open",
                    ),
                ),
                (
                    "allowed_fields",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="Request fields that callers of this route may send although they can change the model, the provider or the price, or make the provider send requests. Other such fields are ignored or rejected.",
                        verbose_name="allowed fields",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Off: callers get the error that the route does not exist.",
                        verbose_name="active",
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="changed")),
            ],
            options={
                "verbose_name": "route",
                "verbose_name_plural": "routes",
                "ordering": ("use_case", "tier"),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("use_case", "tier"),
                        name="llm_route_unique",
                        violation_error_message="There is already a route for this use case and tier.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("use_case", ""), _negated=True),
                        name="llm_route_use_case_filled",
                        violation_error_code="use_case",
                        violation_error_message="A route needs a use case.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("use_case", django.db.models.functions.text.Trim("use_case"))
                        ),
                        name="llm_route_use_case_trimmed",
                        violation_error_code="use_case",
                        violation_error_message="Write this without blanks at the beginning or the end.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("tier__in", ["premium", "standard", "economy"])),
                        name="llm_route_tier",
                        violation_error_code="tier",
                        violation_error_message="The tier must be premium, standard or economy.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("temperature__gte", 0), ("temperature__lte", 2)),
                            ("temperature__isnull", True),
                            _connector="OR",
                        ),
                        name="llm_route_temperature",
                        violation_error_code="temperature",
                        violation_error_message="A temperature must be from 0 to 2.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("max_tokens__gte", 1), ("max_tokens__isnull", True), _connector="OR"
                        ),
                        name="llm_route_max_tokens",
                        violation_error_code="max_tokens",
                        violation_error_message="The token limit of an answer must be at least 1.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("deadline__gte", 0.001), ("deadline__lte", 3600.0)),
                            ("deadline__isnull", True),
                            _connector="OR",
                        ),
                        name="llm_route_deadline",
                        violation_error_code="deadline",
                        violation_error_message="Deadlines and timeouts must be more than 0 and at most 3600 seconds.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("connect_timeout__gte", 0.001), ("connect_timeout__lte", 3600.0)
                            ),
                            ("connect_timeout__isnull", True),
                            _connector="OR",
                        ),
                        name="llm_route_connect_timeout",
                        violation_error_code="connect_timeout",
                        violation_error_message="Deadlines and timeouts must be more than 0 and at most 3600 seconds.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("first_token_timeout__gte", 0.001),
                                ("first_token_timeout__lte", 3600.0),
                            ),
                            ("first_token_timeout__isnull", True),
                            _connector="OR",
                        ),
                        name="llm_route_first_token_timeout",
                        violation_error_code="first_token_timeout",
                        violation_error_message="Deadlines and timeouts must be more than 0 and at most 3600 seconds.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("idle_timeout__gte", 0.001), ("idle_timeout__lte", 3600.0)),
                            ("idle_timeout__isnull", True),
                            _connector="OR",
                        ),
                        name="llm_route_idle_timeout",
                        violation_error_code="idle_timeout",
                        violation_error_message="Deadlines and timeouts must be more than 0 and at most 3600 seconds.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("stream_recovery__in", ["error", "continue", "buffer"])
                        ),
                        name="llm_route_stream_recovery",
                        violation_error_code="stream_recovery",
                        violation_error_message="The policy for broken streams must be error, continue or buffer.",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="RouteTarget",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "position",
                    models.PositiveSmallIntegerField(
                        default=0,
                        help_text="0 is tried first, then 1, and so on. Targets with equal positions share the load.",
                        verbose_name="position",
                    ),
                ),
                (
                    "weight",
                    models.PositiveSmallIntegerField(
                        default=1,
                        help_text="The share of requests among targets of the same position.",
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="weight",
                    ),
                ),
                (
                    "model",
                    models.ForeignKey(
                        help_text="The model that answers.",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="route_targets",
                        to="llm_routing.modelconfig",
                        verbose_name="model",
                    ),
                ),
                (
                    "route",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="targets",
                        to="llm_routing.usecaseroute",
                        verbose_name="route",
                    ),
                ),
            ],
            options={
                "verbose_name": "target",
                "verbose_name_plural": "targets",
                "ordering": ("position", "id"),
            },
        ),
        migrations.CreateModel(
            name="HistoricalRouteTarget",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                (
                    "position",
                    models.PositiveSmallIntegerField(
                        default=0,
                        help_text="0 is tried first, then 1, and so on. Targets with equal positions share the load.",
                        verbose_name="position",
                    ),
                ),
                (
                    "weight",
                    models.PositiveSmallIntegerField(
                        default=1,
                        help_text="The share of requests among targets of the same position.",
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="weight",
                    ),
                ),
                (
                    "history_change_reason",
                    llm_routing.models.text.ExactCharField(max_length=100, null=True),
                ),
                (
                    "history_user_id",
                    llm_routing.models.text.ExactCharField(max_length=255, null=True),
                ),
                (
                    "history_id",
                    models.BigAutoField(editable=False, primary_key=True, serialize=False),
                ),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "model",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="The model that answers.",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="llm_routing.modelconfig",
                        verbose_name="model",
                    ),
                ),
                (
                    "route",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="llm_routing.usecaseroute",
                        verbose_name="route",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical target",
                "verbose_name_plural": "historical targets",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.UniqueConstraint(
                fields=("provider", "model_id"),
                name="llm_model_unique",
                violation_error_message="This provider already has a model with this ID.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(("model_id", ""), _negated=True),
                name="llm_model_model_id_filled",
                violation_error_code="model_id",
                violation_error_message="A model needs an ID.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(("model_id", django.db.models.functions.text.Trim("model_id"))),
                name="llm_model_model_id_trimmed",
                violation_error_code="model_id",
                violation_error_message="Write this without blanks at the beginning or the end.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(("alias", django.db.models.functions.text.Trim("alias"))),
                name="llm_model_alias_trimmed",
                violation_error_code="alias",
                violation_error_message="Write this without blanks at the beginning or the end.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("alias__isnull", True), models.Q(("alias", ""), _negated=True), _connector="OR"
                ),
                name="llm_model_alias",
                violation_error_code="alias",
                violation_error_message="An alias must not be empty.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("input_price__gte", 0), ("input_price__isnull", True), _connector="OR"
                ),
                name="llm_model_input_price",
                violation_error_code="input_price",
                violation_error_message="A price must not be below 0.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("output_price__gte", 0), ("output_price__isnull", True), _connector="OR"
                ),
                name="llm_model_output_price",
                violation_error_code="output_price",
                violation_error_message="A price must not be below 0.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("cached_input_price__gte", 0),
                    ("cached_input_price__isnull", True),
                    _connector="OR",
                ),
                name="llm_model_cached_input_price",
                violation_error_code="cached_input_price",
                violation_error_message="A price must not be below 0.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("cache_write_price__gte", 0),
                    ("cache_write_price__isnull", True),
                    _connector="OR",
                ),
                name="llm_model_cache_write_price",
                violation_error_code="cache_write_price",
                violation_error_message="A price must not be below 0.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("cache_write_1h_price__gte", 0),
                    ("cache_write_1h_price__isnull", True),
                    _connector="OR",
                ),
                name="llm_model_cache_write_1h_price",
                violation_error_code="cache_write_1h_price",
                violation_error_message="A price must not be below 0.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("web_search_price__gte", 0),
                    ("web_search_price__isnull", True),
                    _connector="OR",
                ),
                name="llm_model_web_search_price",
                violation_error_code="web_search_price",
                violation_error_message="A price must not be below 0.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("context_window__gte", 1), ("context_window__isnull", True), _connector="OR"
                ),
                name="llm_model_context_window",
                violation_error_code="context_window",
                violation_error_message="A number of tokens must be at least 1.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("max_output_tokens__gte", 1),
                    ("max_output_tokens__isnull", True),
                    _connector="OR",
                ),
                name="llm_model_max_output_tokens",
                violation_error_code="max_output_tokens",
                violation_error_message="A number of tokens must be at least 1.",
            ),
        ),
        migrations.AddConstraint(
            model_name="routetarget",
            constraint=models.UniqueConstraint(
                fields=("route", "model"),
                name="llm_target_unique",
                violation_error_message="This model is already a target of the route.",
            ),
        ),
        migrations.AddConstraint(
            model_name="routetarget",
            constraint=models.CheckConstraint(
                condition=models.Q(("weight__gte", 1), ("weight__isnull", True), _connector="OR"),
                name="llm_target_weight",
                violation_error_code="weight",
                violation_error_message="A weight must be at least 1.",
            ),
        ),
    ]
