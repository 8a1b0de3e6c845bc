"use strict";

const element = (id) => document.getElementById(id);

function problem(text) {
  element("problem").textContent = text;
  element("problem").hidden = false;
}

async function load() {
  const token = sessionStorage.getItem("token");
  const answer = await fetch("/scenarios", token ? { headers: { Authorization: `Bearer ${token}` } } : {});
  if (answer.status === 401) return problem("This service asks for its token: give it on the page Ranking.");
  if (!answer.ok) return problem(`The service answered ${answer.status}.`);
  const said = await answer.json();
  element("model").textContent = said.model;
  const page = element("scenarios-page");
  if (said.html) {
    page.innerHTML = said.html; // made by the export's own report, which escapes what comes from the log
    for (const [name, figure] of Object.entries(window.Plotly ? said.figures : {})) {
      const place = document.getElementById(`plot-${name}`);
      if (place) Plotly.newPlot(place, figure.data, figure.layout, { displayModeBar: false, responsive: true });
    }
  } else {
    const words = document.createElement("p");
    words.textContent = said.count > 1
      ? `This model tells ${said.count} scenarios apart; its export says nothing more of them.`
      : "This model has no scenarios.";
    page.append(words);
  }
  page.setAttribute("aria-busy", "false");
}

load().catch(() => problem("The service does not answer."));
