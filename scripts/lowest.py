"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

What only develops geoforest stays free: nobody's installation has to agree with it. Needs nothing
but Python, since it comes before the environment.
"""

import re
import tomllib
from pathlib import Path

TOOLS = {"all", "dev", "docs"}  # extras for work on this repository


def lowest(pyproject: Path) -> list[str]:
    """Give `name==version` for each requirement, which has to be `name[extras]>=version`."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = set(project["dependencies"])
    for name in extras.keys() - TOOLS:
        requirements.update(extras[name])
    found = []
    for requirement in requirements:
        if requirement.startswith(project["name"] + "["):
            continue
        parts = re.fullmatch(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)", requirement)
        if parts is None:
            raise SystemExit(f"{pyproject}: {requirement!r} has no single lower bound")
        found.append(f"{parts[1]}=={parts[2]}")
    return sorted(found)


if __name__ == "__main__":
    print(*lowest(Path(__file__).parents[1] / "pyproject.toml"), sep="\n")
