/* The ranking score against a cost, as SVG. A plot holds the points of one axis alone: what was counted at one size, or on one device. */

const PLOT_HEIGHT = 340;
const MARGIN = { left: 58, right: 16, top: 14, bottom: 44 };
const MOST_LABELS = 80;
const UNITS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** Say a cost: 31000000 as "31 M", seconds as they are. */
function shortNumber(value, seconds) {
  const [unit, sign] = (!seconds && UNITS.find(([one]) => value >= one)) || [1, ""];
  return `${Number((value / unit).toPrecision(3))}${sign ? ` ${sign}` : ""}`;
}

/** Return the marks of a logarithmic axis: 1, 2 and 5 of each power of ten, or the powers alone where that would be too many. */
function logarithmicTicks(low, high) {
  const powers = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) powers.push(power);
  const steps = powers.length > 5 ? [1] : [1, 2, 5];
  return powers.flatMap((power) => steps.map((step) => step * 10 ** power)).filter((value) => value >= low && value <= high);
}

/** Return the marks of a plain axis, about five. */
function linearTicks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const ticks = [];
  for (let one = Math.ceil(low / step); one * step <= high; one += 1) ticks.push(Number((one * step).toPrecision(12)));
  return ticks;
}

/** Return the marks of a logarithmic axis; those of a plain one where there would be fewer than three. */
function ticksAlong(low, high) {
  const ticks = logarithmicTicks(low, high);
  return ticks.length < 3 ? linearTicks(low, high) : ticks;
}

/** Return the points of an axis: rows with both numbers. */
function plotted(board, rows, axis) {
  return rows
    .map((row) => ({ row, x: row.costs[axis], y: row.kind === "input" ? null : sortValue(row.cells[board.ranked], true) }))
    .filter(({ x, y }) => x > 0 && y !== null);
}

/** Place a label where it covers neither a point nor another label; null where there is no such place. */
function placeLabel({ left, top }, width, taken, frame) {
  const height = 14;
  const sides = [[9, -7], [-9 - width, -7], [-width / 2, -22], [-width / 2, 8], [7, -19], [7, 5], [-7 - width, -19], [-7 - width, 5]];
  for (const [right, down] of sides) {
    const box = { left: left + right, top: top + down, right: left + right + width, bottom: top + down + height };
    const inside = box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom;
    const free = taken.every((one) => box.right <= one.left || box.left >= one.right || box.bottom <= one.top || box.top >= one.bottom);
    if (inside && free) return box;
  }
  return null;
}

/** Return a measured point, which is filled, or a published one, which is a hollow diamond; its title says all of it. */
function marker({ row, left, top, said }) {
  const shape =
    row.kind === "published"
      ? element("svg:path", { d: `M${left} ${top - 6}l6 6l-6 6l-6 -6z` })
      : element("svg:circle", { cx: left, cy: top, r: 4.5 });
  return element("svg:g", { class: `point ${row.kind}` }, element("svg:title", {}, said), shape);
}

/**
 * Draw a plot.
 * @param {Object} board - its data.
 * @param {Object[]} points - of `plotted`, at least one.
 * @param {string} axis - what stands along x.
 * @param {number} width - pixels.
 */
function drawPlot(board, points, axis, width) {
  const seconds = axis.startsWith("seconds");
  const score = board.columns[board.ranked].heading.replace(" (95 %)", "");
  const xs = points.map(({ x }) => x);
  const ys = points.map(({ y }) => y);
  const wide = Math.max((Math.log10(Math.max(...xs)) - Math.log10(Math.min(...xs))) * 0.06, 0.08);
  const tall = Math.max((Math.max(...ys) - Math.min(...ys)) * 0.1, Math.abs(ys[0]) * 1e-3, 1e-6);
  const x = [Math.log10(Math.min(...xs)) - wide, Math.log10(Math.max(...xs)) + wide];
  const y = [Math.min(...ys) - tall, Math.max(...ys) + tall];
  const frame = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: PLOT_HEIGHT - MARGIN.bottom };
  const across = (value) => frame.left + ((Math.log10(value) - x[0]) / (x[1] - x[0])) * (frame.right - frame.left);
  const up = (value) => frame.bottom - ((value - y[0]) / (y[1] - y[0])) * (frame.bottom - frame.top);
  const svg = element("svg:svg", {
    viewBox: `0 0 ${width} ${PLOT_HEIGHT}`, width, height: PLOT_HEIGHT, role: "img",
    "aria-label": `${score} against ${axis}: ${count(points.length, "point")}; the table has the same numbers`,
  });
  for (const value of linearTicks(...y)) {
    svg.append(
      element("svg:line", { class: "grid", x1: frame.left, x2: frame.right, y1: up(value), y2: up(value) }),
      element("svg:text", { class: "tick", x: frame.left - 7, y: up(value) + 4, "text-anchor": "end" }, String(value)),
    );
  }
  let end = -Infinity;
  for (const value of ticksAlong(10 ** x[0], 10 ** x[1])) {
    svg.append(element("svg:line", { class: "grid", x1: across(value), x2: across(value), y1: frame.top, y2: frame.bottom }));
    const text = shortNumber(value, seconds);
    if (across(value) - 4 * text.length <= end) continue;
    end = across(value) + 4 * text.length;
    svg.append(element("svg:text", { class: "tick", x: across(value), y: frame.bottom + 17, "text-anchor": "middle" }, text));
  }
  const middle = (frame.top + frame.bottom) / 2;
  svg.append(
    axisTitle((frame.left + frame.right) / 2, PLOT_HEIGHT - 8, `${axis}${seconds ? " (s)" : ""}, logarithmic`),
    axisTitle(14, middle, score.includes("PSNR") ? `${score} (dB)` : score, `rotate(-90 14 ${middle})`),
  );
  drawPoints(svg, points, { across, up, frame, seconds, score });
  return svg;
}

/** Return what stands along an axis. */
const axisTitle = (x, y, said, transform) =>
  element("svg:text", { class: "axis", x, y, "text-anchor": "middle", transform }, said);

/** Draw the points, and beside them their names as far as there is room. */
function drawPoints(svg, points, { across, up, frame, seconds, score }) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "12px system-ui, sans-serif";
  const names = points.map(({ row }) => cellText(row.cells[1]));
  const times = new Map();
  for (const name of names) times.set(name, (times.get(name) ?? 0) + 1);
  const drawn = points.map(({ row, x, y }, place) => {
    const repeated = times.get(names[place]) > 1 && row.kind === "measured";
    const name = repeated ? cellText(row.cells[2]) : names[place];
    const said = `${names[place]}, ${cellText(row.cells[2])} (${row.kind}): ${score} ${y.toFixed(3)} at ${shortNumber(x, seconds)}`;
    return { row, name, said, left: across(x), top: up(y) };
  });
  const taken = drawn.map(({ left, top }) => ({ left: left - 5, right: left + 5, top: top - 5, bottom: top + 5 }));
  svg.append(...drawn.map(marker));
  for (const one of drawn.slice(0, MOST_LABELS)) {
    const box = placeLabel(one, pen.measureText(one.name).width + 2, taken, frame);
    if (!box) continue;
    taken.push(box);
    svg.append(element("svg:text", { class: `label ${one.row.kind}`, x: box.left, y: box.top + 11 }, one.name));
  }
}

/** The plot of a board with the choice of its axis; it follows the rows that are shown. */
class Plot {
  constructor(board) {
    this.board = board;
    this.choice = element("select", { change: () => this.render() });
    this.canvas = element("div", { class: "canvas" });
    this.legend = element(
      "p",
      { class: "legend" },
      "● measured here  ◇ published. Only numbers that are comparable share an axis; names that find no room show when a point ",
      "is pointed at.",
    );
    this.element = element(
      "details",
      { class: "plot", open: board.measured, toggle: () => this.render() },
      element("summary", {}, "Plot"),
      element("label", {}, "Against ", this.choice),
      this.canvas,
      this.legend,
    );
    this.rows = [];
    new ResizeObserver(() => this.render()).observe(this.canvas);
  }

  /** Show the points of some rows. */
  show(rows) {
    this.rows = rows;
    const counts = this.board.axes.map((_, axis) => plotted(this.board, rows, axis).length);
    const chosen = this.choice.value;
    const options = this.board.axes
      .map((name, axis) => element("option", { value: axis, selected: String(axis) === chosen }, `${name} (${counts[axis]})`))
      .filter((_, axis) => counts[axis]);
    this.choice.replaceChildren(...options);
    this.element.hidden = !options.length;
    this.drawn = null;
    this.render();
  }

  /** Draw, where that is seen and has changed. */
  render() {
    const width = Math.floor(this.canvas.clientWidth);
    const drawn = `${this.choice.value} ${width}`;
    if (!this.element.open || width < 100 || this.choice.value === "" || this.drawn === drawn) return;
    this.drawn = drawn;
    const axis = Number(this.choice.value);
    this.canvas.replaceChildren(drawPlot(this.board, plotted(this.board, this.rows, axis), this.board.axes[axis], width));
  }
}
