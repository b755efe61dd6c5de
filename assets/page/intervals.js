"use strict";

// Values with their intervals over ranges that have names (classes).
(() => {
  const { element, number } = massact;

  /** Fills `box`; `chart` has `x`, `reference`, `bands` and `groups` of rows. */
  massact.intervals = (box, chart) => {
    let log = true;
    const frame = element("div", { class: "plot" });
    const scale = massact.switch(
      `Axis of ${chart.x}`,
      [["log", "Log"], ["linear", "Linear"]],
      "log",
      (value) => {
        log = value === "log";
        redraw();
      },
    );
    box.replaceChildren(element("div", { class: "tools" }, element("p", { class: "title" }, chart.x), scale), frame);
    const redraw = massact.fitted(frame, (width) => frame.replaceChildren(plot(chart, log, width)));
  };

  // A line for every heading and every row, top to bottom.
  function lay(chart) {
    return chart.groups.flatMap((group) => [
      { heading: true, label: group.label },
      ...group.rows.map((row) => ({ ...row, group: group.label })),
    ]).map((line, at) => ({ ...line, at }));
  }

  function plot(chart, log, width) {
    const lines = lay(chart);
    const rows = lines.filter((line) => !line.heading);
    const drawn = rows.filter((row) => row.value > 0);
    const ends = drawn.flatMap((row) => [row.value, row.low ?? row.value, row.high ?? row.value]);
    const reach = [chart.reference, ...ends.filter((end) => end > 0)];
    const [least, most] = [Math.min(...reach), Math.max(...reach)];
    const room = log ? Math.max((most / least) ** 0.06, 1.001) : 0.04 * (most - least) || 0.1;
    const [low, high] = log ? [least / room, most * room] : [least - room, most + room];
    const longest = Math.max(...lines.map((line) => line.label.length), 6);
    const marginLeft = Math.min(longest * 7 + 24, width * 0.4);
    const fit = Math.max(2, Math.min(Math.floor((width - marginLeft) / 64), 8));
    const ticks = log && high / low >= 4 ? massact.logTicks(low, high, fit) : fit;
    const bands = chart.bands
      .map((band, index) => ({ label: band.label, from: band.from ?? low, to: band.to ?? high, index }))
      .map((band) => ({ ...band, from: Math.max(band.from, low), to: Math.min(band.to, high) }))
      .filter((band) => band.from < band.to);
    const at = (value) => (log ? Math.log(value) : value);
    const share = (band) => (at(band.to) - at(band.from)) / (at(high) - at(low));
    const letters = Math.floor((marginLeft - 20) / 6.6);
    const cut = (label) => (label.length > letters ? `${label.slice(0, Math.max(letters - 1, 1))}…` : label);
    return Plot.plot({
      width,
      height: lines.length * 25 + 66,
      marginLeft,
      marginTop: 30,
      marginBottom: 30,
      marginRight: 16,
      ariaLabel: chart.x,
      style: { fontSize: "12px" },
      x: { type: log ? "log" : "linear", domain: [low, high], label: null },
      y: { type: "linear", domain: [lines.length - 0.4, -0.6], axis: null },
      marks: [
        Plot.rect(bands.filter((band) => band.index % 2 === 1), {
          x1: "from", x2: "to", y1: -0.6, y2: lines.length - 0.4, fill: "var(--band)", className: "band",
        }),
        Plot.text(bands.filter((band) => share(band) * (width - marginLeft) > band.label.length * 7), {
          x: (band) => (log ? Math.sqrt(band.from * band.to) : (band.from + band.to) / 2),
          text: "label", frameAnchor: "top", dy: -14, fill: "var(--muted)",
        }),
        Plot.gridX({ ticks, stroke: "var(--line)", strokeOpacity: 1 }),
        Plot.axisX({
          ticks, tickFormat: massact.tick, label: null,
        }),
        Plot.ruleX([chart.reference], { stroke: "var(--muted)" }),
        Plot.text(lines.filter((line) => line.heading), {
          y: "at", text: (line) => cut(line.label), frameAnchor: "left", textAnchor: "start",
          dx: 8 - marginLeft, fontWeight: 600, fill: "currentColor",
        }),
        Plot.text(rows, {
          y: "at", text: (line) => cut(line.label), frameAnchor: "left", textAnchor: "start",
          dx: 20 - marginLeft, fill: "currentColor",
        }),
        Plot.text(rows.filter((row) => !(row.value > 0)), {
          y: "at", text: () => "no finite value", frameAnchor: "right", textAnchor: "end", dx: -6,
          fill: "var(--muted)",
        }),
        Plot.link(drawn.filter((row) => row.low > 0 && row.high > 0), {
          x1: "low", x2: "high", y1: "at", y2: "at", stroke: "color", strokeWidth: 2, className: "interval",
        }),
        ...["low", "high"].map((end) =>
          Plot.link(drawn.filter((row) => row.low > 0 && row.high > 0), {
            x1: end, x2: end, y1: (row) => row.at - 0.18, y2: (row) => row.at + 0.18, stroke: "color", strokeWidth: 2,
          }),
        ),
        Plot.dot(drawn, { x: "value", y: "at", fill: "color", r: 4.5, className: "point" }),
        massact.tip(drawn, { x: "value", y: "at", title: (row) => says(chart, row) }),
      ],
    });
  }

  function says(chart, row) {
    const within = chart.bands.find((band) => row.value < (band.to ?? Infinity));
    const lines = [row.group, row.label, `ratio  ${number(row.value)}`];
    if (row.low !== null) lines.push(`95 % interval  ${number(row.low)} to ${number(row.high)}`);
    if (within) lines.push(`class  ${within.label}`);
    return lines.join("\n");
  }
})();
