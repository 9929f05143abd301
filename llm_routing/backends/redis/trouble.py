"""Classifies failures of Redis by a short list of reasons, with advice for each.

Error messages of Redis are never repeated, because they may quote what was sent.
"""

import re
import ssl
from enum import StrEnum
from typing import Final


class RedisTrouble(StrEnum):
    """Reasons, by their metric label."""

    AWAY = "away"
    SILENT = "silent"
    SLOW = "slow"
    NOT_REDIS = "not_redis"
    CERTIFICATE = "certificate"
    CREDENTIALS = "credentials"
    NOT_PERMITTED = "not_permitted"
    READ_ONLY = "read_only"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_SAVING = "not_saving"
    LOADING = "loading"
    BUSY = "busy"
    CLUSTER = "cluster"
    CLUSTER_DOWN = "cluster_down"
    NO_MASTER = "no_master"
    NO_SCRIPTS = "no_scripts"
    WRONG_TYPE = "wrong_type"
    OTHER = "other"


ADVICE: Final = {
    RedisTrouble.AWAY: "no connection; see that it runs at the address in REDIS_URL",
    RedisTrouble.SILENT: "it did not answer within a tenth of a second",
    RedisTrouble.SLOW: "it answers, but too slowly to help; see its load and the network",
    RedisTrouble.NOT_REDIS: "the server at the address in REDIS_URL does not speak the protocol of "
    "Redis, or sent a reply that is too long",
    RedisTrouble.CERTIFICATE: "its certificate was not accepted; see ssl_ca_certs in REDIS_URL",
    RedisTrouble.CREDENTIALS: "it refused the user or the password in REDIS_URL, or requires one",
    RedisTrouble.NOT_PERMITTED: "the user in REDIS_URL lacks permissions: allow it EVAL, "
    "EVALSHA and the commands in docs/outages.md on the keys llm_routing:*",
    RedisTrouble.READ_ONLY: "it is a replica and accepts no writes; REDIS_URL must lead to the "
    "master, or to its Sentinels (redis+sentinel://)",
    RedisTrouble.OUT_OF_MEMORY: "its memory is full; set maxmemory-policy to allkeys-lru",
    RedisTrouble.NOT_SAVING: "it accepts no writes because it cannot save to its disk",
    RedisTrouble.LOADING: "it has just started and is loading its data",
    RedisTrouble.BUSY: "it is busy with a long script",
    RedisTrouble.CLUSTER: "it is a node of a cluster; write REDIS_URL as redis+cluster://",
    RedisTrouble.CLUSTER_DOWN: "the cluster has no master for some of its slots",
    RedisTrouble.NO_MASTER: "no Sentinel in REDIS_URL answers, or none knows a master of that name",
    RedisTrouble.NO_SCRIPTS: "it has no EVALSHA or EVAL, which we need",
    RedisTrouble.WRONG_TYPE: "a key of ours held another type of value; it was removed",
    RedisTrouble.OTHER: "it answered with an error",
}

_REASONS_BY_WORD: Final = {
    "WRONGTYPE": RedisTrouble.WRONG_TYPE,
    "READONLY": RedisTrouble.READ_ONLY,
    "OOM": RedisTrouble.OUT_OF_MEMORY,
    "MISCONF": RedisTrouble.NOT_SAVING,
    "NOPERM": RedisTrouble.NOT_PERMITTED,
    "WRONGPASS": RedisTrouble.CREDENTIALS,
    "NOAUTH": RedisTrouble.CREDENTIALS,
    "invalid password": RedisTrouble.CREDENTIALS,
    "without any password configured": RedisTrouble.CREDENTIALS,
    "LOADING": RedisTrouble.LOADING,
    "BUSY": RedisTrouble.BUSY,
    "MOVED": RedisTrouble.CLUSTER,
    "ASK": RedisTrouble.CLUSTER,
    "CLUSTERDOWN": RedisTrouble.CLUSTER_DOWN,
    "MASTERDOWN": RedisTrouble.READ_ONLY,
    "NOREPLICAS": RedisTrouble.READ_ONLY,
    "max number of clients": RedisTrouble.AWAY,
    "unknown command": RedisTrouble.NO_SCRIPTS,
    "The user executing the script": RedisTrouble.NOT_PERMITTED,
}
_REASONS_BY_CLASS: Final = {
    "AuthenticationError": RedisTrouble.CREDENTIALS,
    "AuthenticationWrongNumberOfArgsError": RedisTrouble.CREDENTIALS,
    "NoPermissionError": RedisTrouble.NOT_PERMITTED,
    "ReadOnlyError": RedisTrouble.READ_ONLY,
    "OutOfMemoryError": RedisTrouble.OUT_OF_MEMORY,
    "BusyLoadingError": RedisTrouble.LOADING,
    "ClusterDownError": RedisTrouble.CLUSTER_DOWN,
    "MasterDownError": RedisTrouble.CLUSTER_DOWN,
    "SlotNotCoveredError": RedisTrouble.CLUSTER_DOWN,
    "RedisClusterException": RedisTrouble.CLUSTER_DOWN,
    "MasterNotFoundError": RedisTrouble.NO_MASTER,
    "ProtocolError": RedisTrouble.NOT_REDIS,
    "InvalidResponse": RedisTrouble.NOT_REDIS,
    "UnexpectedReply": RedisTrouble.NOT_REDIS,
}
_WORD: Final = re.compile(
    rf"(?<![A-Za-z])({'|'.join(map(re.escape, _REASONS_BY_WORD))})(?![A-Za-z])"
)
_MAX_MESSAGE_LENGTH = 500


def trouble_of(error: BaseException) -> RedisTrouble:
    """Returns the reason for an error of a call or a connection."""
    for kind in type(error).__mro__:
        if kind.__name__ in _REASONS_BY_CLASS:
            return _REASONS_BY_CLASS[kind.__name__]
    if isinstance(error, ssl.SSLCertVerificationError):
        return RedisTrouble.CERTIFICATE
    if isinstance(error, ssl.SSLError):
        return RedisTrouble.NOT_REDIS
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return RedisTrouble.SILENT
    if isinstance(error, OSError) or type(error).__name__ == "ConnectionError":
        return RedisTrouble.AWAY
    if type(error).__name__ == "ResponseError":
        # Errors of scripts have a prefix: "ERR Error running script ... -READONLY".
        found = _WORD.search(str(error)[:_MAX_MESSAGE_LENGTH])
        return _REASONS_BY_WORD[found[1]] if found else RedisTrouble.OTHER
    return RedisTrouble.OTHER
