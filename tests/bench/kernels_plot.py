"""The kernels' figures as a table and as a plot (SVG, written by hand: no library needed)."""

from html import escape

Spread = dict[str, float]
Figures = dict[str, dict[str, dict[str, Spread]]]

_LEFT, _BAR, _ROW, _GAP, _WIDTH = 150, 300, 15, 46, 1010
_COLOURS = {"gather": "#2b6cb0", "scatter": "#c05621"}
_MOST = 1.5
_FONT = 'font-family="sans-serif" font-size="11"'
_HALO = 'stroke="white" stroke-width="3"'
_TITLE = "Chunks of 256 tokens on the host: speed to a plain copy, medians with quartiles"


def names_of(figures: Figures) -> list[str]:
    """Returns all implementations, in the order of the table."""
    found: dict[str, None] = {}
    for ways in figures.values():
        for by_name in ways.values():
            found.update(dict.fromkeys(by_name))
    return list(found)


def text_table(figures: Figures) -> str:
    """Returns medians: a line per implementation, gather / scatter by layout."""
    lines = [f"{'to a plain copy':18}" + "".join(f"{layout:>16}" for layout in figures)]
    for name in names_of(figures):
        cells = []
        for ways in figures.values():
            pair = [ways[way].get(name) for way in ("gather", "scatter")]
            shown = [f"{each['median']:.2f}" if each else "-" for each in pair]
            cells.append(" / ".join(shown))
        lines.append(f"{name:18}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines) + "\n"


def svg(figures: Figures) -> str:
    """Returns a panel per layout, a pair of bars per implementation, and the plain copy's line."""
    names = names_of(figures)
    panel = len(names) * 2 * _ROW + len(names) * 4 + _GAP
    columns = 2
    rows = -(-len(figures) // columns)
    height = 60 + rows * panel + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="20" y="22" font-size="15">{_TITLE}</text>',
    ]
    for place, (way, colour) in enumerate(_COLOURS.items()):
        x = 20 + place * 90
        parts.append(f'<rect x="{x}" y="32" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="42">{way}</text>')
    parts.append('<line x1="200" x2="200" y1="32" y2="44" stroke="#444"/>')
    parts.append('<text x="207" y="42">a plain copy in one thread</text>')
    for number, (layout, ways) in enumerate(figures.items()):
        x = number % columns * (_WIDTH // columns)
        y = 60 + number // columns * panel
        parts += _panel(x, y, layout, ways, names)
    return "\n".join([*parts, "</svg>", ""])


def _panel(x: int, y: int, layout: str, ways: dict[str, dict[str, Spread]], names: list[str]):
    start = x + _LEFT
    bottom = y + 10 + len(names) * (2 * _ROW + 4)
    yield f'<text x="{start}" y="{y + 4}" font-size="13" font-weight="bold">{escape(layout)}</text>'
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
        at = start + tick / _MOST * _BAR
        colour = "#444" if tick == 1.0 else "#ddd"
        yield f'<line x1="{at}" x2="{at}" y1="{y + 10}" y2="{bottom}" stroke="{colour}"/>'
        yield f'<text x="{at}" y="{bottom + 12}" text-anchor="middle" fill="#555">{tick}</text>'
    for number, name in enumerate(names):
        top = y + 12 + number * (2 * _ROW + 4)
        yield f'<text x="{start - 6}" y="{top + _ROW + 4}" text-anchor="end">{escape(name)}</text>'
        for place, way in enumerate(_COLOURS):
            if (spread := ways[way].get(name)) is not None:
                yield from _bar(start, top + place * _ROW, way, spread)


def _bar(x: int, y: int, way: str, spread: Spread):
    width, low, high = (min(spread[each], _MOST) / _MOST * _BAR for each in ("median", "q1", "q3"))
    middle = y + (_ROW - 2) / 2
    yield f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{_ROW - 2}" fill="{_COLOURS[way]}"/>'
    yield (
        f'<line x1="{x + low:.1f}" x2="{x + high:.1f}" y1="{middle}" y2="{middle}" '
        'stroke="black" stroke-width="1.5"/>'
    )
    at = x + max(width, high) + 4
    for style in (_HALO, ""):  # the halo apart: not every viewer knows paint-order
        yield f'<text x="{at:.1f}" y="{y + 10}" {style}>{spread["median"]:.2f}</text>'
