"use strict";

// A sweep's overview: rows to filter and to lay over each other, and trajectories.
(() => {
  const { element } = massact;
  // The palette of the static figures first; then darker and lighter ones.
  const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8a6d00", "#6e6e6e", "#7b4fb5"];
  const MARKERS = ["circle", "square", "diamond", "triangle"];
  // Rows that are laid over each other at first: what an eye still follows.
  const AT_FIRST = 6;

  const look = (index) => ({
    color: COLORS[index % COLORS.length],
    // Eight colours and four markers: thirty-two pairs before one comes again.
    marker: MARKERS[Math.floor(index / COLORS.length + index) % MARKERS.length],
  });

  const QUANTITIES = {
    top1: ["Largest magnitude (mean top-1)", (row) => row.top1],
    median: ["Median magnitude (mean median)", (row) => row.median],
    ratio: ["Largest magnitude over the median", (row) => row.top1.map((top, layer) => divided(top, row.median[layer]))],
  };
  const divided = (top, median) => (median > 0 ? top / median : null);

  /** The table's filters, and the chart of its chosen rows. */
  massact.overview = (box, chartBox, data) => {
    const table = massact.table(box.querySelector(".table"), 2);
    const rows = [...box.querySelectorAll("tbody tr")];
    const withLayers = data.rows.map((row, index) => (row.top1.length > 0 ? index : -1)).filter((at) => at >= 0);
    const chosen = new Set(withLayers.slice(0, AT_FIRST));

    filterByVerdict(box, table, rows);
    if (withLayers.length === 0) return;

    let quantity = "top1";
    let depth = false;
    const place = element("div", {});
    const tools = element("div", { class: "tools" },
      massact.chooser("Show", Object.entries(QUANTITIES).map(([key, [label]]) => [key, label]), quantity, (value) => {
        quantity = value;
        show();
      }),
      massact.switch("Across", [["layer", "By layer"], ["depth", "By depth"]], "layer", (value) => {
        depth = value === "depth";
        show();
      }),
    );
    chartBox.replaceChildren(tools, place);
    const chart = () => {
      const [label, values] = QUANTITIES[quantity];
      const across = (layer, layers) => (depth ? layer / Math.max(layers - 1, 1) : layer);
      return {
        x: depth ? "Depth (0: first layer, 1: last)" : "Layer (first is 0)",
        y: label,
        log: true,
        fractions: depth,
        series: [...chosen].sort((a, b) => a - b).map((index) => {
          const row = data.rows[index];
          const points = values(row).map((value, layer) => [across(layer, row.top1.length), value]);
          const notes = points.map((_, layer) => [
            ...(depth ? [["layer", `${layer}`]] : []),
            ...(row.places[layer] ? [["largest", row.places[layer]]] : []),
          ]);
          return { label: row.label, ...look(index), points, notes };
        }),
      };
    };
    const update = massact.lines(place, chart());
    const show = () => update(chart());

    rows.forEach((row, index) => {
      const cell = row.querySelector(".choose");
      if (!cell || !withLayers.includes(Number(row.dataset.row))) return;
      const at = Number(row.dataset.row);
      const tick = element("input", { type: "checkbox", "aria-label": `Show ${data.rows[at].label} in the chart` });
      tick.checked = chosen.has(at);
      tick.style.accentColor = look(at).color;
      tick.addEventListener("change", () => {
        if (tick.checked) chosen.add(at);
        else chosen.delete(at);
        show();
      });
      cell.append(tick);
    });
  };

  function filterByVerdict(box, table, rows) {
    const verdicts = [...new Set(rows.map((row) => row.dataset.verdict))].sort();
    const options = [["", "all rows"], ...verdicts.map((verdict) => [verdict, verdict])];
    if (verdicts.length < 2) return;
    const chooser = massact.chooser("Verdict", options, "", (value) => {
      table.also = (row) => value === "" || row.dataset.verdict === value;
      table.apply();
    });
    if (table.tools) table.tools.append(chooser);
    else box.before(element("div", { class: "tools filter" }, chooser));
  }

  /** Values over training steps, with the fitted curve. */
  massact.trajectories = (box, trajectories) => {
    let model = 0;
    let layer = 0;
    let quantity = "max";
    const names = { max: "Largest magnitude", median: "Median magnitude", ratio: "Largest magnitude over the median" };
    const place = element("div", {});
    const fact = element("p", { class: "remark", role: "status" });
    const layers = () => trajectories[model].layers.map((each, index) => [`${index}`, `layer ${each.layer}`]);
    const layerChooser = massact.chooser("Layer", layers(), "0", (value) => {
      layer = Number(value);
      show();
    });
    const modelChooser = massact.chooser(
      "Model",
      trajectories.map((each, index) => [`${index}`, each.label]),
      "0",
      (value) => {
        model = Number(value);
        layer = Math.min(layer, trajectories[model].layers.length - 1);
        massact.options(layerChooser.querySelector("select"), layers(), `${layer}`);
        show();
      },
    );
    const quantityChooser = massact.chooser("Show", Object.entries(names), quantity, (value) => {
      quantity = value;
      show();
    });
    box.replaceChildren(element("div", { class: "tools" }, modelChooser, layerChooser, quantityChooser), place, fact);
    const chart = () => {
      const { steps, layers } = trajectories[model];
      const found = layers[layer];
      const series = [{
        label: "measured", color: COLORS[0], marker: "circle",
        points: steps.map((step, index) => [step, found[quantity][index]]),
      }];
      const fit = found.fits[quantity];
      if (fit) series.push({ label: "fitted curve", color: COLORS[1], marker: "none", points: fit.curve, dash: "6 4" });
      fact.textContent = fit ? `${fit.says}; R² ${massact.number(fit.r2)}` : "";
      // Checkpoints are often saved at powers of two, and at step 0, which has no place there.
      const positive = steps.filter((step) => step > 0);
      return {
        x: "Training step", y: names[quantity], log: false, series,
        logX: positive.length > 1 && positive.at(-1) / positive[0] >= 100,
      };
    };
    const update = massact.lines(place, chart());
    const show = () => update(chart());
  };
})();
