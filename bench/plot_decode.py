#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what bench/decode_torch.py measured, and puts it into tables.

    bench/plot_decode.py decode-2.json decode-4.json -o docs/results/decode-torch.svg --table decode-tables.md

A panel for each model and number of ranks: tokens per second over the batch, relative to NCCL called directly. The tables are
Markdown. Needs matplotlib for the picture (apt-get install python3-matplotlib).
"""
import argparse
import json

from plot import COLOURS, fail, save

BASE = "nccl"
OURS = "tutti"


def read(paths):
    """The files' results by (model, ranks), and their starts likewise."""
    results, starts = {}, {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
            for row in found["results"]:
                results.setdefault((row["model"], row["ranks"]), {}).setdefault(row["way"], {})[row["batch"]] = row
            for row in found["start"]:
                starts.setdefault((row["model"], row["ranks"]), []).append(row)
        except OSError as error:
            fail(f"cannot read {path}: {error.strerror}")
        except (ValueError, KeyError, TypeError):
            fail(f"{path} is no result of bench/decode_torch.py --json")
    for (model, ranks), ways in results.items():
        if BASE not in ways or OURS not in ways:
            fail(f"{model} on {ranks} ranks lacks {BASE} or {OURS}")
    return results, starts


def markdown(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|"] + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def tables(results, starts):
    text = []
    for (model, ranks), ways in results.items():
        others = [way for way in ways if way not in ("none", OURS)]
        batches = sorted(ways[OURS])
        text += [f"### {model}, {ranks} GPUs: tokens per second", ""]
        rows = []
        for batch in batches:
            speed = {way: ways[way][batch]["tokens_per_second"] for way in ways}
            best = max(speed[way] for way in others)
            rows.append([str(batch), f"**{speed[OURS]:.0f}**"] + [f"{speed[way]:.0f}" for way in others] + [f"{speed['none']:.0f}"] +
                        [f"{speed[OURS] / speed[BASE]:.3f}", f"{speed[OURS] / best:.3f}"])
        text.append(markdown(["batch", OURS] + others + ["no sums", f"over {BASE}", "over the best"], rows))
        text += [f"{model}, {ranks} GPUs: share of communication in the step, and (microseconds that each of the "
                 f"{ways[OURS][batches[0]]['sums']} sums adds)", ""]
        rows = [[str(batch)] + [f"{ways[way][batch]['communication_share'] * 100:.1f}% ({ways[way][batch]['us_per_sum']:.2f})"
                                for way in [OURS] + others] for batch in batches]
        text.append(markdown(["batch", OURS] + others, rows))
    if starts:
        ways = [row["way"] for row in next(iter(starts.values()))]
        rows = [[model, str(ranks)] + [f"{row['capture_ms']:.0f}" + (f" + {row['commit_ms']:.1f}" if row["way"] == OURS else "")
                                       for row in found] for (model, ranks), found in starts.items()]
        text += ["### Capturing 36 sizes, ms (with the commit)", "",
                 markdown(["model", "GPUs"] + ["no sums" if way == "none" else way for way in ways], rows)]
    return "\n".join(text)


def draw(results, pyplot, ticker):
    figure, grid = pyplot.subplots(1, len(results), figsize=(4.6 * len(results), 3.9), squeeze=False, sharey=True)
    for axes, ((model, ranks), ways) in zip(grid.flat, results.items()):
        for colour, way in zip(COLOURS, [OURS] + [way for way in ways if way not in ("none", OURS)]):
            batches = sorted(ways[way])
            ratio = [ways[way][batch]["tokens_per_second"] / ways[BASE][batch]["tokens_per_second"] for batch in batches]
            axes.plot(batches, ratio, marker="o", markersize=3, color=colour, label=way)
        batches = sorted(ways["none"])
        bound = [ways["none"][batch]["tokens_per_second"] / ways[BASE][batch]["tokens_per_second"] for batch in batches]
        axes.plot(batches, bound, color="#666666", linestyle=":", label="no sums at all")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _position: f"{value:g}"))
        axes.set_title(f"{model}, {ranks} GPUs", fontsize=10)
        axes.set_xlabel("batch")
        axes.grid(True, which="major", linewidth=0.4)
    grid.flat[0].set_ylabel(f"tokens per second, {BASE} = 1")
    grid.flat[-1].legend(fontsize=8)
    figure.tight_layout()
    return figure


def main():
    parser = argparse.ArgumentParser(description="Draws what bench/decode_torch.py measured, and puts it into tables.")
    parser.add_argument("results", nargs="+", help="JSON files of bench/decode_torch.py")
    parser.add_argument("-o", "--output", help="the picture: .svg, .png or .pdf")
    parser.add_argument("--table", help="the tables: Markdown")
    options = parser.parse_args()
    if options.output is None and options.table is None:
        parser.error("say what to make: --output or --table")
    results, starts = read(options.results)
    if options.table is not None:
        try:
            with open(options.table, "w", encoding="utf-8") as file:
                file.write(tables(results, starts))
        except OSError as error:
            fail(f"cannot write {options.table}: {error.strerror}")
    if options.output is None:
        return
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot, ticker
    except ImportError:
        fail("matplotlib is missing: apt-get install python3-matplotlib")
    save(draw(results, pyplot, ticker), options.output)


if __name__ == "__main__":
    main()
