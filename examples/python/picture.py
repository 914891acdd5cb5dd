"""SVG pictures for the examples: bars in lanes, and bars beside names. No package is needed."""
import html

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


def _document(width, height, title, shapes):
  return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
                    f'font-size="12">', f"<title>{html.escape(title)}</title>",
                    f'<rect width="{width}" height="{height}" fill="white"/>',
                    f'<text x="10" y="20" font-weight="bold">{html.escape(title)}</text>', *shapes, "</svg>"]) + "\n"


def _text(x, y, words, anchor="start"):
  return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(str(words))}</text>'


def lanes(title, rows, scale_to=None):
  """rows: [(name, [(length, colour index, tooltip)])], each lane's pieces one behind the other."""
  longest = scale_to or max((sum(length for length, _, _ in pieces) for _, pieces in rows), default=1) or 1
  shapes = []
  for i, (name, pieces) in enumerate(rows):
    y, x = 34 + 20 * i, 130.0
    shapes.append(_text(122, y + 12, name, "end"))
    for length, colour, tooltip in pieces:
      width = 600 * length / longest
      shapes.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="16" fill="{COLOURS[colour % len(COLOURS)]}" '
                    f'stroke="white"><title>{html.escape(tooltip)}</title></rect>')
      x += width
  return _document(750, 44 + 20 * len(rows), title, shapes)


def bars(title, rows, limit=1.0, limit_name=""):
  """rows: [(name, value, words)]; a line stands at `limit`, and bars beyond it are red."""
  most = max([limit * 1.25, *(min(value, 2 * limit) for _, value, _ in rows)])
  shapes = []
  for i, (name, value, words) in enumerate(rows):
    y, width = 34 + 20 * i, 420 * min(value, most) / most
    shapes += [_text(232, y + 12, name, "end"), f'<rect x="240" y="{y}" width="{max(width, 1):.1f}" height="16" '
               f'fill="{COLOURS[1 if value > limit else 0]}"/>', _text(248 + width, y + 12, words)]
  x, bottom = 240 + 420 * limit / most, 34 + 20 * len(rows)
  shapes += [f'<line x1="{x:.1f}" y1="30" x2="{x:.1f}" y2="{bottom}" stroke="black" stroke-dasharray="4 3"/>',
             _text(round(x), bottom + 14, limit_name, "middle")]
  return _document(900, bottom + 24, title, shapes)


def save(path, picture):
  with open(path, "w", encoding="utf-8") as file:
    file.write(picture)
  print(f"picture: {path}")
