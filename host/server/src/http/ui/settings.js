// The choices of one column: strategy, the few numbers that matter most, and the rest behind a disclosure.

import { h, refill, withProperty } from "./dom.js";
import { BUDGETS } from "./state.js";

/** Parameters that stand in the open, where the strategy has them. */
const IN_THE_OPEN = ["turns", "beam", "width"];
const BUDGET_NAMES = { ms: "milliseconds", tokens: "tokens", retrievals: "retrievals" };

let fields = 0;

/** Draws the choices into `container` and writes changes into `choice`; `onChange` hears of each. */
export function drawSettings(container, { choice, offer, label, onChange, onRemove }) {
  const redraw = () => drawSettings(container, { choice, offer, label, onChange, onRemove });
  const { strategies, policies, defaultPolicy } = offer;
  const strategy = strategies.find(({ name }) => name === choice.strategy);
  const parameters = strategy?.parameters ?? [];
  const picker = h(
    "select",
    { "aria-label": `Strategy ${label}`, class: "strategy", "data-focus": "strategy" },
    strategies.map(({ name }) => h("option", { value: name, selected: name === choice.strategy }, name)),
    strategy === undefined && h("option", { value: choice.strategy, selected: true }, `${choice.strategy} (not here)`),
  );
  picker.addEventListener("change", () => {
    choice.strategy = picker.value;
    const known = strategies.find(({ name }) => name === picker.value).parameters.map(({ name }) => name);
    for (const name of Object.keys(choice.parameters)) if (!known.includes(name)) delete choice.parameters[name];
    onChange();
    redraw();
  });
  const open = parameters.filter(({ name }) => IN_THE_OPEN.includes(name));
  // A shared address may name what this strategy does not have: shown, so that it can be emptied.
  const strange = Object.keys(choice.parameters).filter(
    (name) => !parameters.some((parameter) => parameter.name === name),
  );
  const rest = [
    ...parameters.filter(({ name }) => !IN_THE_OPEN.includes(name)),
    ...strange.map((name) => ({ name, kind: "text", default: "", help: "not a parameter of this strategy" })),
  ];
  const summary = h("summary", { "data-focus": "more" });
  const tell = () => {
    const set =
      Object.keys({ ...choice.budget, ...choice.search }).length +
      rest.filter(({ name }) => name in choice.parameters).length;
    summary.textContent = `Budget, policy${rest.length === 0 ? "" : ", parameters"}${set === 0 ? "" : ` · ${set} set`}`;
  };
  const changed = () => {
    tell();
    onChange();
  };
  tell();
  const wasOpen = container.querySelector("details")?.open ?? false;
  refill(
    container,
    h(
      "div",
      { class: "pick" },
      picker,
      open.map((parameter) => field(parameter, choice.parameters, changed, true)),
      onRemove &&
        h(
          "button",
          {
            type: "button",
            class: "quiet remove",
            "aria-label": `Remove column ${label}`,
            title: "Remove this column",
            onclick: onRemove,
          },
          "×",
        ),
    ),
    h("p", { class: "help" }, strategy?.help.replaceAll("`", "") ?? "This server has no strategy of that name."),
    h(
      "details",
      { class: "more", open: wasOpen },
      summary,
      h(
        "fieldset",
        {},
        h("legend", {}, "Budget and policy"),
        BUDGETS.map((name) =>
          field(
            { name, label: BUDGET_NAMES[name], kind: "integer", default: "the server's limit" },
            choice.budget,
            changed,
          ),
        ),
        field({ name: "policy", kind: "choice", choices: policies, default: defaultPolicy }, choice.search, changed),
        field({ name: "seed", kind: "integer", default: "1" }, choice.search, changed),
      ),
      0 < rest.length &&
        h(
          "fieldset",
          {},
          h("legend", {}, "Parameters"),
          rest.map((parameter) => field(parameter, choice.parameters, changed)),
        ),
    ),
  );
}

/** One value; empty means the default, which shows as placeholder. */
function field(parameter, values, onChange, isShort = false) {
  const { name, help, kind } = parameter;
  const id = `field-${fields++}`;
  const current = values[name] ?? "";
  const set = (value) => {
    if (value === "") delete values[name];
    else values[name] = value;
    onChange();
  };
  const isNumber = kind === "integer" || kind === "number";
  const shared = { id, "data-focus": name, "aria-describedby": help && !isShort ? `${id}-help` : undefined };
  let input;
  const suggestions = [];
  if (kind === "boolean" || kind === "choice") {
    const choices = kind === "boolean" ? ["true", "false"] : parameter.choices;
    input = h(
      "select",
      shared,
      ["", ...new Set([...choices, ...(current === "" ? [] : [current])])].map((value) =>
        h("option", { value, selected: value === current }, value || `${parameter.default} (default)`),
      ),
    );
  } else {
    // A help text that lists its values, in backticks at its end, gives them as suggestions.
    const listed =
      kind === "text" ? [...(/: (`[^`]+`(?:, `[^`]+`)+)$/.exec(help ?? "")?.[1] ?? "").matchAll(/`([^`]+)`/g)] : [];
    if (0 < listed.length) {
      suggestions.push(
        h(
          "datalist",
          { id: `${id}-list` },
          listed.map(([, value]) => h("option", { value })),
        ),
      );
    }
    input = h("input", {
      ...shared,
      type: isNumber ? "number" : "text",
      step: kind === "integer" ? "1" : "any",
      min: isNumber ? "0" : undefined,
      list: 0 < listed.length ? `${id}-list` : undefined,
      value: current,
      placeholder: parameter.default,
      title: isShort ? help : undefined,
      autocomplete: "off",
      form: "search",
    });
  }
  input.addEventListener("change", () => set(input.value.trim()));
  const row = h(
    "div",
    { class: isShort ? "field short" : "field" },
    h("label", { for: id }, parameter.label ?? name),
    input,
    suggestions,
    help && !isShort && h("p", { class: "help", id: `${id}-help` }, help.replaceAll("`", "")),
  );
  return withProperty(row, "--digits", String(Math.max(2, String(parameter.default).length)));
}
