/* Tables that sort by any column, and that show the first of many rows: to lay out ten thousand takes a browser seconds. */

const FIRST_ROWS = 100;
const MORE_ROWS = 1000;
const COLLATOR = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/**
 * Return what a cell is sorted by; null for an empty one.
 * @param {string|Array} cell - text, or value, text and whether it is the best of its column.
 */
const sortValue = (cell, number) => (Array.isArray(cell) ? cell[0] : number || !cell || cell === "–" ? null : cell);

/** Return the text of a cell. */
const cellText = (cell) => (Array.isArray(cell) ? cell[1] : cell);

/** A column of cells in an order; empty ones last in both directions, equal ones as they were. */
function ordered(rows, column, number, descending) {
  const keyed = rows.map((row) => [sortValue(row.cells[column], number), row]);
  const known = keyed.filter(([value]) => value !== null);
  const sign = descending ? -1 : 1;
  known.sort(([a], [b]) => sign * (number ? a - b : COLLATOR.compare(a, b)));
  return [...known, ...keyed.filter(([value]) => value === null)].map(([, row]) => row);
}

/**
 * A table whose headings are buttons.
 *
 * @param {Object} options
 * @param {string} options.caption - what it shows.
 * @param {Object[]} options.columns - heading, number, descending (its natural order), group, and hidden.
 * @param {Object[]} options.rows - with cells in the order of the columns.
 * @param {function(Object, number): (Node|string)[]} options.draw - the content of a cell, by row and column.
 * @param {number} options.named - the column that names the row.
 * @param {function(Object[])} [options.sorted] - told the rows in their new order.
 */
class SortedTable {
  constructor({ caption, columns, rows, draw, named, sorted = () => {} }) {
    Object.assign(this, { columns, rows, draw, named, sorted, most: FIRST_ROWS, by: null, descending: false });
    this.shown = rows;
    measureColumns(columns, rows);
    this.head = element("tr");
    this.body = element("tbody");
    this.table = element("table", {}, element("caption", {}, caption), element("thead", {}, this.head), this.body);
    this.box = element("div", { class: "box", tabindex: "0", role: "region", "aria-label": caption }, this.table);
    this.more = element("button", { type: "button", class: "more", click: () => this.showMore() });
    this.element = element("div", {}, this.box, this.more);
    this.buttons = columns.map((column, place) =>
      element(
        "button",
        { type: "button", click: () => this.sort(place) },
        ...(column.group ? [element("span", { class: "group" }, column.group), " "] : []),
        column.heading,
      ),
    );
    this.heads = columns.map((column, place) =>
      element("th", { scope: "col", class: column.number ? "number" : null }, this.buttons[place]),
    );
  }

  /** Sort by a column; the same one again the other way round. */
  sort(place, descending) {
    this.descending = descending ?? (this.by === place ? !this.descending : Boolean(this.columns[place].descending));
    this.by = place;
    this.most = FIRST_ROWS;
    this.render();
  }

  /** Show some of the rows only. */
  show(rows) {
    this.shown = rows;
    this.most = FIRST_ROWS;
    this.render();
  }

  /** Show more than the first rows, until the next sorting. */
  showMore() {
    this.most += MORE_ROWS;
    this.render();
  }

  /** Draw heading and rows. */
  render() {
    const places = this.columns.map((_, place) => place).filter((place) => !this.columns[place].hidden);
    this.heads.forEach((head, place) => {
      const direction = this.descending ? "descending" : "ascending";
      if (place === this.by) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
    this.head.replaceChildren(...places.map((place) => this.heads[place]));
    const column = this.columns[this.by];
    const rows = column ? ordered(this.shown, this.by, column.number, this.descending) : this.shown;
    this.body.replaceChildren(...rows.slice(0, this.most).map((row) => this.row(row, places)));
    const left = rows.length - this.most;
    this.more.hidden = left <= 0;
    const all = `Show all ${count(rows.length, "row")}`;
    this.more.textContent = left <= MORE_ROWS ? all : `Show ${MORE_ROWS.toLocaleString("en")} more of ${count(rows.length, "row")}`;
    this.sorted(rows);
  }

  /** Draw one row. */
  row(row, places) {
    const made = element("tr", { class: row.kind });
    for (const place of places) {
      const cell = document.createElement(place === this.named ? "th" : "td");
      if (place === this.named) cell.scope = "row";
      if (this.columns[place].number) cell.className = "number";
      cell.append(...this.draw(row, place));
      made.append(cell);
    }
    return made;
  }
}

/** Return a number, and what stands beside it: an interval in brackets, the size behind "at". */
function parted(cell) {
  const text = cellText(cell);
  const [, first, beside] = (Array.isArray(cell) && /^(.*?) (\(.*|at .*|as printed)$/.exec(text)) || [null, text, ""];
  return { first, beside };
}

const digitsBehind = (text) => (text.includes(".") ? text.length - text.indexOf(".") - 1 : -1);

/** Say how wide numbers of a column are, so that their points stand below each other whatever stands beside them. */
function measureColumns(columns, rows) {
  columns.forEach((column, place) => {
    if (!column.number) return;
    column.beside = column.digits = 0;
    for (const { cells } of rows) {
      const { first, beside } = parted(cells[place]);
      column.beside = Math.max(column.beside, beside.length);
      column.digits = Math.max(column.digits, digitsBehind(first));
    }
  });
}

/** Return the usual content of a cell: the best in bold, what stands beside a number paler and in a place of its own. */
function plainCell(cell, column) {
  const { first, beside } = parted(cell);
  const made = [Array.isArray(cell) && cell[2] ? element("strong", {}, first) : first];
  const missing = column.score && first ? column.digits - digitsBehind(first) : 0;
  if (missing > 0) made.push(element("span", { "aria-hidden": "true" }, "\u2007".repeat(missing)));
  if (!column.beside) return made;
  const slot = element("span", { class: "beside" }, beside);
  slot.style.minWidth = `${0.86 * column.beside}ch`; // brackets and spaces are narrower than digits
  return [...made, " ", slot];
}
