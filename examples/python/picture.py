"""SVG pictures for the examples: bars in lanes, and bars beside names on a logarithmic scale. No package is needed."""
import html
import math

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
LEFT, TOP, LANE = 240, 62, 20  # where the bars begin, and how far apart lanes are


def _document(height, title, shapes):
  return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="{height}" font-family="sans-serif" '
                    f'font-size="12">', f"<title>{html.escape(title)}</title>",
                    f'<rect width="900" height="{height}" fill="white"/>',
                    f'<text x="10" y="20" font-weight="bold">{html.escape(title)}</text>', *shapes, "</svg>"]) + "\n"


def _text(x, y, words, anchor="start"):
  return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{html.escape(str(words))}</text>'


def _bar(x, y, width, colour, tooltip):
  return (f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="16" fill="{COLOURS[colour % len(COLOURS)]}" '
          f'stroke="white"><title>{html.escape(tooltip)}</title></rect>')


def _ticks(places, bottom):
  """[(x, words)]: a thin line each, and the words under it."""
  return [shape for x, words in places for shape in (
    f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{bottom}" stroke="#888888" stroke-width="0.5"/>',
    _text(x, bottom + 14, words, "middle"))]


def _legend(names):
  shapes, x = [], float(LEFT)
  for colour, name in enumerate(names):
    shapes += [_bar(x, 32, 16, colour, name), _text(x + 22, 45, name)]
    x += 34 + 7 * len(name)
  return shapes


def lanes(title, rows, names, ticks):
  """rows: [(name, [(length, colour index, tooltip)])], each lane's pieces one behind the other; names: what each colour is;
  ticks: [(length, words)], of which the last one ends the scale."""
  scale, bottom = 600 / ticks[-1][0], TOP + LANE * len(rows)
  shapes = _legend(names) + _ticks([(LEFT + scale * length, words) for length, words in ticks], bottom)
  for i, (name, pieces) in enumerate(rows):
    y, x = TOP + LANE * i, float(LEFT)
    shapes.append(_text(LEFT - 8, y + 12, name, "end"))
    for length, colour, tooltip in pieces:
      shapes.append(_bar(x, y, scale * length, colour, tooltip))
      x += scale * length
  return _document(bottom + 24, title, shapes)


def log_bars(title, rows, names, limit_name):
  """rows: [(name, value)], on a logarithmic scale that begins at 0.01 and has `limit_name` at 1; bars beyond 1 have the
  second colour. names: what the two colours are."""
  last = max(1, *(math.ceil(math.log10(value)) for _, value in rows if value > 0))
  place = lambda value: LEFT + 560 * (math.log10(max(value, 0.01)) + 2) / (last + 2)
  bottom = TOP + LANE * len(rows)
  shapes = _legend(names) + _ticks([(place(10.0 ** n), f"{10.0 ** n:g}") for n in range(-2, last + 1)], bottom)
  for i, (name, value) in enumerate(rows):
    y = TOP + LANE * i
    shapes += [_text(LEFT - 8, y + 12, name, "end"), _bar(LEFT, y, max(place(value) - LEFT, 1), int(value > 1), name),
               _text(place(value) + 8, y + 12, f"{value:.3g}")]
  x = place(1)
  shapes += [f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{bottom}" stroke="black" stroke-dasharray="4 3"/>',
             _text(x, bottom + 30, limit_name, "middle")]
  return _document(bottom + 40, title, shapes)


def save(path, picture):
  with open(path, "w", encoding="utf-8") as file:
    file.write(picture)
  print(f"picture: {path}")
