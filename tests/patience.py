"""How long tests wait for what should happen at once or within a minute: a test is no clock."""

from typing import Final

HANGS_AFTER_S: Final = 600.0
"""What takes that long, on a slow and busy machine too, does not end any more."""
