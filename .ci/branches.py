"""Fail if fewer than so many percent of the branches are covered (coverage's own limit
counts lines as well)."""

import io
import json
import os
import sys
import tempfile

from coverage import Coverage

limit = float(sys.argv[1])
data = Coverage()
data.load()
report = io.StringIO()
data.report(file=report)
print(report.getvalue())
descriptor, path = tempfile.mkstemp(suffix=".json")
os.close(descriptor)
try:
    data.json_report(outfile=path)
    with open(path, encoding="utf-8") as file:
        totals = json.load(file)["totals"]
finally:
    os.unlink(path)
branches = 100.0 * totals["covered_branches"] / totals["num_branches"]
print(f"branches: {branches:.1f} % covered, {limit:.0f} % are needed")
sys.exit(branches < limit)
