"""The templates of pages and of Markdown files, which hold their text and markup.

HTML templates escape every value, whatever it is, but for Markup, which only templates make.
Markdown templates escape every value but for plain_tables.Markdown. So text that was put together
by hand shows as it is.
"""

import functools
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from imgcls_jax.reporting import plain_tables

FOLDER = Path(__file__).parent / "templates"


@functools.cache
def _html() -> jinja2.Environment:
    return _environment(autoescape=True)


@functools.cache
def _markdown() -> jinja2.Environment:
    return _environment(finalize=plain_tables.escape)


def _environment(**options: Any) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


def render(template: str, **values: Any) -> Markup:
    """Returns an HTML template filled with the values."""
    return Markup(_html().get_template(template).render(values))


@functools.cache
def macros(template: str) -> Any:
    """The macros of an HTML template: functions that return Markup."""
    return _html().get_template(template).module


@functools.cache
def markdown_macros(template: str) -> Any:
    """The macros of a Markdown template: functions that return text."""
    return _markdown().get_template(template).module
