"""The tables that `trainer/tables.sh` searched for, side by side, as Markdown: a row a system, a column a data set.

    python3 trainer/tables.py FOLDER

Every number stands in a table.json or table-b.json below FOLDER/runs already; nothing is computed here.
"""

import json
import pathlib
import sys

SETS = ["scifact", "fm2", "wikiqa", "checkthat2020", "nfcorpus", "hotpotqa-500"]
TABLES = ["beam", "line", "oracle", "archetypes", "specialists"]


def mark(comparison):
    if comparison is None or comparison["p_holm"] >= 0.05:
        return ""
    return " ▲" if comparison["difference"] > 0 else " ▼"


def short(number):
    return f"{number:.4f}".removeprefix("0")


def cell(row):
    if "honest_ndcg_10" in row:
        numbers = [row["ndcg_10"], row["ndcg_10_of_retrieved"], row["honest_ndcg_10"]]
        return " / ".join(f"{number:.3f}".removeprefix("0") for number in numbers) + mark(row["against_control"])
    spread = row["ndcg_10_spread"]
    return short(row["ndcg_10"]) + (f" ± {short(spread / 2)}" if spread else "") + mark(row["against_control"])


def show(runs, table):
    found = {}
    for name in SETS:
        path = runs / f"{table}-{name}" / ("table-b.json" if table == "oracle" else "table.json")
        if path.is_file():
            found[name] = json.loads(path.read_text())
    if not found:
        return
    print(f"## {table}\n\n| system | {' | '.join(found)} | retrievals |\n|---|{'---:|' * (len(found) + 1)}")
    first = next(iter(found.values()))["rows"]
    for place, row in enumerate(first):
        rows = [read["rows"][place] for read in found.values()]
        retrievals = sum(row.get("retrievals", row.get("looks")) for row in rows) / len(rows)
        print(f"| `{row['system']}` | {' | '.join(cell(row) for row in rows)} | {retrievals:.1f} |")
    for name, read in found.items():
        degraded = sum(row.get("degraded", 0) for row in read["rows"])
        print(f"{'' if degraded == 0 else f'({degraded} degraded) '}{name}: {read['judged_queries']} queries")
    print()


for table in TABLES:
    show(pathlib.Path(sys.argv[1]) / "runs", table)
