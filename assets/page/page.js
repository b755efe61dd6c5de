"use strict";

// Finds the places of charts and tables and fills them. A chart that fails leaves the static figure.
(() => {
  const KINDS = {
    lines: massact.lines,
    intervals: massact.intervals,
    grid: massact.grid,
    stacks: massact.stacks,
    maps: massact.maps,
  };

  massact.themeButton(document.getElementById("theme"));
  const island = document.getElementById("data");
  const data = island ? JSON.parse(island.textContent) : { charts: [] };

  const attempt = (box, fill) => {
    try {
      fill();
    } catch (error) {
      box.closest("section")?.classList.add("failed");
      console.error(error);
    }
  };

  for (const box of document.querySelectorAll("[data-chart]")) {
    attempt(box, () => {
      const chart = data.charts[Number(box.dataset.chart)];
      KINDS[chart.kind](box, chart);
    });
  }
  const overview = document.getElementById("overview");
  for (const box of document.querySelectorAll(".table")) {
    if (!overview?.contains(box)) attempt(box, () => massact.table(box));
  }
  if (overview) {
    attempt(overview, () => massact.overview(overview, document.getElementById("overlay"), data.sweep));
  }
  const trajectories = document.getElementById("trajectories");
  if (trajectories) attempt(trajectories, () => massact.trajectories(trajectories, data.sweep.trajectories));
})();
