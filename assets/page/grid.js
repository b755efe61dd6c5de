"use strict";

// Cells with layers across: what is large where.
(() => {
  const { element, number } = massact;

  /** Fills `box`; `chart` has `title`, `log`, `layers` and `rows` (`label`, `values`, `notes`). */
  massact.grid = (box, chart) => {
    let log = chart.log;
    const frame = element("div", { class: "plot" });
    const tools = element("div", { class: "tools" }, element("p", { class: "title" }, chart.title));
    if (chart.log) {
      tools.append(
        massact.switch("Colours", [["log", "Log"], ["linear", "Linear"]], "log", (value) => {
          log = value === "log";
          redraw();
        }),
      );
    }
    box.replaceChildren(tools, frame);
    const redraw = massact.fitted(frame, (width) => frame.replaceChildren(plot(chart, log, width)));
  };

  function plot(chart, log, width) {
    const cells = chart.rows.flatMap((row, at) =>
      row.values
        .map((value, layer) => ({ value, layer, at, row, note: row.notes?.[layer] }))
        .filter(({ value }) => value !== null && (!log || value > 0)),
    );
    const values = cells.map((cell) => cell.value);
    const low = log ? Math.min(...values) : Math.min(0, ...values);
    const high = Math.max(...values);
    const longest = Math.max(...chart.rows.map((row) => row.label.length), 4);
    // As wide as most labels need, so that grids below each other are in line.
    const marginLeft = Math.min(Math.max(longest * 7 + 16, width < 600 ? 60 : 170), width * 0.36);
    const letters = Math.floor((marginLeft - 12) / 6.6);
    const cut = (label) => (label.length > letters ? `${label.slice(0, Math.max(letters - 1, 1))}…` : label);
    const rowHeight = chart.rows.length > 24 ? 14 : 22;
    const inner = Math.min(width - marginLeft - 12, chart.layers * 48);
    return Plot.plot({
      width: marginLeft + inner + 12,
      height: chart.rows.length * rowHeight + 62,
      marginLeft,
      marginTop: 6,
      marginBottom: 40,
      marginRight: 12,
      ariaLabel: chart.title,
      style: { fontSize: "12px" },
      x: { type: "linear", domain: [-0.5, chart.layers - 0.5], label: null },
      y: { type: "linear", domain: [chart.rows.length - 0.5, -0.5], axis: null },
      color: {
        type: log ? "log" : "linear",
        scheme: "viridis",
        domain: low < high ? [low, high] : [low * 0.9, low * 1.1 || 1],
        legend: cells.length > 0,
        marginLeft: 18,
        marginRight: 18,
        width: 260,
        tickFormat: massact.tick,
        ticks: log && high / low >= 10 ? massact.logTicks(low, high, 4) : 4,
        label: null,
      },
      marks: [
        Plot.rect(cells, {
          x1: ({ layer }) => layer - 0.5,
          x2: ({ layer }) => layer + 0.5,
          y1: ({ at }) => at - 0.46,
          y2: ({ at }) => at + 0.46,
          fill: "value",
          className: "cell",
        }),
        Plot.frame({ stroke: "var(--line)" }),
        Plot.axisX({
          ticks: massact.wholeTicks(0, chart.layers - 1, inner, 34),
          tickFormat: massact.tick,
          label: "Layer (first is 0)",
          labelArrow: "none",
          labelAnchor: "center",
        }),
        Plot.text(chart.rows, {
          y: (_, at) => at,
          text: (row) => cut(row.label),
          frameAnchor: "left",
          textAnchor: "end",
          dx: -8,
          fill: "currentColor",
        }),
        massact.tip(cells, {
          x: "layer",
          y: "at",
          title: ({ value, layer, row, note }) => [
            row.label,
            `layer  ${layer}`,
            `value  ${number(value)}`,
            ...(note ?? []).map(([what, text]) => `${what}  ${text}`),
          ].join("\n"),
        }),
      ],
    });
  }
})();
