(function () {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [];
  for (const [name, figure] of Object.entries(figures)) {
    const place = document.getElementById("plot-" + name);
    if (place) {
      Plotly.newPlot(place, figure.data, figure.layout, { displayModeBar: false, responsive: true });
      plots.push(place);
    }
  }
  // A page of A4 or Letter between its margins is about this wide; plotly sizes its drawings in pixels.
  const paper = { whole: 670, half: 322 };
  const onPaper = (plot) => (plot.closest(".pair") ? paper.half : paper.whole);
  window.addEventListener("beforeprint", () => plots.forEach((plot) => Plotly.relayout(plot, { width: onPaper(plot) })));
  window.addEventListener("afterprint", () => plots.forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true })));
})();
