"""Models in another style than their library's: what the comparisons have to notice."""

import dataclasses
import functools

from imgcls_jax.models import MODELS


def change_style(monkeypatch, model: str, **changes) -> None:
    """Changes the style of one model, such as its epsilon."""
    constructor = MODELS[model]
    style = dataclasses.replace(constructor.keywords["style"], **changes)
    monkeypatch.setitem(MODELS, model, functools.partial(constructor, style=style))
