"""A real Chromium in Prefect's UI, driven by Playwright."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.helpers.server import Server

CHROMIUM = shutil.which("chromium")
"""That of the system, as Debian's package `chromium` installs it: Playwright downloads none."""

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Browser:
    """A page of Prefect's UI, and whom it asked for something beside this machine."""

    page: Any
    server: Server
    asked: list[str] = field(default_factory=list)
    """Hosts beyond loopback, in order; what they were asked was not let through."""
    ui: str = "/v2"
    """Prefect 3.8 has two: the newer one below /v2, which is what people get who set nothing, and the older one."""

    def go(self, path: str) -> None:
        self.page.goto(f"{self.server.url.removesuffix('/api')}{self.ui}{path}")

    def open_form(self, deployment: str) -> None:
        """As a person does: the list of deployments, the deployment, Run, Custom run."""
        self.go("/deployments")
        self.page.get_by_role("link", name=deployment, exact=True).first.click()
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Custom run").click()
        self.page.get_by_role("button", name="Submit").wait_for()

    def choose(self, parameter: str, value: str) -> list[str]:
        """Choose from a list of the form; what it offers."""
        self.page.get_by_label(f"Select {parameter}").click()
        options = self.page.get_by_role("option")
        options.first.wait_for()
        offered = options.all_inner_texts()
        self.page.get_by_role("option", name=value, exact=True).click()
        return offered

    def submit(self) -> str:
        """The run that the form creates. A server whose database is busy answers 503: it is asked again."""
        for _ in range(5):
            with self.page.expect_response(re.compile("/create_flow_run$")) as answered:
                self.page.get_by_role("button", name="Submit").click()
            if answered.value.status != 503:
                break
            self.page.wait_for_timeout(1000)
        assert answered.value.ok, answered.value.text()
        return str(answered.value.json()["id"])

    def shows(self, text: str, **how: Any) -> None:
        """Raises where the page does not come to show it."""
        self.page.get_by_text(text, **how).first.wait_for()


@contextmanager
def browsing(server: Server, width: int = 1280, height: int = 1000) -> Iterator[Browser]:
    """A browser with one page, until the block ends; nothing beyond loopback answers it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = chromium.new_context(viewport={"width": width, "height": height})
        context.set_default_timeout(60_000)
        used = Browser(context.new_page(), server)

        def refuse(route: Any) -> None:
            used.asked.append(urlsplit(route.request.url).hostname or route.request.url)
            route.abort()

        context.route(lambda url: urlsplit(url).hostname != "127.0.0.1", refuse)
        yield used
        chromium.close()
