/* Elements of the document. What comes from results goes in as text, never as markup. */

/**
 * Make an element.
 * @param {string} name - of the element; with "svg:" before it one of SVG.
 * @param {Object} attributes - name -> text, number or true; left out where undefined, null or false. Functions are listeners of that
 *   event.
 * @param {...(Node|string)} children - text becomes a text node.
 */
function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** Return the element of an id. */
const byId = (id) => document.getElementById(id);

/** Say a number of things in words: count(1, "row") is "1 row". */
const count = (number, thing) => `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;
