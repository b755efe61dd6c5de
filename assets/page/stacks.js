"use strict";

// Bars over the layers, what each part of a layer adds stacked from zero, and a line through them: one panel
// at a time, with a choice of it and a legend that hides and shows parts.
(() => {
  const { element, number } = massact;

  /** Fills `box`; `chart` has `y`, `line`, `parts` (`label`, `color`) and `panels` (`label`, `stacks` by layer and
   * part, `line` by layer, `marks` as [layer, text]). */
  massact.stacks = (box, chart) => {
    let panel = chart.panels[0];
    const hidden = new Set();
    const legend = element("div", { class: "legend" });
    const frame = element("div", { class: "plot" });
    const choice = massact.chooser(
      "Value",
      chart.panels.map(({ label }, at) => [String(at), label]),
      "0",
      (at) => {
        panel = chart.panels[Number(at)];
        redraw();
      },
    );
    box.replaceChildren(element("div", { class: "tools" }, legend, choice), frame);
    const key = (label, color, kind) => {
      const swatch = element("span", { class: `swatch ${kind}` });
      swatch.style.setProperty("--color", color);
      const button = element("button", { type: "button", "aria-pressed": true }, swatch, label);
      button.addEventListener("click", () => {
        if (!hidden.delete(label)) hidden.add(label);
        button.setAttribute("aria-pressed", !hidden.has(label));
        redraw();
      });
      return button;
    };
    legend.append(
      ...chart.parts.map(({ label, color }) => key(label, color, "")),
      key(chart.line, "currentColor", "line"),
    );
    const redraw = massact.fitted(frame, (width) => frame.replaceChildren(plot(chart, panel, hidden, width)));
  };

  /** The rectangles of a layer's parts: what is above zero upwards, what is below downwards. */
  function stack(chart, values, layer, hidden) {
    let [up, down] = [0, 0];
    return chart.parts.flatMap((part, at) => {
      const value = values[at];
      if (hidden.has(part.label) || !Number.isFinite(value) || value === 0) return [];
      const from = value > 0 ? up : down;
      if (value > 0) up += value;
      else down += value;
      return [{ layer, value, part, from, to: from + value }];
    });
  }

  function plot(chart, panel, hidden, width) {
    const bars = panel.stacks.flatMap((values, layer) => stack(chart, values, layer, hidden));
    const showsLine = !hidden.has(chart.line);
    const line = panel.line
      .map((value, layer) => ({ layer, value }))
      .filter(({ value }) => showsLine && Number.isFinite(value));
    const ends = [0, ...bars.map(({ to }) => to), ...line.map(({ value }) => value)];
    const [least, most] = [Math.min(...ends), Math.max(...ends)];
    const room = (most - least) * 0.06 || 1;
    const layers = panel.stacks.length;
    const marginLeft = width < 480 ? 58 : 66;
    const says = (layer) =>
      [
        `layer  ${layer}`,
        ...chart.parts.map(({ label }, at) => `${label}  ${number(panel.stacks[layer][at])}`),
        `${chart.line}  ${number(panel.line[layer])}`,
        ...panel.marks.filter(([at]) => at === layer).map(([, text]) => text),
      ].join("\n");
    // The pointer finds a bar's middle or the line.
    const points = [
      ...bars.map(({ layer, from, to }) => ({ layer, value: (from + to) / 2 })),
      ...line,
    ];
    return Plot.plot({
      width,
      height: width < 480 ? 300 : 380,
      marginLeft,
      marginTop: 30,
      marginBottom: 40,
      ariaLabel: `${chart.y}: ${panel.label}`,
      style: { fontSize: "12px" },
      x: { type: "linear", domain: [-0.6, layers - 0.4], label: null },
      y: { type: "linear", domain: [least < 0 ? least - room : 0, most + room], label: null },
      marks: [
        Plot.gridY({ ticks: 6, stroke: "var(--line)", strokeOpacity: 1 }),
        Plot.rect(bars, {
          x1: ({ layer }) => layer - 0.36,
          x2: ({ layer }) => layer + 0.36,
          y1: "from",
          y2: "to",
          fill: ({ part }) => part.color,
          className: "bar",
        }),
        Plot.line(line, { x: "layer", y: "value", stroke: "currentColor", strokeWidth: 1.4, className: "series" }),
        Plot.dot(line, { x: "layer", y: "value", fill: "currentColor", r: 2.4, className: "point" }),
        Plot.text(panel.marks, {
          x: ([layer]) => layer,
          text: ([, text]) => text,
          frameAnchor: "top",
          dy: -12,
          fill: "currentColor",
        }),
        Plot.axisY({
          ticks: 6,
          tickFormat: massact.tick,
          tickSize: 0,
          label: chart.y,
          labelArrow: "none",
          labelAnchor: "top",
        }),
        Plot.axisX({
          ticks: massact.wholeTicks(0, layers - 1, width - marginLeft),
          tickFormat: massact.tick,
          label: "Layer (first is 0)",
          labelArrow: "none",
          labelAnchor: "center",
        }),
        massact.tip(points, { x: "layer", y: "value", title: ({ layer }) => says(layer) }),
      ],
    });
  }
})();
