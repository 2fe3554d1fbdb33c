"""Draws streams against wall time and first word out of what compare.py has written; needs matplotlib."""

from __future__ import annotations

import argparse
import json
import re
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
_NAMES = {"hayhooks": "Hayhooks (uvicorn)", "bare": "bare Flask + waitress, 1100 threads", "flaskcompat": "flaskcompat"}
_COLOURS = {"hayhooks": "#c0392b", "bare": "#7f8c8d", "flaskcompat": "#1f618d"}
_PANELS = {"wall s": "until the last stream ends, s", "first word p50 ms": "first word, median, s"}
_IDEAL = 1.5  # seconds that a stream takes if nobody waits


def series(figures: dict[str, list[float]], kind: str, figure: str) -> list[tuple[int, list[float]]]:
    """Numbers of streams, and what was measured for each in all rounds."""
    pattern = re.compile(rf"{kind}, (\d+) slow streams, {re.escape(figure)}")
    scale = 1000 if figure.endswith("ms") else 1
    found = [(match, values) for name, values in figures.items() if (match := pattern.fullmatch(name))]
    return sorted((int(match[1]), [value / scale for value in values]) for match, values in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path, help="what compare.py has written")
    parser.add_argument("--out", type=Path, default=HERE / "streams.png")
    args = parser.parse_args()
    measured = json.loads(args.json.read_text())["figures"]
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, sharey="row", constrained_layout=True)
    for line, (what, label) in zip(axes, _PANELS.items(), strict=True):
        for column, kind in enumerate(("sync", "async")):
            panel = line[column]
            for server, name in _NAMES.items():
                points = series(measured[server], kind, what)
                counts = [count for count, _ in points]
                panel.plot(
                    counts,
                    [statistics.median(values) for _, values in points],
                    marker="o",
                    color=_COLOURS[server],
                    label=name,
                )
                lows, highs = ([pick(values) for _, values in points] for pick in (min, max))
                panel.fill_between(counts, lows, highs, color=_COLOURS[server], alpha=0.15, linewidth=0)
            if what == "wall s":
                panel.axhline(_IDEAL, color="black", linewidth=0.8, linestyle=":")
                panel.set_title(f"{'synchronous' if kind == 'sync' else 'asynchronous'} pipeline")
            panel.grid(alpha=0.25)
        line[0].set_ylabel(label)
        line[0].set_ylim(bottom=0)
    for panel in axes[1]:
        panel.set_xlabel("streams at once, 30 words each, 20 words a second")
    axes[0][0].legend(frameon=False, fontsize="small")
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
