/* Light or dark: as the system says, unless the reader says otherwise, which is remembered where a page may remember. */

const THEMES = { "": "as the system", light: "light", dark: "dark" };
const THEME_KEY = "dualpixel-theme";

/** Return the remembered theme; "" where there is none, or where the browser gives the page no storage. */
function rememberedTheme() {
  try {
    const found = localStorage.getItem(THEME_KEY);
    return found in THEMES ? found : "";
  } catch {
    return "";
  }
}

/** Use a theme, and say on the button which one it is. */
function useTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  byId("theme").textContent = `Colours: ${THEMES[theme]}`;
}

/** Make the button go through the themes. */
function startTheme() {
  useTheme(rememberedTheme());
  byId("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(document.documentElement.dataset.theme ?? "") + 1) % names.length];
    useTheme(next);
    try {
      localStorage.setItem(THEME_KEY, next);
    } catch {
      /* without storage the choice holds until the page is closed */
    }
  });
}
