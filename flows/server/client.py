"""Prefect's client, and its errors as errors of this program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tasks.core.errors import RorError, SpecError

PAGE = 200
"""What the server gives at once, at most."""


def require_server(command: str) -> None:
    """Raises SpecError when no Prefect server is configured."""
    if not server_url():
        raise SpecError(
            command,
            [
                "no Prefect server is configured. Start one with `prefect server start` and set "
                "PREFECT_API_URL=http://127.0.0.1:4200/api"
            ],
        )


@contextmanager
def connected() -> Iterator[Any]:
    """A client of the configured server. Raises RorError for what the server does wrong until the block ends."""
    from prefect import get_client

    with server_errors(), get_client(sync_client=True) as client:
        yield client


def read_deployment(client: Any, full_name: str) -> Any:
    """The deployment `flow/name` as the server has it, None where there is none."""
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


def all_pages(read: Callable[..., list[Any]], most: int | None = None, **wanted: Any) -> list[Any]:
    """All that a method of the client returns page by page, of at most `most` pages; `wanted` are its filters."""
    found: list[Any] = []
    for number in islice(count(), most):
        page = read(**wanted, limit=PAGE, offset=number * PAGE)
        found += page
        if len(page) < PAGE:
            break
    return found


def server_url() -> str | None:
    """Address of the Prefect server that the user has configured, None for the embedded one."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def public(url: str | None) -> str:
    """An address without a password in it."""
    parts = urlsplit(url or "")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def refusal(status: int) -> tuple[str, str]:
    """What an HTTP status of the server means, to follow its address, and what to do about it."""
    from prefect.settings import get_current_settings

    api = get_current_settings().api
    if status in (401, 403):
        name = "PREFECT_API_KEY" if api.key else "PREFECT_API_AUTH_STRING"
        if api.key or api.auth_string:
            return f"refuses what is set in {name}", f"Correct {name}."
        return "wants a password", "Set PREFECT_API_AUTH_STRING=user:password."
    if status == 404:
        return "is not the API of a Prefect server", "PREFECT_API_URL ends in /api: correct it."
    return f"answers with status {status}", "Look into the server's log."


@contextmanager
def server_errors() -> Iterator[None]:
    """Raises RorError, one line, for what the configured server or the connection to it does wrong in the block."""
    import httpx
    from prefect.exceptions import PrefectException

    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            what, remedy = refusal(status)
            raise RorError(f"The Prefect server at {public(server_url())} {what}. {remedy}") from error
        raise _not_done(error) from error
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        raise _not_done(error) from error


def _not_done(error: Exception) -> RorError:
    detail, url = str(error).strip() or type(error).__name__, server_url()
    if not url:
        return RorError(f"The Prefect server that was started for this command did not do it: {detail.rstrip('.')}.")
    return RorError(
        f"The Prefect server at {public(url)} did not do it: {detail}{_through(url)}. Is it running? `ror doctor` says."
    )


def _through(url: str) -> str:
    """Which proxy requests to this address go through, and who says so; empty where none is."""
    parts = urlsplit(url)
    proxies = getproxies()
    name = next((name for name in (parts.scheme, "all") if name in proxies), None)
    if name is None or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return f" (asked through the proxy {public(proxies[name])}: {name.upper()}_PROXY; NO_PROXY excepts hosts)"
