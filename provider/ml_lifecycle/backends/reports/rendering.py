"""The templates of all reports: every value that goes into one is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str) -> Template:
    """One of the templates beside this module; a value that it lacks is an error, and never an empty text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("ml_lifecycle.backends.reports")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(name)
