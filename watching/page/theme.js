// Dark or light: as the system has it, until somebody chooses; that is remembered.

export class Theme {
  // changed() is called with each change, and at once.
  constructor(label, changed) {
    this.label = label;
    this.changed = changed;
    const system = matchMedia("(prefers-color-scheme: dark)");
    this.#set(remembered() ?? (system.matches ? "dark" : "light"));
    system.addEventListener("change", () => this.#set(remembered() ?? (system.matches ? "dark" : "light")));
  }

  toggle() {
    this.#set(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    try {
      localStorage.setItem("theme", document.documentElement.dataset.theme);
    } catch {
      // A browser that keeps nothing: the next time it is as the system says.
    }
  }

  #set(theme) {
    document.documentElement.dataset.theme = theme;
    this.label.textContent = theme === "dark" ? "Light" : "Dark";
    this.changed();
  }
}

function remembered() {
  try {
    const theme = localStorage.getItem("theme");
    return theme === "dark" || theme === "light" ? theme : null;
  } catch {
    return null;
  }
}
