"""The report as one self-contained HTML file: no script, no request, light and dark, for screen, phone and paper."""

from __future__ import annotations

import base64
import hashlib

import jinja2

from abtest.display import Table, clean, format_time, shorten
from abtest.report.model import Block, ReportModel


def render(model: ReportModel) -> str:
    """Return the page. Its content security policy allows one thing: the style sheet inside it, by its hash."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("abtest.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(when=format_time, kind=_kind, text=clean, short=shorten)
    css = environment.get_template("report.css").render()
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return environment.get_template("report.html.j2").render(model=model, css=css, policy=policy)


def _kind(block: Block) -> str:
    """Return which macro of the template shows the block."""
    return "table" if isinstance(block, Table) else type(block).__name__.lower()
