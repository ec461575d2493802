"""The pages: static files without a build step, under a policy that runs nothing but them."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, send_from_directory

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def pages(folder: Path) -> Blueprint:
    """Serves the files of a folder, `index.html` at the root."""
    made = Blueprint("pages", __name__)

    @made.get("/")
    def index() -> Response:
        return page("index.html")

    @made.get("/web/<path:name>")
    def asset(name: str) -> Response:
        return page(name)

    def page(name: str) -> Response:
        response = send_from_directory(folder.resolve(), name)
        response.headers.update(HEADERS)
        return response

    return made
