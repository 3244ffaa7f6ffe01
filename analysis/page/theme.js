"use strict";
// Light or dark: as the system says, unless the switch has said otherwise. Runs before the page is shown.
const Theme = (() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  // Storage may be forbidden for files; the choice then lasts as long as the page.
  function stored() {
    try { return localStorage.getItem("paretoray-theme"); } catch { return null; }
  }
  function store(theme) {
    try { localStorage.setItem("paretoray-theme", theme); } catch { /* as above */ }
  }
  function apply(theme) {
    root.dataset.theme = theme ?? (system.matches ? "dark" : "light");
    document.dispatchEvent(new Event("themechange"));
  }

  root.classList.add("scripted");
  apply(stored());
  system.addEventListener("change", () => apply(stored()));
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      const other = root.dataset.theme === "dark" ? "light" : "dark";
      store(other);
      apply(other);
    });
  });
  return { colour: (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim() };
})();
