/* Reads the data of the page and draws it. */

function start() {
  startTheme();
  const content = JSON.parse(byId("content").textContent);
  byId("made").textContent = content.made;
  byId("notes").replaceChildren(...content.notes.map((note) => element("p", {}, note)));
  const boards = content.boards.map((data, place) => new Board(data, place));
  for (const board of boards) byId(board.data.measured ? "contents-measured" : "contents-published").append(board.link);
  byId("boards").replaceChildren(...boards.map((board) => board.element));
  if (content.left_out.length) {
    byId("made").append("; ", element("a", { href: "#left-out" }, `${content.left_out.length.toLocaleString("en")} left out`));
    byId("left-out").hidden = false;
    byId("left-out").lastElementChild.replaceChildren(...content.left_out.map((line) => element("li", {}, line)));
  }
  startFilters(content.boards, (filters) => {
    const rows = boards.map((board) => board.apply(filters));
    const tables = rows.filter(Boolean).length;
    byId("unmeasured").hidden = !boards.some((board, place) => rows[place] && !board.data.measured);
    byId("shown").textContent = `${count(rows.reduce((sum, one) => sum + one, 0), "row")} in ${count(tables, "table")}`;
  });
}

start();
