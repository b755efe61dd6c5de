"use strict";

// Lines over the layers (or over steps): a legend that hides and shows, linear or logarithmic.
(() => {
  const { element, number } = massact;
  // Plot's names of the markers in the static figures.
  const symbols = { circle: "circle", square: "square", diamond: "diamond", triangle: "triangle" };

  /**
   * Fills `box`. `chart` has `x`, `y` (labels), `log` (whether to begin so), `series` (`label`, `color`,
   * `marker`, `points` as [x, y], `notes` by point), `marked` (`label`, `xs`); `logX` for an x of decades,
   * `fractions` for one that is no whole number.
   * Returns a function that shows another chart in its place.
   */
  massact.lines = (box, chart) => {
    let log = chart.log;
    let hidden = new Set();
    const legend = element("div", { class: "legend" });
    const frame = element("div", { class: "plot" });
    const remark = element("p", { class: "remark" });
    const scale = massact.switch(
      `Axis of ${chart.y}`,
      [["log", "Log"], ["linear", "Linear"]],
      log ? "log" : "linear",
      (value) => {
        log = value === "log";
        redraw();
      },
    );
    // A logarithm of cosines or logits says nothing.
    const negative = chart.series.some((series) => series.points.some(([, y]) => y < 0));
    const tools = element("div", { class: "tools" }, legend, negative ? null : scale);
    box.replaceChildren(tools, frame, remark);

    const key = (series) => {
      const swatch = element("span", { class: `swatch ${series.marker}` });
      swatch.style.setProperty("--color", series.color);
      if (series.marker === "none") swatch.classList.add("line");
      const button = element("button", { type: "button", "aria-pressed": true }, swatch, series.label);
      button.addEventListener("click", () => {
        if (!hidden.delete(series.label)) hidden.add(series.label);
        button.setAttribute("aria-pressed", !hidden.has(series.label));
        redraw();
      });
      return button;
    };
    const showLegend = () => {
      const keys = chart.series.map(key);
      if (chart.marked) {
        const swatch = element("span", { class: "swatch band" });
        keys.push(element("span", { class: "key" }, swatch, chart.marked.label));
      }
      legend.replaceChildren(...keys);
    };

    const draw = (width) => {
      const shown = chart.series.filter((series) => !hidden.has(series.label));
      const all = shown.flatMap((series) =>
        series.points.map(([x, y], index) => ({ x, y, series, notes: series.notes?.[index] })),
      );
      const fits = ({ x, y }) =>
        Number.isFinite(x) && Number.isFinite(y) && (!log || y > 0) && (!chart.logX || x > 0);
      const points = all.filter(fits);
      const left = all.filter(({ y }) => Number.isFinite(y)).length - points.length;
      remark.textContent = left > 0 ? `${left} values of zero or less have no place here` : "";
      frame.replaceChildren(plot(chart, shown, points, log, width));
    };
    showLegend();
    const redraw = massact.fitted(frame, draw);
    return (other) => {
      chart = other;
      hidden = new Set();
      showLegend();
      redraw();
    };
  };

  function plot(chart, shown, points, log, width) {
    const ys = points.map((point) => point.y);
    const xs = points.map((point) => point.x);
    const [least, most] = [Math.min(...ys), Math.max(...ys)];
    const [first, last] = [Math.min(...xs), Math.max(...xs)];
    const empty = points.length === 0;
    const [low, high] = log
      ? [least / 1.3, most * 1.3]
      : [Math.min(0, least), Math.max(0, most) * 1.04 || 1];
    const room = Math.max((last - first) * 0.02, chart.fractions ? 0.02 : 0.5);
    const marginLeft = width < 480 ? 52 : 58;
    const marked = !chart.marked ? [] : chart.marked.xs;
    return Plot.plot({
      width,
      height: width < 480 ? 280 : 360,
      marginLeft,
      marginTop: 28,
      marginBottom: 40,
      ariaLabel: `${chart.y} over ${chart.x}`,
      style: { fontSize: "12px" },
      x: chart.logX
        ? { type: "log", domain: empty ? [1, 10] : [first / 1.1, last * 1.1], label: null }
        : { type: "linear", domain: empty ? [0, 1] : [first - room, last + room], label: null },
      y: { type: log ? "log" : "linear", domain: empty ? [1, 10] : [low, high], label: null },
      marks: [
        Plot.rect(marked, {
          x1: (x) => x - 0.5,
          x2: (x) => x + 0.5,
          fill: "var(--band)",
          className: "band",
        }),
        Plot.gridY({ ticks: log && !empty ? massact.logTicks(low, high) : 6, stroke: "var(--line)", strokeOpacity: 1 }),
        Plot.axisY({
          ticks: log && !empty ? massact.logTicks(low, high) : 6,
          tickFormat: massact.tick,
          tickSize: 0,
          label: chart.y,
          labelArrow: "none",
          labelAnchor: "top",
        }),
        Plot.axisX({
          ticks: chart.logX || chart.fractions || empty ? undefined : massact.wholeTicks(first, last, width - marginLeft),
          tickFormat: massact.tick,
          label: chart.x,
          labelArrow: "none",
          labelAnchor: "center",
        }),
        ...shown.map((series) =>
          Plot.line(series.points, {
            x: ([x]) => x,
            // What an axis of powers cannot show interrupts the line.
            y: ([, y]) => (y === null || (log && y <= 0) ? NaN : y),
            stroke: series.color,
            strokeWidth: 1.8,
            strokeDasharray: series.dash,
            className: "series",
          }),
        ),
        ...shown
          .filter((series) => series.marker !== "none")
          .map((series) =>
            Plot.dot(
              points.filter((point) => point.series === series),
              {
                x: "x",
                y: "y",
                symbol: symbols[series.marker],
                fill: series.color,
                stroke: "var(--ground)",
                strokeWidth: 0.6,
                r: points.length > 1500 ? 2 : 3.4,
                className: "point",
              },
            ),
          ),
        massact.tip(points, { x: "x", y: "y", title: (point) => says(chart, point) }),
      ],
    });
  }

  function says(chart, { x, y, series, notes }) {
    const name = chart.x.split(" (")[0];
    const lines = [series.label, `${name.toLowerCase()}  ${massact.tick(x)}`, `value  ${number(y)}`];
    for (const [what, value] of notes ?? []) lines.push(`${what}  ${value}`);
    return lines.join("\n");
  }
})();
