"use strict";

// The one global; the other scripts add to it.
const massact = {};

// Runs before anything is shown, so that nothing flashes in another colour.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const key = "massact-theme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  // A browser may refuse storage to a page from disk.
  function stored() {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  }
  function store(theme) {
    try {
      localStorage.setItem(key, theme);
    } catch {
      // The choice lasts as long as the page, then.
    }
  }

  const chosen = stored();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;

  massact.isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

  /** Makes the button switch between light and dark. */
  massact.themeButton = (button) => {
    const show = () => {
      button.textContent = massact.isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", `Switch to ${massact.isDark() ? "light" : "dark"} colours`);
    };
    button.addEventListener("click", () => {
      root.dataset.theme = massact.isDark() ? "light" : "dark";
      store(root.dataset.theme);
      show();
    });
    system.addEventListener("change", show);
    button.hidden = false;
    show();
  };
})();
