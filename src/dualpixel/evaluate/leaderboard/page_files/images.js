/* The images of one result: their scores, and small pictures of some of them. */

/** Return the float64 numbers that stand in base64; NaN where there is none. */
function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 8 }, (_, place) => view.getFloat64(8 * place, true));
}

/** Return columns and rows of the table of one result: score and, where the input was scored, the difference from it. */
function imageTable(images, row) {
  const scores = unpacked(row.scores);
  const inputs = unpacked(images.input);
  const width = images.columns.length;
  const against = images.columns.map((_, place) => images.keys.some((__, one) => !Number.isNaN(inputs[one * width + place])));
  const columns = [{ heading: "image" }];
  if (images.groups.some(Boolean)) columns.push({ heading: "group" });
  images.columns.forEach((column, place) => {
    columns.push({ ...column, number: true });
    if (against[place]) columns.push({ ...column, heading: `${column.heading} − input`, number: true });
  });
  const rows = images.keys.map((key, one) => {
    const cells = [key];
    if (images.groups.some(Boolean)) cells.push(images.groups[one]);
    images.columns.forEach((column, place) => {
      const score = scores[one * width + place];
      const gain = score - inputs[one * width + place];
      cells.push(Number.isNaN(score) ? "" : [score, score.toFixed(column.decimals)]);
      const said = `${gain < 0 ? "−" : "+"}${Math.abs(gain).toFixed(column.decimals)}`;
      if (against[place]) cells.push(Number.isNaN(gain) ? "" : [gain, said]);
    });
    return { kind: "image", one, cells };
  });
  return { columns, rows };
}

/** Return a picture that is decoded when it comes into view; the place stays empty where there is none. */
function picture(content, said, kind) {
  const shown = content
    ? element("img", { src: `data:image/webp;base64,${content}`, alt: said, loading: "lazy", decoding: "async" })
    : element("span", { class: "no-picture" }, "no picture");
  return element("div", { class: kind }, shown, element("span", { class: "kind" }, kind));
}

/** Return the pictures of one image with what is said of it. */
function figure(images, row, table, one) {
  const key = images.keys[one];
  const found = { ...images.pictures[one], output: row.outputs?.[one] };
  const said = table.columns
    .map((column, place) => [column, table.rows[one].cells[place]])
    .filter(([column, cell]) => column.number && cell !== "" && column.heading.startsWith(images.columns[images.ranked]?.heading))
    .map(([column, cell]) => `${column.heading} ${cellText(cell)}`);
  return element(
    "figure",
    {},
    element(
      "div",
      { class: "pictures" },
      ...["scene", "input", "output", "target"].map((kind) => picture(found[kind], `${kind} of ${key}`, kind)),
    ),
    element("figcaption", {}, element("b", {}, key), ` ${[images.groups[one], ...said].filter(Boolean).join(", ")}`),
  );
}

/** Open the images of a result. */
function openImages(board, row) {
  const images = board.images;
  const table = imageTable(images, row);
  const dialog = byId("images");
  const gallery = element("div", { class: "gallery" });
  const sorted = new SortedTable({
    caption: `Scores of each image`,
    ...table,
    named: 0,
    draw: (one, place) => plainCell(one.cells[place], table.columns[place]),
    sorted: (rows) =>
      gallery.replaceChildren(
        ...rows.filter(({ one }) => row.outputs?.[one]).map(({ one }) => figure(images, row, table, one)),
      ),
  });
  const first = table.columns.findIndex((column) => column.heading === `${images.columns[images.ranked]?.heading} − input`);
  sorted.sort(first < 0 ? 0 : first, false);
  dialog.replaceChildren(
    element(
      "header",
      {},
      element("h2", { id: "images-title" }, `${cellText(row.cells[1])}, ${cellText(row.cells[2])}`),
      element("button", { type: "button", class: "close", click: () => dialog.close() }, "Close"),
    ),
    element("p", { class: "fact" }, board.title),
    element("p", { class: "fact" }, images.said || "There are no pictures of these images."),
    gallery,
    element("h3", {}, `All ${count(images.keys.length, "image")}`),
    sorted.element,
  );
  dialog.showModal();
  dialog.scrollTop = 0;
}
