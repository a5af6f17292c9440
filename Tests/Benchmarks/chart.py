"""The figures of a run as one SVG: a bar for each row, its length the share of what Redis needs."""

from html import escape

ROW, LABEL, WIDTH, RIGHT = 17, 250, 420, 70
GOOD, BAD, GRID, TEXT = "#2b7a78", "#b5482f", "#c8c8c8", "#333333"


def groups(figures):
    """[(title, [(label, ratio, target or None)])] of what was measured for both servers."""
    found = []
    rows = [row for row in figures.get("cpu", []) if "ratio" in row]
    for pipeline in dict.fromkeys(row["pipeline"] for row in rows):
        title = f"server CPU per operation, pipeline {pipeline}" if pipeline > 1 else "server CPU per operation, no pipeline"
        found.append((title, [(row["test"], row["ratio"], row.get("target")) for row in rows if row["pipeline"] == pipeline]))
    if rows := [row for row in figures.get("latency", []) if "ratio" in row]:
        title = f"latency at {rows[0]['rate']:.0f} requests/s"
        found.append((title, [(row["percentile"], row["ratio"], 1.0 if row["percentile"] == "p99" else None) for row in rows]))
    if rows := [row for row in figures.get("memory", []) if row.get("redis") and row.get("vigie")]:
        found.append(("resident bytes per item", [
            (row["kind"], row["vigie"] / row["redis"], row["target"] / row["redis"] if row.get("target") else None)
            for row in rows]))
    if rows := [row for row in figures.get("snapshots", []) if "ratio" in row]:
        found.append(("SAVE and loading", [(f"{row['action']} {row['kind']}", row["ratio"], row["target"]) for row in rows]))
    if rows := {policy: row for policy, row in figures.get("aof", {}).items() if "ratio" in row}:
        found.append(("time per SET with the append-only file", [
            (f"appendfsync {policy}" if policy != "off" else "no file", 1 / row["ratio"], 1 / row["target"] if row["target"] else None)
            for policy, row in rows.items()]))
    for part, title in (("snapshot-latency", "latency before and while snapshots are written"), ("replication", "replication")):
        if rows := [row for row in figures.get(part, []) if "ratio" in row]:
            found.append((title, [(row["what"], row["ratio"], row["target"]) for row in rows]))
    return found


def draw(figures):
    """The SVG's text. A bar ends at Vigie's share of Redis's figure; the line at 1.0 is Redis, a tick is the target."""
    parts, y = [], 40
    longest = max([1.05] + [ratio for _, rows in groups(figures) for _, ratio, _ in rows])
    scale = WIDTH / longest

    def text(x, y, words, anchor="start", weight="normal"):
        parts.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" fill="{TEXT}">{escape(words)}</text>')
    for title, rows in groups(figures):
        y += 14
        text(10, y, title, weight="bold")
        y += 8
        top = y
        for label, ratio, target in rows:
            text(LABEL - 8, y + 12, label, "end")
            missed = target is not None and ratio > target
            parts.append(f'<rect x="{LABEL}" y="{y + 2}" width="{ratio * scale:.1f}" height="{ROW - 5}" fill="{BAD if missed else GOOD}"/>')
            text(round(LABEL + max(ratio, target or 0) * scale + 5, 1), y + 12, f"{ratio:.2f}")
            if target is not None:
                x = LABEL + target * scale
                parts.append(f'<path d="M{x:.1f} {y}v{ROW - 1}" stroke="{TEXT}" stroke-width="1.5"/>')
            y += ROW
        parts.append(f'<path d="M{LABEL + scale:.1f} {top}V{y}" stroke="{GRID}" stroke-width="2"/>')
        y += 6
    versions = figures.get("versions", {})
    head = f"Vigie beside Redis {versions.get('redis', '')} (grey line = 1.00; black tick = target), {figures.get('when', '')[:10]}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + WIDTH + RIGHT}" height="{y + 10}" '
            f'font-family="Helvetica, Arial, sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
            f'<text x="10" y="24" font-size="14" font-weight="bold" fill="{TEXT}">{escape(head)}</text>{"".join(parts)}</svg>\n')
