"""The pages: static files without a build step, under a policy that runs nothing but them."""

from __future__ import annotations

from flask import Blueprint, Response, send_from_directory

from service.api.firebase import Sources, sources
from service.services import Services

POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' data:; connect-src {connect}; "
    "font-src 'self'; frame-src {frames}; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types {types}"
)
HEADERS = {
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def policy(sources: Sources) -> str:
    """The policy of pages that run what this server has, and go nowhere but to it and to these sources."""
    return POLICY.format(
        scripts=" ".join(["'self'", *sources.scripts]),
        connect=" ".join(["'self'", *sources.connect]),
        frames=" ".join(sources.frames or ["'none'"]),
        types="*" if sources.scripts else "dompurify",  # whoever else's script names its own
    )


def pages(services: Services) -> Blueprint:
    """Serves the files of a folder: `index.html` at the root, `reports.html` as `/reports`."""
    made = Blueprint("pages", __name__)
    folder = services.settings.web_dir
    headers = {**HEADERS, "Content-Security-Policy": policy(sources(services))}

    @made.get("/")
    def index() -> Response:
        return page("index.html")

    @made.get("/reports")
    def reports() -> Response:
        return page("reports.html")

    @made.get("/web/<path:name>")
    def asset(name: str) -> Response:
        return page(name)

    def page(name: str) -> Response:
        response = send_from_directory(folder.resolve(), name)
        response.headers.update(headers)
        return response

    return made
