#!/usr/bin/env python3
"""Makes FOLDER/flashladder/x.hpp for each api/x.hpp, and FOLDER/flashladder/core/x.hpp for each core/x.hpp: a line that
includes the source, found from the source root.   forward_headers.py FOLDER HEADER..."""
import pathlib
import sys


def installed_name(header):
  """Where a header of the source tree is installed, below include/."""
  room, name = header.split("/")
  return f"flashladder/core/{name}" if room == "core" else f"flashladder/{name}"


if __name__ == "__main__":
  for header in sys.argv[2:]:
    path, text = pathlib.Path(sys.argv[1]) / installed_name(header), f'#include "{header}"\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text() != text:  # a new date would compile everything again
      path.write_text(text)
