// Applies the chosen theme before the first paint; a classic script, since modules run too late for that.
// Neighbour: app.js wires the switch.
"use strict";

(() => {
  const THEMES = ["auto", "light", "dark"];

  function stored() {
    try {
      const theme = localStorage.getItem("orion-theme");
      return THEMES.includes(theme) ? theme : "auto";
    } catch {
      return "auto"; // Storage is switched off: the system decides.
    }
  }

  function apply(theme) {
    document.documentElement.dataset.theme = theme;
  }

  apply(stored());

  globalThis.orionTheme = {
    current: () => document.documentElement.dataset.theme,
    /** Switches to the next theme and returns its name. */
    next() {
      const theme = THEMES[(THEMES.indexOf(this.current()) + 1) % THEMES.length];
      apply(theme);
      try {
        localStorage.setItem("orion-theme", theme);
      } catch {
        // Storage is switched off: the choice lasts as long as the page.
      }
      return theme;
    },
  };
})();
