"""The Python API: what the commands do, as functions. `import search` lists them, and loads each when it is first used.

Each function writes a folder or a file, goes on with what is there from before, and returns what it came to. What a
user did wrong is a `UserError` (a `SpaceError` or an `ArchError` of `spaces` and `ghostnet`) in one line.
"""

from pathlib import Path

Place = str | Path
