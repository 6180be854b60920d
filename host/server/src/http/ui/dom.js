// Small helpers over the document: elements, numbers, focus. Text only ever enters as text nodes, since thoughts,
// queries and documents are written by others.

const SVG = document.querySelector("svg").namespaceURI;

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element; attributes that begin with `on` are listeners, empty children are left out. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An SVG element, as `h`. */
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** `element` with a custom property, which a strict content policy allows where it forbids style attributes. */
export function withProperty(element, name, value) {
  element.style.setProperty(name, value);
  return element;
}

/** Puts `children` where the old ones were; whoever had the focus keeps it, by `data-focus`. */
export function refill(container, ...children) {
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  container.replaceChildren(...children.flat(2).filter(Boolean));
  if (focused === undefined) return;
  const again = [...container.querySelectorAll("[data-focus]")].find((element) => element.dataset.focus === focused);
  again?.focus({ preventScroll: true });
}

const grouped = new Intl.NumberFormat("en");

/** `12,345`. */
export function count(number) {
  return grouped.format(number);
}

/** `1 branch`, `13 branches`. */
export function counted(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** `6 ms`, `789 ms`, `1.30 s`. */
export function duration(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** The first `length` characters, with an ellipsis where something was cut. */
export function cut(text, length) {
  const characters = Array.from(text);
  return characters.length <= length
    ? text
    : `${characters
        .slice(0, length - 1)
        .join("")
        .trimEnd()}…`;
}
