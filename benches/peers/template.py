"""Configuration files from templates: {{name}} is a value, and a line of "@switch rest" stays only where the switch is on."""

import re
from pathlib import Path

TEMPLATES = Path(__file__).resolve().parent / "templates"


def render(name, switches, values):
    """The text of the template of this name."""
    kept = []
    for line in (TEMPLATES / name).read_text().splitlines():
        if switch := re.match(r"@(\w+) ?(.*)", line):
            if switch[1] not in switches:
                continue
            line = switch[2]
        kept.append(re.sub(r"\{\{(\w+)\}\}", lambda field: str(values[field[1]]), line))
    return "\n".join(kept) + "\n"


def write(path, name, switches, values):
    """Renders the template into this file, and gives its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(name, switches, values))
    return path
