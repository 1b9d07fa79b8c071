"""Pages of this project are filled-in templates; whatever a text in them holds, it stays text."""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template


def filled(template: str, **content: Any) -> str:
    """Fill a template of `vietst/templates` in; every text in it is escaped."""
    return _template(template).render(**content)


@cache
def _template(name: str) -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vietst", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
