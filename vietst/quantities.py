"""Sizes and times as people read them: a small one is a small number, and not 0.0 of a large unit."""


def size_in_words(num_bytes: float) -> str:
    """Decimal units, as disks and the Hub have them: 1.21 GB, 46.1 MB, 3.8 kB, 17 bytes."""
    for unit, unit_bytes, digits in (("GB", 1e9, 2), ("MB", 1e6, 1), ("kB", 1e3, 1)):
        if num_bytes >= unit_bytes:
            return f"{num_bytes / unit_bytes:.{digits}f} {unit}"
    return f"{num_bytes:.0f} bytes"


def seconds_in_words(seconds: float) -> str:
    """12.3 s; below a second to two digits: 0.041 s."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2g} s"
