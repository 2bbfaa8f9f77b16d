"""Writes clock_changes.txt: every change of the clocks of every IANA zone, 2024 to 2030, as Python's zoneinfo has them.

    pip install tzdata==2026.6 && PYTHONTZPATH= python3 clock_changes.py > clock_changes.txt

The version of tzdata must be the one that the program is compiled with; the test says which that is. One line for all the
zones that agree: their names, then the offset in force at the beginning, then each change as seconds since 1970 and the
offset from there on. Offsets are in minutes.
"""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones

import tzdata

BEGIN, END = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in (2024, 2031))
STEP = timedelta(hours=6)


def offset(zone, at):
    seconds = at.astimezone(zone).utcoffset().total_seconds()
    assert seconds % 60 == 0
    return int(seconds // 60)


def changes(zone):
    at, found = BEGIN, [str(offset(zone, BEGIN))]
    while at < END:
        later = at + STEP
        if offset(zone, at) != offset(zone, later):
            low, high = at, later
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                middle = middle.replace(microsecond=0)
                low, high = (middle, high) if offset(zone, middle) == offset(zone, low) else (low, middle)
            found.append(f"{int(high.timestamp())}:{offset(zone, high)}")
        at = later
    return " ".join(found)


def main():
    lines = {}
    for name in sorted(available_timezones()):
        lines.setdefault(changes(ZoneInfo(name)), []).append(name)
    print(f"tzdata {tzdata.IANA_VERSION}")
    for line, names in sorted(lines.items(), key=lambda item: item[1]):
        print(f"{','.join(names)} {line}")


main()
