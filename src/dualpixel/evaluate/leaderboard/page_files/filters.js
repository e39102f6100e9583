/* Which rows of which tables are shown. */

/** The filters as the reader has set them. */
function chosenFilters() {
  const words = byId("filter-words").value.toLowerCase().split(/\s+/).filter(Boolean);
  return {
    dataset: byId("filter-dataset").value,
    protocol: byId("filter-protocol").value,
    kind: byId("filter-kind").value,
    words,
  };
}

/** Return the rows of a table that pass; the unprocessed input passes where a result does. */
function passing(board, filters) {
  if (filters.dataset && board.dataset !== filters.dataset) return [];
  if (filters.protocol && board.protocol !== filters.protocol) return [];
  const passes = (row) => {
    if (row.kind === "input") return filters.kind !== "published";
    if (filters.kind && row.kind !== filters.kind) return false;
    if (!filters.words.length) return true;
    row.words ??= `${cellText(row.cells[1])} ${cellText(row.cells[2])}`.toLowerCase();
    return filters.words.every((word) => row.words.includes(word));
  };
  const rows = board.rows.filter(passes);
  return rows.some((row) => row.kind !== "input") ? rows : [];
}

/** Fill a list of choices: all, and each name once. */
function fillChoices(id, all, names) {
  const options = [...new Set(names)].map((name) => element("option", { value: name }, name));
  byId(id).replaceChildren(element("option", { value: "" }, all), ...options);
}

/**
 * Make the filters work.
 * @param {Object[]} boards - the data of all tables.
 * @param {function(Object)} apply - is called with the filters whenever they change.
 */
function startFilters(boards, apply) {
  fillChoices("filter-dataset", "all data sets", boards.map((board) => board.dataset));
  fillChoices("filter-protocol", "all protocols", boards.map((board) => board.protocol));
  const form = byId("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => apply(chosenFilters()));
  form.addEventListener("reset", () => setTimeout(() => apply(chosenFilters())));
  apply(chosenFilters());
}
