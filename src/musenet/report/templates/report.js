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
  // A page of A4 or Letter between its margins is about 670 pixels wide; plotly sizes its drawings in pixels. Lower than
  // on the screen, two figures fit on a page.
  const onPaper = (plot) => {
    const [height, narrow] = [plot.layout.height, plot.closest(".pair:not(.wide)")];
    return { width: narrow ? 322 : 670, height: Math.round((height > 400 ? 0.72 : 0.85) * height), "font.size": 10.5 };
  };
  const onScreen = plots.map((plot) => ({
    width: null, autosize: true, height: plot.layout.height, "font.size": plot.layout.font.size,
  }));
  const draw = (plot, size) => {
    plot.style.minHeight = size.height + "px";
    Plotly.relayout(plot, size);
  };
  window.addEventListener("beforeprint", () => plots.forEach((plot) => draw(plot, onPaper(plot))));
  window.addEventListener("afterprint", () => plots.forEach((plot, place) => draw(plot, onScreen[place])));
})();
