"""`python requirements.py [EXTRA ...]`: what pyproject.toml asks for, one requirement a line.

opencv-python becomes opencv-python-headless: the same library without windows, which needs nothing of X.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text())["project"]
extras = [line for extra in sys.argv[1:] for line in project["optional-dependencies"][extra]]
for line in project["dependencies"] + extras:
    print(line.replace("opencv-python", "opencv-python-headless"))
