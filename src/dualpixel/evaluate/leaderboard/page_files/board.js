/* One table with all that belongs to it: facts, switches, plot and notes. */

const NAME_COLUMN = 1;
const RUN_COLUMN = 2;

/** A board in the document. */
class Board {
  /**
   * @param {Object} data - as the page brings it.
   * @param {number} place - among all boards.
   */
  constructor(data, place) {
    this.data = data;
    this.id = `board-${place + 1}`;
    this.table = new SortedTable({
      caption: data.title,
      columns: data.columns,
      rows: data.rows,
      named: NAME_COLUMN,
      draw: (row, column) => this.cell(row, column),
    });
    this.plot = data.ranked === null ? null : new Plot(data);
    this.said = ["measured", "published"]
      .map((kind) => [data.rows.filter((row) => row.kind === kind).length, kind])
      .filter(([number]) => number)
      .map(([number, kind]) => `${number.toLocaleString("en")} ${kind}`)
      .join(", ");
    const unmeasured = data.measured ? [] : [" ", element("span", { class: "mark" }, "not measured here")];
    this.element = element(
      "section",
      { class: "board", id: this.id, "aria-labelledby": `${this.id}-title` },
      element("h2", { id: `${this.id}-title` }, data.title),
      element("p", { class: "counts" }, this.said, ...unmeasured),
      ...data.facts.map((fact) => element("p", { class: "fact" }, fact)),
      ...this.groupSwitch(),
      this.table.element,
      ...this.notes(),
      ...(this.plot ? [this.plot.element] : []),
    );
    const link = element("a", { href: `#${this.id}` }, data.title);
    this.link = element("li", { class: data.measured ? "measured" : null }, link, ` ${this.said}`);
    if (data.ranked !== null) {
      this.table.by = data.ranked;
      this.table.descending = Boolean(data.columns[data.ranked].descending);
    }
  }

  /** Return the switch of the columns of groups, where there are any; they are hidden at first. */
  groupSwitch() {
    const columns = this.data.columns.filter((column) => column.group);
    if (!columns.length) return [];
    const groups = [...new Set(columns.map((column) => column.group))];
    const show = (shown) => columns.forEach((column) => (column.hidden = !shown));
    show(false);
    const box = element("input", {
      type: "checkbox",
      change: (event) => {
        show(event.target.checked);
        this.table.render();
      },
    });
    return [element("label", { class: "switch" }, box, ` columns of groups: ${groups.join(", ")}`)];
  }

  /** Return what speaks against published rows, and where they come from. */
  notes() {
    const { doubts, sources } = this.data;
    const made = [];
    if (doubts.length) {
      const items = doubts.map((doubt, place) => element("li", { id: `${this.id}-doubt-${place + 1}` }, doubt));
      made.push(element("p", { class: "fact" }, "Doubtful:"), element("ol", { class: "notes" }, ...items));
    }
    if (sources.length) {
      const items = sources.map((source) => element("li", {}, source));
      const summary = element("summary", {}, "How the published rows were measured");
      made.push(element("details", {}, summary, element("ul", { class: "notes" }, ...items)));
    }
    return made;
  }

  /** Return the content of a cell. */
  cell(row, place) {
    const cell = row.cells[place];
    if (place === RUN_COLUMN && row.link) {
      return [element("a", { href: row.link, rel: "noopener noreferrer" }, cellText(cell))];
    }
    if (place !== NAME_COLUMN) return plainCell(cell, this.data.columns[place]);
    if (row.kind === "measured") {
      const open = () => openImages(this.data, row);
      return [element("button", { type: "button", class: "open", title: "scores of each image", click: open }, cellText(cell))];
    }
    if (row.kind === "input") return [element("i", {}, cellText(cell))];
    const made = [cellText(cell), " ", element("span", { class: "mark" }, "published")];
    if (row.doubt) {
      const note = { href: `#${this.id}-doubt-${row.doubt}`, class: "mark doubtful", title: this.data.doubts[row.doubt - 1] };
      made.push(" ", element("a", note, `doubtful (${row.doubt})`));
    }
    return made;
  }

  /** Show the rows that pass the filters; nothing of the board where none does. Returns their number. */
  apply(filters) {
    const rows = passing(this.data, filters);
    this.element.hidden = this.link.hidden = !rows.length;
    if (rows.length) {
      this.table.show(rows);
      this.plot?.show(rows);
    }
    return rows.filter((row) => row.kind !== "input").length;
  }
}
