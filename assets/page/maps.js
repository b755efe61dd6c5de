"use strict";

// Attention maps, with a choice of layer and head.
(() => {
  const { element, number } = massact;
  // The code of an entry that the mask hides.
  const BLANK = 0xffff;

  /**
   * Fills `box`. `chart` has `unit`, `extra` (columns that are no tokens), `row_labels`, `column_labels`,
   * `emphasised` and `layers`: each with `layer`, `mean` and `heads`, which are packed maps.
   */
  massact.maps = (box, chart) => {
    let layer = chart.layers[Math.floor(chart.layers.length / 2)];
    let head = "mean";
    let shared = false;
    const heads = () => [["mean", "mean over heads"], ...layer.heads.map((_, index) => [`${index}`, `head ${index}`])];
    const headChooser = massact.chooser("Head", heads(), head, (value) => {
      head = value;
      redraw();
    });
    const layerChooser = massact.chooser(
      "Layer",
      chart.layers.map((each) => [`${each.layer}`, `layer ${each.layer}`]),
      `${layer.layer}`,
      (value) => {
        layer = chart.layers.find((each) => `${each.layer}` === value);
        // Heads may be there for some layers only.
        if (head !== "mean" && !layer.heads[head]) head = "mean";
        massact.options(headChooser.querySelector("select"), heads(), head);
        redraw();
      },
    );
    const select = layerChooser.querySelector("select");
    const step = (by, text, label) =>
      element("button", {
        type: "button",
        "aria-label": label,
        click: () => {
          const next = select.selectedIndex + by;
          if (next < 0 || next >= chart.layers.length) return;
          select.selectedIndex = next;
          select.dispatchEvent(new Event("change"));
        },
      }, text);
    const same = massact.switch("Colours", [["own", "Own scale"], ["shared", "One scale"]], "own", (value) => {
      shared = value === "shared";
      redraw();
    });
    const frame = element("div", { class: "plot" });
    const remark = element("p", { class: "remark" });
    box.replaceChildren(
      element("div", { class: "tools" },
        layerChooser, step(-1, "◂", "Previous layer"), step(1, "▸", "Next layer"), headChooser, same),
      frame,
      remark,
    );
    const range = () => shared ? sharedRange(chart) : null;
    const redraw = massact.fitted(frame, (width) => {
      const packed = head === "mean" ? layer.mean : layer.heads[head];
      const name = `layer ${layer.layer}, ${head === "mean" ? "mean over heads" : `head ${head}`}`;
      frame.replaceChildren(plot(chart, unpack(chart, packed), packed.bin, range(), name, width));
      remark.textContent = remarks(chart, packed);
    });
    /** Shows a layer and a head, for charts that lead here. */
    return (number, index) => {
      select.value = `${number}`;
      select.dispatchEvent(new Event("change"));
      const list = headChooser.querySelector("select");
      list.value = layer.heads[index] ? `${index}` : "mean";
      list.dispatchEvent(new Event("change"));
    };
  };

  function remarks(chart, packed) {
    const parts = [`Queries down, keys across. Values are kept in steps of ${number(packed.step)}`];
    if (packed.bin > 1) parts.push(`a cell is the largest of ${packed.bin} × ${packed.bin} values`);
    return `${parts.join("; ")}. The files beside the page have every value in full.`;
  }

  /** Cells down and across. */
  const shape = (chart, bin) => [chart.row_labels, chart.column_labels].map((labels) => Math.ceil(labels.length / bin));

  /** The cells of a map: its rows hold what lies on or left of the diagonal, two bytes a cell. */
  function unpack(chart, packed) {
    const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
    const codes = new DataView(bytes.buffer);
    const [rows, columns] = shape(chart, packed.bin);
    const cells = [];
    let at = 0;
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < Math.min(columns, row + 1 + chart.extra); column += 1) {
        const code = codes.getUint16(2 * at, true);
        at += 1;
        if (code !== BLANK) cells.push({ row, column, value: packed.low + code * packed.step });
      }
    }
    return cells;
  }

  function sharedRange(chart) {
    if (!chart.range) {
      const maps = chart.layers.flatMap((layer) => [layer.mean, ...layer.heads]);
      const values = maps.flatMap((map) => unpack(chart, map).map((cell) => cell.value));
      chart.range = values.reduce(
        ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
        [Infinity, -Infinity],
      );
    }
    return chart.range;
  }

  /** Which labels have room, those in `always` first. */
  function spread(count, cell, pitch, always) {
    const kept = [];
    const clear = (at) => kept.every((other) => Math.abs(other - at) * cell >= pitch);
    for (const at of always) if (clear(at)) kept.push(at);
    const every = Math.max(1, Math.ceil(pitch / cell));
    for (let at = 0; at < count; at += every) if (clear(at)) kept.push(at);
    return kept;
  }

  function plot(chart, cells, bin, shared, name, width) {
    const [down, across] = shape(chart, bin);
    const token = (labels, cell) => labels[Math.min(cell * bin, labels.length - 1)] ?? "";
    const cut = (label) => (label.length > 11 ? `${label.slice(0, 10)}…` : label);
    const longest = (labels) => Math.min(11, Math.max(...labels.map((label) => label.length), 2)) * 7 + 12;
    const [marginLeft, marginBottom] = [longest(chart.row_labels), longest(chart.column_labels)];
    const inner = Math.min(width - marginLeft - 8, Math.max(260, Math.min(across * 40, 620)));
    const cell = inner / across;
    const values = cells.map((each) => each.value);
    const [low, high] = shared ?? [Math.min(...values), Math.max(...values)];
    const bright = chart.emphasised.map((key) => Math.floor(key / bin));
    const columns = spread(across, cell, 12, bright);
    const rows = spread(down, cell, 12, []);
    const pixels = new Float64Array(down * across).fill(NaN);
    for (const { row, column, value } of cells) pixels[row * across + column] = value;
    return Plot.plot({
      width: marginLeft + inner + 8,
      height: down * cell + 8 + marginBottom,
      marginLeft,
      marginTop: 8,
      marginRight: 8,
      marginBottom,
      ariaLabel: `Attention ${chart.unit}, ${name}`,
      style: { fontSize: "11px" },
      x: { type: "linear", domain: [0, across], axis: null },
      y: { type: "linear", domain: [down, 0], axis: null },
      color: {
        type: "linear",
        scheme: "viridis",
        domain: low < high ? [low, high] : [low - 0.5, low + 0.5],
        legend: true,
        marginLeft: 18,
        marginRight: 18,
        width: 300,
        ticks: 5,
        tickFormat: massact.tick,
        label: `attention ${chart.unit}, ${name}`,
      },
      marks: [
        Plot.raster(pixels, {
          width: across,
          height: down,
          x1: 0,
          x2: across,
          y1: 0,
          y2: down,
          fill: (value) => value,
          imageRendering: "pixelated",
        }),
        Plot.frame({ stroke: "var(--line)" }),
        Plot.text(rows, {
          y: (row) => row + 0.5,
          text: (row) => cut(token(chart.row_labels, row)),
          frameAnchor: "left", textAnchor: "end", dx: -6, fill: "currentColor",
        }),
        ...[false, true].map((emphasised) =>
          Plot.text(columns.filter((column) => bright.includes(column) === emphasised), {
            x: (column) => column + 0.5,
            text: (column) => cut(token(chart.column_labels, column)),
            frameAnchor: "bottom", textAnchor: "end", rotate: -90, dy: 6, lineAnchor: "middle",
            fill: emphasised ? "var(--alarm)" : "currentColor",
            fontWeight: emphasised ? 700 : 400,
            className: emphasised ? "bright" : "key",
          }),
        ),
        massact.tip(cells, {
          x: ({ column }) => column + 0.5,
          y: ({ row }) => row + 0.5,
          title: ({ row, column, value }) => [
            `query  ${place(bin, chart.row_labels, row, 0)}`,
            `key  ${place(bin, chart.column_labels, column, chart.extra)}`,
            `${chart.unit}  ${number(value)}`,
          ].join("\n"),
        }),
      ],
    });
  }

  /** A token with its position, or the first and last of those that share a cell. */
  function place(bin, labels, cell, extra) {
    const first = cell * bin;
    const last = Math.min(first + bin, labels.length) - 1;
    const one = (at) => (at < extra ? labels[at] : `${labels[at]} at ${at - extra}`);
    return first >= last ? one(Math.min(first, labels.length - 1)) : `${one(first)} to ${one(last)}`;
  }
})();
