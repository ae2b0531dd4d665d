"""Where a run's time went: seconds and tests by folder, and the slowest files."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import pytest

SLOWEST = 12
"""Files listed."""


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    seconds_by_file: Counter[str] = Counter()
    tests_by_file: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                name = report.nodeid.partition("::")[0]
                seconds_by_file[name] += report.duration
                tests_by_file[name] += report.when == "call"
    if sum(tests_by_file.values()) < 100:
        return  # a chosen few: --durations tells more
    seconds_by_folder: Counter[str] = Counter()
    tests_by_folder: Counter[str] = Counter()
    for name in seconds_by_file:
        folder = str(PurePosixPath(name).parent)
        seconds_by_folder[folder] += seconds_by_file[name]
        tests_by_folder[folder] += tests_by_file[name]
    write = terminalreporter.write_line
    terminalreporter.section("seconds by folder, over all processes")
    for folder, seconds in seconds_by_folder.most_common():
        write(f"{seconds:8.1f} s {tests_by_folder[folder]:6d} tests  {folder}")
    terminalreporter.section(f"the {SLOWEST} slowest files")
    for name, seconds in seconds_by_file.most_common(SLOWEST):
        write(f"{seconds:8.1f} s {tests_by_file[name]:6d} tests  {name}")
