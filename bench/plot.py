#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what `tutti bench --json FILE` measured.

    bench/plot.py results.json [more.json ...] -o plot.svg [--metric us_p50|us_p99|us_alone_p50|bytes_per_second]

One panel for each operation, type and number of ranks; one line for each competitor, and the memcpy bound where
the bench printed one. The format follows the name of the output: .svg, .png, .pdf. Needs matplotlib
(apt-get install python3-matplotlib).
"""
import argparse
import json
import os
import sys
import tempfile

METRICS = {
    "us_p50": "microseconds a call, median",
    "us_p99": "microseconds a call, 99th percentile",
    "us_alone_p50": "microseconds of a call behind a barrier, median",
    "bytes_per_second": "bytes a second",
}
# Colours that stay apart for the colour-blind (Okabe and Ito), one for each competitor in every panel.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]


def fail(sentence):
    sys.exit(f"plot.py: {sentence}")


def read_results(paths):
    """All rows of all files, each with the keys that are drawn."""
    rows = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)["results"]
        except OSError as error:
            fail(f"cannot read {path}: {error.strerror}")
        except (ValueError, KeyError, TypeError):
            fail(f"{path} is no result of tutti bench --json")
        rows += [row for row in found if row.get("bytes", 0) > 0]
    if not rows:
        fail("nothing to draw: no result has a size")
    return rows


def group(rows):
    """{(op, dtype, ranks): {label: [row, ...] by size}}, in the order of the files."""
    panels = {}
    for row in rows:
        panel = panels.setdefault((row["op"], row["dtype"], row["ranks"]), {})
        label = row["peer"] + (" (graph)" if row["graph"] else "")
        panel.setdefault(label, []).append(row)
    for panel in panels.values():
        for line in panel.values():
            line.sort(key=lambda row: row["bytes"])
    return panels


def size_text(size, _position=None):
    for unit, shift in (("G", 30), ("M", 20), ("K", 10)):
        if size >= 1 << shift:
            return f"{size / (1 << shift):g}{unit}"
    return f"{size:g}"


def draw_bound(axes, lines, metric):
    rows = [row for row in next(iter(lines.values())) if row.get("bound_us")]
    if not rows or metric == "us_p99":
        return
    sizes = [row["bytes"] for row in rows]
    bound = [row["bound_us"] for row in rows]
    if metric == "bytes_per_second":
        bound = [row["payload_bytes"] / (us * 1e-6) for row, us in zip(rows, bound)]
    axes.plot(sizes, bound, color="#666666", linestyle=":", label="memcpy bound")


def draw(panels, metric, ticker, pyplot):
    columns = min(len(panels), 3)
    height = (len(panels) + columns - 1) // columns
    figure, grid = pyplot.subplots(height, columns, figsize=(5.2 * columns, 3.9 * height), squeeze=False)
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    for axes, ((op, dtype, ranks), lines) in zip(grid.flat, panels.items()):
        draw_bound(axes, lines, metric)
        for label, rows in lines.items():
            axes.plot([row["bytes"] for row in rows], [row[metric] for row in rows], marker="o", markersize=3,
                      color=colours[label], label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(size_text))
        axes.set_title(f"{op}, {dtype}, {ranks} ranks", fontsize=10)
        axes.set_xlabel("bytes")
        axes.set_ylabel(METRICS[metric])
        axes.grid(True, which="major", linewidth=0.4)
        axes.legend(fontsize=8)
    for axes in list(grid.flat)[len(panels):]:
        axes.set_visible(False)
    figure.tight_layout()
    return figure


def save(figure, path):
    """All of the picture or none of it."""
    extension = os.path.splitext(path)[1]
    beside = None
    try:
        handle, beside = tempfile.mkstemp(suffix=extension, dir=os.path.dirname(path) or ".")
        os.close(handle)
        figure.savefig(beside)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(beside, 0o666 & ~mask)
        os.replace(beside, path)
    except (OSError, ValueError) as error:
        if beside is not None and os.path.exists(beside):
            os.unlink(beside)
        fail(f"cannot write {path}: {error}")


def main():
    parser = argparse.ArgumentParser(description="Draws what `tutti bench --json FILE` measured.")
    parser.add_argument("results", nargs="+", help="JSON files of tutti bench")
    parser.add_argument("-o", "--output", required=True, help="the picture: .svg, .png or .pdf")
    parser.add_argument("--metric", choices=METRICS, default="us_p50")
    options = parser.parse_args()
    panels = group(read_results(options.results))
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot, ticker
    except ImportError:
        fail("matplotlib is missing: apt-get install python3-matplotlib")
    save(draw(panels, options.metric, ticker, pyplot), options.output)


if __name__ == "__main__":
    main()
