"""``python -m gateway_intent.ablation full=DIR frozen=DIR …``: what fine-tuning, twins and views each buy.

Each folder of weights is measured on the plugin's own held-out sets, with every reading of a text, and with the text as
it stands alone. Weights to compare come from ``train --epochs 0`` (frozen) and ``train --without-twins``.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from gateway_intent import IntentConfig, build
from gateway_intent.evaluate import figures
from gateway_intent.heldout import sets

SETS = ("twins", "alarming", "vignette", "medication", "consumer", "plain", "wrapped", "coded")


def measure(weights: str, *, raw: bool) -> dict[str, Any]:
    """Measure a folder of weights; `raw` leaves every reading but the text itself out."""
    screen = build(IntentConfig(weights=weights))
    screen.readings = not raw
    return {name: figures(screen, examples) for name, examples in sets(None) if name in SETS}


def table(found: dict[str, dict[str, Any]]) -> str:
    """Lay the figures out as a Markdown table: what is caught of harm, and refused of the rest, from `HIGH` on."""
    lines = [
        "| weights, readings | twins AUC | twins caught | twins refused | plain caught | wrapped caught | coded caught "
        "| alarming refused | vignettes refused | medication refused | consumer refused |",
        "|---" * 11 + "|",
    ]

    def share(row: dict[str, Any], name: str) -> str:
        return f"{100 * row[name]:.1f} %"

    for name, row in found.items():
        cells = [name, f"{row['twins']['auc']:.3f}", share(row["twins"], "refused_harmful")]
        cells.append(share(row["twins"], "refused_benign"))
        cells += [share(row[each], "refused_harmful") for each in ("plain", "wrapped", "coded")]
        cells += [share(row[each], "refused_benign") for each in ("alarming", "vignette", "medication", "consumer")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m gateway_intent.ablation", description=__doc__)
    parser.add_argument("weights", nargs="+", help="name=folder; the first is measured without readings too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    found: dict[str, dict[str, Any]] = {}
    for place, pair in enumerate(options.weights):
        name, equals, folder = pair.partition("=")
        if not equals:
            sys.stderr.write(f"error: `{pair}` is not name=folder\n")
            return 1
        found[f"{name}, all"] = measure(folder, raw=False)
        if place == 0:
            found[f"{name}, the text alone"] = measure(folder, raw=True)
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else table(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
