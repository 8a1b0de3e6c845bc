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
  // on the screen, two figures fit on a page. Rows with labels need their height, as the labels stand inside.
  const texts = (plot) => [
    ...Object.keys(plot.layout).filter((key) => /^[xy]axis/.test(key)).map((key) => key + ".title.font.size"),
    ...(plot.layout.annotations || []).map((_, place) => "annotations[" + place + "].font.size"),
  ];
  const sized = (plot, size) => Object.fromEntries(["font.size", ...texts(plot)].map((key) => [key, size]));
  const onPaper = (plot) => {
    const height = plot.layout.height, narrow = plot.closest(".pair:not(.wide)");
    const factor = height <= 400 ? 0.85 : plot.layout.meta === "rows" ? 0.72 : 0.6;
    return { ...sized(plot, 10), width: narrow ? 322 : 670, height: Math.round(factor * height) };
  };
  const onScreen = plots.map((plot) => ({
    ...sized(plot, 12.5), width: null, autosize: true, height: plot.layout.height, "font.size": plot.layout.font.size,
  }));
  const draw = (plot, size) => {
    plot.style.minHeight = size.height + "px";
    Plotly.relayout(plot, size);
  };
  window.addEventListener("beforeprint", () => plots.forEach((plot) => draw(plot, onPaper(plot))));
  window.addEventListener("afterprint", () => plots.forEach((plot, place) => draw(plot, onScreen[place])));
})();
