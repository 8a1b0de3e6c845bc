"use strict";

const element = (id) => document.getElementById(id);

function problem(text) {
  element("problem").textContent = text;
  element("problem").hidden = false;
}

function ask(path) {
  const token = sessionStorage.getItem("token");
  return fetch(path, token ? { headers: { Authorization: `Bearer ${token}` } } : {});
}

/** The mix that is followed, in words and as shares over time: of the model as trained dotted, as followed solid. */
function drawMix(mix, names) {
  element("mix").hidden = !mix.following;
  if (!mix.following) return;
  const weight = `${Math.round(100 * mix.trust)} %`;
  const learned = `Learned from ${mix.answered.toLocaleString("en")} answered requests; the followed mix has a weight of ${weight} in what is answered.`;
  element("mix-words").textContent = mix.moments.length
    ? `${learned}${mix.frozen ? " It is frozen." : ""}`
    : "No request has been answered yet: shares appear with the first block of answers.";
  if (!window.Plotly || !mix.moments.length) return;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const times = mix.moments.map((moment) => new Date(1000 * moment.time).toISOString());
  const lines = mix.moments[0].followed.flatMap((_, scenario) => ["followed", "trained"].map((by) => ({
    type: "scatter", mode: mix.moments.length > 1 ? "lines" : "markers", x: times,
    y: mix.moments.map((moment) => moment[by][scenario]),
    name: names[scenario] ? `${scenario}: ${names[scenario]}` : `Scenario ${scenario}`, legendgroup: `${scenario}`, showlegend: by === "followed",
    hovertemplate: `%{y:.0%}, ${by === "followed" ? "as followed" : "by the model as trained"}`,
    line: { color: colour(`--s${scenario % 8}`), dash: by === "followed" ? "solid" : "dot", width: by === "followed" ? 2 : 1 },
  })));
  Plotly.newPlot("plot-mix", lines, {
    height: 320, margin: { l: 45, r: 10, t: 10, b: 40 }, hovermode: "closest", legend: { orientation: "h", y: -0.2 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("--ink") },
    xaxis: { gridcolor: colour("--line") }, yaxis: { tickformat: ".0%", rangemode: "tozero", gridcolor: colour("--line") },
  }, { displayModeBar: false, responsive: true });
}

async function load() {
  const [answer, mix] = await Promise.all([ask("/scenarios"), ask("/mix")]);
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
  if (mix.ok) drawMix(await mix.json(), said.scenarios.map((one) => one.name));
  page.setAttribute("aria-busy", "false");
}

load().catch(() => problem("The service does not answer."));
