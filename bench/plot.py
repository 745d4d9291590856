#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what `tutti bench --json FILE` and bench/torch_peers.py measured, and puts it into one table.

    bench/plot.py results.json [more.json ...] -o plot.svg [--metric us_p50|us_p99|us_alone_p50|bytes_per_second]
    bench/plot.py gpu-2.json gpu-4.json torch-2.json torch-4.json -o docs/results/gpu.svg --table docs/results/gpu-table.md

One panel for each operation, type and number of ranks; one line for each competitor, and the memcpy bound where
the bench printed one. A competitor that several files have in a panel is drawn once, from the first of them: figures of two
runs are not one line. The table is Markdown: a column for each competitor, "x" the best peer's figure over ours. The format of
the picture follows its name: .svg, .png, .pdf. Needs matplotlib (apt-get install python3-matplotlib).
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
    """All rows of all files that have a size, each with the file that it is from."""
    rows = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)["results"]
        except OSError as error:
            fail(f"cannot read {path}: {error.strerror}")
        except (ValueError, KeyError, TypeError):
            fail(f"{path} is no result of tutti bench --json")
        rows += [dict(row, file=path) for row in found if row.get("bytes", 0) > 0]
    if not rows:
        fail("nothing to draw: no result has a size")
    return rows


def group(rows):
    """{(op, dtype, ranks): {label: [row, ...] by size}}, in the order of the files."""
    panels = {}
    left_out = set()
    for row in rows:
        panel = panels.setdefault((row["op"], row["dtype"], row["ranks"]), {})
        label = row["peer"] + (" (graph)" if row["graph"] else "")
        line = panel.setdefault(label, [])
        if line and line[0]["file"] != row["file"]:
            left_out.add(f"{label} of {row['file']}: {line[0]['file']} has it too")
            continue
        line.append(row)
    for sentence in sorted(left_out):
        print(f"plot.py: left out {sentence}", file=sys.stderr)
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
            rows = [row for row in rows if row.get(metric) is not None]
            axes.plot([row["bytes"] for row in rows], [row[metric] for row in rows], marker="o", markersize=3,
                      color=colours[label], label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(size_text))
        axes.yaxis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _position: f"{value:g}"))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
        axes.set_title(f"{op}, {dtype}, {ranks} ranks", fontsize=10)
        axes.set_xlabel("bytes")
        axes.set_ylabel(METRICS[metric])
        axes.grid(True, which="major", linewidth=0.4)
        axes.legend(fontsize=8)
    for axes in list(grid.flat)[len(panels):]:
        axes.set_visible(False)
    figure.tight_layout()
    return figure


def table_of(panel, lines, metric):
    """One panel as Markdown."""
    ours = next((label for label in lines if label.startswith("tutti")), None)
    found = {label: {row["bytes"]: row[metric] for row in rows if row.get(metric) is not None}
             for label, rows in lines.items()}
    op, dtype, ranks = panel
    text = [f"### {op}, {dtype}, {ranks} ranks: {METRICS[metric]}", "",
            "| bytes | " + " | ".join(lines) + " | x |", "|---" * (len(lines) + 2) + "|"]
    for size in sorted({size for figures in found.values() for size in figures}):
        cells = [f"{found[label][size]:.2f}" if size in found[label] else "-" for label in lines]
        peers = [found[label][size] for label in lines if label != ours and size in found[label]]
        best = (max if metric == "bytes_per_second" else min)(peers, default=None)
        ratio = f"{best / found[ours][size]:.2f}" if best is not None and ours and size in found[ours] else "-"
        text.append(f"| {size_text(size)} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(text) + "\n"


def write_table(panels, metric, path):
    text = "\n".join(table_of(panel, lines, metric) for panel, lines in panels.items())
    try:
        with open(path + ".part", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".part", path)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")


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
    parser = argparse.ArgumentParser(description="Draws what `tutti bench --json FILE` measured, and puts it into one table.")
    parser.add_argument("results", nargs="+", help="JSON files of tutti bench and bench/torch_peers.py")
    parser.add_argument("-o", "--output", help="the picture: .svg, .png or .pdf")
    parser.add_argument("--table", help="the table: Markdown")
    parser.add_argument("--metric", choices=METRICS, default="us_p50")
    options = parser.parse_args()
    if options.output is None and options.table is None:
        parser.error("say what to make: --output or --table")
    panels = group(read_results(options.results))
    if options.table is not None:
        write_table(panels, options.metric, options.table)
    if options.output is None:
        return
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot, ticker
    except ImportError:
        fail("matplotlib is missing: apt-get install python3-matplotlib")
    save(draw(panels, options.metric, ticker, pyplot), options.output)


if __name__ == "__main__":
    main()
