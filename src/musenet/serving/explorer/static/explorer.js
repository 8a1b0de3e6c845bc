"use strict";

const NAMES = { repeat: "had before", explore: "new to the user" };
const HISTORY_CANDIDATES = 8, CANDIDATES = 12, WAIT_MS = 150;
const state = { choices: null, user: "", history: [], candidates: [], context: {}, order: [], asked: 0, timer: 0 };

const element = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** An element with attributes and children; text is never read as markup. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function problem(text) {
  element("problem").textContent = text || "";
  element("problem").hidden = !text;
}

/** An answer of the service; what it refuses is thrown in its own words. */
async function ask(path, body) {
  const headers = {};
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The service does not answer.");
  }
  if (answer.ok) return answer.json();
  if (answer.status === 401) {
    element("token-form").hidden = false;
    element("token").focus();
  }
  const said = await answer.json().catch(() => ({}));
  const errors = (said.errors || []).map((error) => `${error.field} ${error.reason}`);
  throw new Error(errors.join("; ") || `The service answered ${answer.status}.`);
}

const guarded = (work) => async (...given) => {
  try {
    problem("");
    await work(...given);
  } catch (error) {
    problem(error.message);
  }
};

function options(list, values) {
  list.replaceChildren(...values.map((value) => make("option", { value })));
}

function drawContext() {
  const fields = state.choices.context.map((column, place) => {
    const id = `context-${place}`;
    let input;
    if (column.kind === "number") {
      input = make("input", { id, type: "number", step: "any", inputmode: "decimal" });
      if (column.typical !== null) input.value = column.typical;
    } else {
      input = make("select", { id }, make("option", { value: "" }, "(not told)"));
      input.append(...column.values.map((value) => make("option", { value }, value)));
      if (column.values.length) input.value = column.values[0];
    }
    const read = () => {
      if (input.value === "") delete state.context[column.name];
      else state.context[column.name] = column.kind === "number" ? Number(input.value) : input.value;
    };
    read();
    input.addEventListener("input", () => { read(); scoreSoon(); });
    return make("div", { class: "field" }, make("label", { for: id }, column.name), input);
  });
  element("context").replaceChildren(...(fields.length ? fields : [make("p", {}, "This model sees no context.")]));
}

/** What is known of an event or a candidate beside its id. */
const told = (event) => Object.entries(event)
  .filter(([name, value]) => !["item", "kind", "time"].includes(name) && value !== null)
  .map(([name, value]) => `${name} ${value}`).join(", ");

const when = (seconds) => (seconds ? new Date(1000 * seconds).toISOString().slice(0, 16).replace("T", " ") : "just now");

function drawHistory() {
  const rows = state.history.map((event, place) => {
    const name = event.item === null ? "an event" : event.item;
    const remove = make("button", { type: "button", class: "quiet", "aria-label": `Remove ${name}` }, "×");
    remove.addEventListener("click", () => {
      state.history.splice(place, 1);
      drawHistory();
      scoreSoon();
      (element("history").querySelector("button") || element("event-item")).focus();
    });
    const words = [event.kind, when(event.time), told(event)].filter(Boolean).join(", ");
    return make("li", {}, make("span", {}, make("strong", {}, name), " ", make("small", {}, words)), remove);
  });
  element("history").replaceChildren(...rows.reverse());
  if (!rows.length) element("history").append(make("li", { class: "faint" }, "No events: a new user."));
}

function scoreSoon() {
  clearTimeout(state.timer);
  state.timer = setTimeout(guarded(score), WAIT_MS);
}

async function score() {
  const asked = ++state.asked;
  const typical = Object.fromEntries(state.choices.candidate
    .filter((column) => column.kind === "number").map((column) => [column.name, column.typical]));
  const request = {
    user: state.user || "a new user",
    context: state.context,
    candidates: state.candidates.map((item) => ({ ...typical, item })),
    history: state.history,
    explain: true,
    shown: false, // what is tried here is no request that a user answers
  };
  if (!request.candidates.length) {
    element("ranking").replaceChildren(make("li", { class: "faint" }, "No candidates: add one."));
    return;
  }
  const answer = await ask("/score", request);
  if (asked === state.asked) draw(answer);
}

function draw(answer) {
  drawMixture(answer);
  const rows = state.candidates.map((item, place) => ({
    item, score: answer.scores[place], why: (answer.candidates || [])[place] || {},
  }));
  rows.sort((one, other) => other.score - one.score);
  const before = state.order;
  state.order = rows.map((row) => row.item);
  const most = rows[0].score || 1;
  element("ranking").replaceChildren(...rows.map((row, rank) =>
    drawCandidate(row, answer.scenarios, most, before.includes(row.item) ? before.indexOf(row.item) - rank : 0)));
}

/** What an answer calls a scenario: its number, and its name if the export gives one. */
function scenarioName(answer, place) {
  const names = answer.scenario_names || [];
  return names[place] ? `${place}: ${names[place]}` : `scenario ${place}`;
}

function drawMixture(answer) {
  const shares = answer.scenarios || [];
  element("mixture").replaceChildren(...shares.map((share, place) => {
    const bar = make("span", { class: `bar s${place % 8}` });
    bar.style.width = `${100 * share}%`;
    return make("div", { role: "listitem", class: "share" },
      make("span", { class: "name" }, scenarioName(answer, place)), make("span", { class: "track" }, bar),
      make("span", { class: "value" }, percent(share)));
  }));
  const largest = shares.indexOf(Math.max(...shares));
  element("mixture-words").textContent = shares.length
    ? `Mostly ${scenarioName(answer, largest)} (${percent(shares[largest])}).` : "This model has no scenarios.";
  element("repeat-words").textContent = answer.repeat_probability === undefined ? ""
    : `Probability that the user takes something known: ${percent(answer.repeat_probability)}.`;
}

function drawCandidate(row, shares, most, moved) {
  const kind = row.why.repeat ? "repeat" : "explore";
  const parts = shares && row.why.scenarios ? row.why.scenarios.map((one, place) => shares[place] * one) : [row.score];
  const bars = parts.map((part, place) => {
    const bar = make("span", { class: `bar s${place % 8}` });
    bar.style.width = `${(100 * part) / most}%`;
    return bar;
  });
  const words = parts.map((part, place) => `scenario ${place}: ${percent(part)}`).join(", ");
  const why = [];
  if (row.why.repeat_score !== undefined && row.why.repeat_score !== null) why.push(`repeat score ${row.why.repeat_score.toFixed(2)}`);
  if (row.why.explore_score !== undefined && row.why.explore_score !== null) why.push(`explore score ${row.why.explore_score.toFixed(2)}`);
  if (row.why.repeat_count) why.push(`${row.why.repeat_count} earlier`);
  const remove = make("button", { type: "button", class: "quiet", "aria-label": `Remove ${row.item}` }, "×");
  remove.addEventListener("click", () => {
    state.candidates = state.candidates.filter((item) => item !== row.item);
    element("ranking").focus();
    scoreSoon();
  });
  const move = make("span", { class: "moved" });
  if (moved) move.append(make("span", { "aria-hidden": "true" }, moved > 0 ? "▲" : "▼"),
    make("span", { class: "hidden" }, moved > 0 ? "moved up" : "moved down"), ` ${Math.abs(moved)}`);
  return make("li", {},
    make("div", { class: "head" }, make("strong", {}, row.item), make("span", { class: `tag ${kind}` }, NAMES[kind]),
      move, make("span", { class: "value" }, percent(row.score)), remove),
    make("div", { class: "track", role: "img", "aria-label": shares ? words : percent(row.score) }, ...bars),
    make("small", {}, [shares ? words : "", ...why].filter(Boolean).join(" · ")));
}

async function chooseUser(user) {
  const found = await ask("/explorer/history", { user });
  state.user = user;
  state.history = found.events;
  const known = state.history.map((event) => event.item).filter((item) => item !== null).reverse();
  const offered = [...new Set(known)].slice(0, HISTORY_CANDIDATES);
  state.candidates = [...new Set([...offered, ...state.choices.items])].slice(0, CANDIDATES);
  state.order = [];
  drawHistory();
  await score();
}

async function start() {
  state.choices = await ask("/explorer/choices");
  element("token-form").hidden = true;
  element("model").textContent = `${state.choices.name}, model ${state.choices.model}`;
  options(element("users"), state.choices.users);
  options(element("items"), state.choices.items);
  if (state.choices.kinds.length) {
    element("event-kind").replaceChildren(...state.choices.kinds.map((kind) => make("option", { value: kind }, kind)));
    element("kind-label").hidden = false;
  }
  drawContext();
  element("content").hidden = false;
  element("user").value = state.choices.users[0] || "";
  if (element("user").value) await chooseUser(element("user").value);
}

function onSubmit(form, work) {
  element(form).addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(work)();
  });
}

onSubmit("token-form", async () => {
  sessionStorage.setItem("token", element("token").value);
  await start();
});
onSubmit("context-form", score);
onSubmit("user-form", () => chooseUser(element("user").value.trim()));
onSubmit("event-form", async () => {
  const kind = state.choices.kinds.length ? element("event-kind").value : null;
  state.history.push({ item: element("event-item").value.trim(), kind, time: Date.now() / 1000 - 1 });
  element("event-item").value = "";
  drawHistory();
  await score();
});
onSubmit("candidate-form", async () => {
  const before = state.candidates;
  state.candidates = [...new Set([element("candidate").value.trim(), ...before])];
  try {
    await score();
  } catch (error) {
    state.candidates = before; // else what was refused, which is not shown, would be asked for ever after
    throw error;
  }
  element("candidate").value = "";
});
guarded(start)();
