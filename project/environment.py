"""Reads settings out of environment variables and says what is wrong with them.

No setting is decided here; `settings.py` decides.
"""

import os
import secrets
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import dj_database_url
import dotenv
from django.core.exceptions import ImproperlyConfigured

from llm_routing.system.private_files import private_directory, private_file, restrict_to_owner
from llm_routing.system.redis_address import FORMS, parse_redis_url

DEVELOPMENT_FILE = "development.env"
TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"", "0", "false", "no", "off"})


def var_dir() -> Path:
    """The directory of the project's files: DJANGO_VAR_DIR, else `var` beside `manage.py`."""
    return Path(os.environ.get("DJANGO_VAR_DIR") or Path(__file__).resolve().parent.parent / "var")


def keep_private(directory: Path) -> None:
    """Close the project's files to others, if there are any yet."""
    if directory.is_dir():
        with suppress(OSError):
            private_directory(directory)
        restrict_to_owner(directory, is_deep=False)


def load(directory: Path) -> None:
    """Complete the environment from the file that `make run` leaves in `directory`, so that every
    command of a clone has the settings of the server. A variable that is set comes first.

    Docker and shells that read a file with Windows line ends leave a carriage return at the end of
    each value; it is removed.
    """
    for name, value in os.environ.items():
        if value.endswith("\r"):
            os.environ[name] = value.rstrip("\r")
    for name, text in dotenv.dotenv_values(directory / DEVELOPMENT_FILE, interpolate=False).items():
        os.environ.setdefault(name, text or "")


def flag(name: str, default: bool = False) -> bool:
    """A yes or no: 1/true/yes/on or 0/false/no/off.

    Raises ImproperlyConfigured for anything else, so that a typing error never means "no".
    """
    value = os.environ.get(name)
    if value is None:
        return default
    word = value.strip().lower()
    if word not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name} must be 1 or 0, not {value!r}.")
    return word in TRUE


def words(name: str, default: str = "") -> list[str]:
    """A list separated by commas, blanks around its words dropped."""
    return [word for part in os.environ.get(name, default).split(",") if (word := part.strip())]


def number(name: str, default: int) -> int:
    """A whole number that is not negative. Raises ImproperlyConfigured for anything else."""
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    if not value.isascii() or not value.isdigit():
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.")
    return int(value)


def secret_key(path: Path) -> str:
    """DJANGO_SECRET_KEY, or else a key made once and kept in `path` for its owner's eyes alone."""
    if from_environment := os.environ.get("DJANGO_SECRET_KEY"):
        return from_environment
    private_directory(path.parent)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(16)}")
    try:
        if not path.exists():
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(50))
            # A hard link appears whole or not at all, and the first of two processes wins.
            os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)
    return path.read_text().strip()


def database(default_file: Path) -> dict[str, Any]:
    """The entry of DATABASES that DATABASE_URL names, or SQLite in `default_file`.

    Understands sqlite, postgres, postgresql, mysql, mariadb and, for those who share one variable
    with an asyncio service, postgresql+asyncpg (whose `ssl` option is libpq's `sslmode`). Raises
    ImproperlyConfigured for any other scheme; the message holds no password.
    """
    url = os.environ.get("DATABASE_URL", "").strip()
    if not url:
        private_directory(default_file.parent)
        url = f"sqlite:///{default_file}"
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            return sqlite(url)
        case "postgres" | "postgresql":
            return postgresql(url)
        case "postgresql+asyncpg":
            names = {"ssl": "sslmode"}
            query = urlencode([(names.get(k, k), v) for k, v in parse_qsl(parts.query)])
            return postgresql(urlunsplit(parts._replace(scheme="postgresql", query=query)))
        case "mysql" | "mariadb":
            return mysql(urlunsplit(parts._replace(scheme="mysql")))
        case scheme:
            raise ImproperlyConfigured(
                f"DATABASE_URL begins with {scheme!r}; "
                "it must be sqlite, postgres, postgresql, postgresql+asyncpg, mysql or mariadb."
            )


def sqlite(url: str) -> dict[str, Any]:
    """SQLite as a server wants it: readers beside one writer, who waits and never deadlocks.

    IMMEDIATE takes the write lock when a transaction begins; a lock taken later could fail at once,
    without the wait. https://docs.djangoproject.com/en/5.2/ref/databases/#sqlite-notes
    """
    settings: dict[str, Any] = dict(dj_database_url.parse(url))
    _close_to_others(settings["NAME"])
    settings["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        **settings.get("OPTIONS", {}),
    }
    return settings


def _close_to_others(name: str) -> None:
    """Makes SQLite's file before SQLite does. Its journals get the modes of the file."""
    path = Path(name)
    if not name or name.startswith((":", "file:")) or not path.parent.is_dir():
        return
    with suppress(OSError):
        private_file(path)
        for journal in path.parent.glob(f"{path.name}-*"):
            private_file(journal)


def postgresql(url: str) -> dict[str, Any]:
    """PostgreSQL behind a pool of connections, each checked before it is handed out.

    Under ASGI a request's thread does not live long enough for Django's persistent connections.
    https://docs.djangoproject.com/en/5.2/ref/databases/#connection-pool
    Nothing waits for ever: not for a machine that is gone, nor for a server that does not answer.
    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
    """
    settings: dict[str, Any] = dict(dj_database_url.parse(url, conn_health_checks=True))
    pool: dict[str, Any] = {
        "min_size": 0,
        "max_size": number("DATABASE_POOL_SIZE", 10),
        "timeout": 5,
        # Longer, and the pauses between its attempts grow with the time the database is away.
        "reconnect_timeout": 5,
    }
    limits: dict[str, Any] = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }
    if seconds := number("DATABASE_TIMEOUT", 15):
        # Here, so that a process on SQLite does not hold psycopg in memory.
        from llm_routing.backends.postgresql import limited_connection

        limits["options"] = (
            f"-c statement_timeout={seconds}s -c idle_in_transaction_session_timeout=60s"
        )
        # A little later than the server's own limit, whose error says more.
        pool["connection_class"] = limited_connection(seconds + 2)
    settings["OPTIONS"] = {"pool": pool, **limits, **settings.get("OPTIONS", {})}
    return settings


def mysql(url: str) -> dict[str, Any]:
    """MySQL or MariaDB, by mysqlclient where that is installed, else by PyMySQL.

    Nothing waits for ever: not for a connection, an answer or a lock. Strict mode refuses a value
    that a column cannot hold; without it the database would cut it off.
    https://docs.djangoproject.com/en/5.2/ref/databases/#mysql-notes
    """
    if find_spec("MySQLdb") is None:
        # Takes the name of mysqlclient, the one driver that Django knows. It needs no compiler.
        import pymysql

        pymysql.install_as_MySQLdb()
    settings: dict[str, Any] = dict(dj_database_url.parse(url, conn_health_checks=True))
    given = settings.get("OPTIONS", {})
    options: dict[str, Any] = {
        "charset": "utf8mb4",
        "connect_timeout": 5,
        "init_command": "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')",
    }
    if seconds := number("DATABASE_TIMEOUT", 15):
        options |= {"read_timeout": seconds + 2, "write_timeout": seconds + 2}
        options["init_command"] += f", innodb_lock_wait_timeout = {seconds}"
    # A URL's options are texts, and the drivers take these as numbers.
    numbers = {name: int(given[name]) for name in given if name.endswith("_timeout")}
    settings["OPTIONS"] = {**options, **given, **numbers}
    return settings


def caches() -> dict[str, dict[str, Any]]:
    """CACHES on REDIS_URL with values as JSON, or else in the memory of each process: also with a
    Redis Cluster, for which django-redis has no client. Raises ImproperlyConfigured."""
    url = os.environ.get("REDIS_URL", "").strip()
    if not url or "+cluster://" in url:
        return {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    options: dict[str, Any] = {
        "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
        "SOCKET_CONNECT_TIMEOUT": 2,
        "SOCKET_TIMEOUT": 2,
    }
    if "+sentinel://" in url:
        try:
            address = parse_redis_url(url)
        except ValueError:
            # The parser's own words may quote a password.
            raise ImproperlyConfigured(f"REDIS_URL: expected {FORMS}") from None
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        scheme, number = parts.scheme.partition("+")[0], address.options.get("db") or 0
        url = f"{scheme}://{user}{at}{address.service}/{number}"
        options |= {
            "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
            "SENTINELS": list(address.hosts),
            "SENTINEL_KWARGS": {"socket_timeout": 2, **address.sentinel_options},
        }
    return {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": url,
            "KEY_PREFIX": "llm_routing",
            "OPTIONS": options,
        }
    }
