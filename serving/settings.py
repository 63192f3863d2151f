"""The settings of an operator: limits, deadlines, retention, exploration, and the keys that clients send."""

import hmac
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from recsys.core.config import Config
from recsys.core.errors import ConfigError

KEYS, KEYS_FILE = "RECSYS_API_KEYS", "RECSYS_API_KEYS_FILE"
PAGE_KEYS, PAGE_KEYS_FILE = "RECSYS_PAGE_KEYS", "RECSYS_PAGE_KEYS_FILE"
ADMIN_KEYS, ADMIN_KEYS_FILE = "RECSYS_ADMIN_KEYS", "RECSYS_ADMIN_KEYS_FILE"


class ServingConfig(Config):
    """Limits and deadlines of one server process."""

    deadline_seconds: PositiveFloat = 2.0
    """How long the model may take for one answer; a request's timeout_ms can only shorten it."""
    store_seconds: PositiveFloat = 0.3
    """How long a recommendation waits for the history of its user before it goes on without."""
    write_seconds: PositiveFloat = 10.0
    """How long a write waits for the store before it is answered with 503."""
    activate_seconds: PositiveFloat = 300.0
    """How long an activation may take: to load, verify and warm a release."""
    body_seconds: PositiveFloat = 10.0
    """How long a client may take to send a body, and to read an answer."""
    header_seconds: PositiveFloat = 5.0
    """How long a client may take to send the head of a request after it connects or begins."""
    keep_alive_seconds: PositiveInt = 4
    """How long an idle connection stays open."""
    not_ready_seconds: NonNegativeFloat = 5.0
    """How long the server still answers, not ready and closing connections, after SIGTERM."""
    drain_seconds: PositiveInt = 10
    """How long requests in flight may take to end after that."""
    max_in_flight: PositiveInt = 64
    """Requests answered at once; more get 429."""
    queue_seconds: PositiveFloat = 0.006
    """How long a recommendation may have to wait for those before it, as far as can be told; where more than eight wait
    and it would be longer, it gets 429 at once, before its body is read."""
    max_body_bytes: PositiveInt = 1 << 20
    """Largest body of a request."""
    max_rows_bytes: PositiveInt = 8 << 20
    """Largest body of a request that carries rows: events and items."""
    max_buffered_bytes: PositiveInt = 64 << 20
    """Largest sum of all bodies being received; a request beyond it gets 429."""
    max_header_bytes: PositiveInt = 16 << 10
    """Largest head of a request."""
    max_rows: PositiveInt = 10_000
    """Rows of one body."""
    max_history: PositiveInt = 1000
    """Events of a user's history that a model is shown, the latest."""
    cached_users: PositiveInt = 10_000
    """Users whose history and last good answer are kept in memory."""
    sole_writer: bool = True
    """Whether no other process writes to the store, so that histories may be cached until an event changes them."""
    sync_seconds: PositiveFloat = 0.25
    """How often the store is asked for items, rules and activations that other processes wrote."""
    exposure_queue: PositiveInt = 10_000
    """Exposures waiting to be written; more are dropped and counted."""
    keep_exposures_days: PositiveInt | None = None
    """Age from which exposures are deleted; None keeps them."""
    keep_events_days: PositiveInt | None = None
    """Age from which events are deleted; None keeps them."""
    split_version: str | None = None
    """Version of a second release that some users are answered by; every exposure says which (``arm``)."""
    split_share: float = Field(default=0.0, ge=0, le=1)
    """Share of users, by a hash of their id and that version, that the second release answers: always the same ones."""
    encoder_at_start: bool = True
    """Whether what encodes new items is loaded once the model is ready, beside the traffic, so that the first new item
    is recommendable within a second; where false it is loaded with that item, which takes some seconds then, and a
    server that gets none stays without torch."""
    shadow_version: str | None = None
    """Version of a release that is asked beside the answers, out of band, and never shown; its overlap is a metric."""
    shadow_share: float = Field(default=1.0, ge=0, le=1)
    """Share of requests that the shadow is asked, by a hash of the request id."""
    trace: bool = False
    """Whether spans are sent by OTLP over HTTP to where the OTEL_* variables say; needs the extra ``otel``."""
    ranked: Literal["paths", "catalogue"] | None = None
    """Which items are ranked in a run with token experts: those that paths reach, or all; None as the run says."""
    log_requests: bool = False
    """Whether every answer is logged as a line of JSON: route, status, milliseconds, request id."""
    log_json: bool = False
    """Whether the whole log is lines of JSON: time, level and message, or an event's fields."""
    max_replicas: PositiveInt = 1
    """With ``--ray``: replicas that may run under load, where it is more than ``--workers``."""
    requests_per_replica: PositiveFloat = 8.0
    """With ``--ray``: requests in flight for each replica, on average, from which more replicas are started."""
    prefer_bonus: PositiveFloat = 1.0
    """What a preferred facet adds to an item's log-probability."""
    explore_share: float = Field(default=0.0, ge=0, le=1)
    """Share of a slate's places, the last ones, that are sampled."""
    explore_temperature: PositiveFloat = 1.0
    """Divides the scores before sampling: above 1 is nearer to uniform."""
    explore_pool: PositiveInt = 100
    """Best items among which the sampled places are drawn."""


def read_config(path: Path | None) -> ServingConfig:
    """Read limits and deadlines from a TOML file; None is the defaults.

    Raises:
        ConfigError: the file cannot be read, or a setting is wrong; all faults are named together.
    """
    if path is None:
        return ServingConfig()
    try:
        return ServingConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} must be a readable TOML file, got {error}; mend it") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"{path} must hold settings of the server, got {faults}; mend these") from error


class Access(IntEnum):
    """What a key allows, in rising order."""

    NOTHING = 0
    PAGE = 1
    """To read, to rank and to send events: a key that may be in a page or an app."""
    CLIENT = 2
    """Also to change items and to forget users."""
    ADMIN = 3
    """Also rules and releases."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of a server; without those of clients and pages everybody is a client."""

    clients: frozenset[str] = frozenset()
    pages: frozenset[str] = frozenset()
    admins: frozenset[str] = frozenset()

    def access_of(self, key: str) -> Access:
        """Return what a sent key allows; all keys are compared, each in constant time."""
        came = key.encode("latin-1", "replace")
        admin = any([hmac.compare_digest(came, known.encode()) for known in self.admins])
        client = any([hmac.compare_digest(came, known.encode()) for known in self.clients])
        page = any([hmac.compare_digest(came, known.encode()) for known in self.pages])
        if admin:
            return Access.ADMIN
        if client or not (self.clients or self.pages):
            return Access.CLIENT
        return Access.PAGE if page else Access.NOTHING


def keys_from(environment: Mapping[str, str]) -> Keys:
    """Read the keys of clients, pages and administrators from variables, or from the files that variables name.

    Raises:
        ConfigError: a variable is set but names no key, or its file cannot be read.
    """
    return Keys(
        clients=_keys(environment, KEYS, KEYS_FILE),
        pages=_keys(environment, PAGE_KEYS, PAGE_KEYS_FILE),
        admins=_keys(environment, ADMIN_KEYS, ADMIN_KEYS_FILE),
    )


def secret_from(environment: Mapping[str, str], name: str) -> str | None:
    """Return a variable's value, or the text of the file that ``<name>_FILE`` names, or None."""
    if name in environment:
        return environment[name]
    if f"{name}_FILE" not in environment:
        return None
    path = Path(environment[f"{name}_FILE"])
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}_FILE must name a readable file, got {path}: {error}; mend it or unset it") from error


def _keys(environment: Mapping[str, str], name: str, file: str) -> frozenset[str]:
    text = secret_from(environment, name)
    if text is None:
        return frozenset()
    keys = frozenset(filter(None, (part.strip() for part in text.replace("\n", ",").split(","))))
    if not keys:
        raise ConfigError(f"{name} (or {file}) must hold at least one key, got none; set a key or unset the variable")
    return keys


def environment_keys() -> Keys:
    """Return the keys that this process's environment sets."""
    return keys_from(os.environ)
