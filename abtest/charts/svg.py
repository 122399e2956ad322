"""From an Altair chart to a small static SVG that a page can hold as text."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from abtest.charts.base import INK, MUTED, TONES

_NAMESPACE = "{http://www.w3.org/2000/svg}"
_DROPPED = ("class", "role", "pointer-events", "font-family", "stroke-miterlimit")
_IDLE = (("opacity", "1"), ("transform", "translate(0,0)"), ("font-size", "11px"))
_CLASSES = {colour: f"tone-{name}" for name, colour in TONES.items()}
"""Classes of coloured words: a page may give small text more contrast in its own light or dark look."""
_DECIMALS = re.compile(r"-?\d*\.\d+(?:e-?\d+)?")


def to_svg(chart: Any) -> str:
    """Return the chart as one static SVG element: no script, no style, no link, the same bytes on every run.

    Title and description come from `usermeta["abtest"]` and become `<title>` and `<desc>`, the text alternative.

    Args:
        chart: A chart of this package, or any Altair chart with inline data.
    """
    import vl_convert

    spec: dict[str, Any] = chart.to_dict()
    words = spec.get("usermeta", {}).get("abtest", {})
    picture = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))  # noqa: S314
    _simplify(picture)
    width, height = picture.get("width", ""), picture.get("height", "")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" color="{MUTED}" fill="none" '
        'font-family="system-ui, sans-serif" font-size="11">'
    )
    body = [_text_element("title", words.get("title", "")), _text_element("desc", words.get("description", ""))]
    body += [ElementTree.tostring(child, encoding="unicode") for child in picture]
    return head + "".join(body).replace(INK, "currentColor") + "</svg>\n"


def _text_element(tag: str, text: str) -> str:
    element = ElementTree.Element(tag)
    element.text = text
    return ElementTree.tostring(element, encoding="unicode") if text else ""


def _simplify(node: ElementTree.Element) -> None:
    """Drop what draws nothing (empty groups, roles of single marks, idle attributes); round to a tenth of a pixel."""
    node.tag = node.tag.removeprefix(_NAMESPACE)
    for name, value in list(node.attrib.items()):
        if name in _DROPPED or name.startswith("aria-") or (name, value) in _IDLE:
            del node.attrib[name]
        elif name in ("d", "transform", "x", "y", "x2", "y2"):
            node.attrib[name] = _DECIMALS.sub(lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), value)
    if node.tag == "text" and node.get("fill") in _CLASSES:
        node.set("class", _CLASSES[node.attrib["fill"]])
    for child in list(node):
        _simplify(child)
        if not _draws(child):
            node.remove(child)


def _draws(node: ElementTree.Element) -> bool:
    if node.get("display") == "none":
        return False
    if node.tag == "path":
        return any(node.get(name, "none") not in ("none", "transparent") for name in ("fill", "stroke"))
    return node.tag != "g" or len(node) > 0
