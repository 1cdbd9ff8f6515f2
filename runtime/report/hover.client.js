// Points at the same step in every chart: by pointer, by touch, or with the arrow keys. Works on charts that are put
// into the page later too. Without it the page lacks the read-outs only.
(() => {
  let readings = new WeakMap();
  let pointedStep;

  const plots = () => document.querySelectorAll("[data-plot]");

  const readingsOf = (plot) => {
    let list = readings.get(plot);
    if (list === undefined) readings.set(plot, (list = JSON.parse(plot.querySelector("script").textContent)));
    return list;
  };

  const nearest = (list, step) =>
    list.reduce((best, reading) => (Math.abs(reading[0] - step) < Math.abs(best[0] - step) ? reading : best), list[0]);

  const pointAt = (plot, step) => {
    const reading = nearest(readingsOf(plot), step);
    const { low, high } = plot.dataset;
    const readout = plot.closest("figure").querySelector(".readout");
    readout.dataset.rest ??= readout.textContent;
    if (reading === undefined) return;
    const x = `${((reading[0] - low) / (high - low)) * 100}%`;
    const line = plot.querySelector("line.cursor");
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    plot.querySelectorAll("circle.cursor").forEach((dot, i) => {
      const y = reading[2][i];
      dot.toggleAttribute("hidden", y === null || y === undefined);
      dot.setAttribute("cx", x);
      dot.setAttribute("cy", `${(y ?? 0) * 100}%`);
    });
    plot.classList.add("pointed");
    readout.textContent = reading[1];
    const scrub = plot.querySelector(".scrub");
    scrub.setAttribute("aria-valuenow", reading[0]);
    scrub.setAttribute("aria-valuetext", reading[1]);
  };

  const pointAll = (step) => {
    pointedStep = step;
    plots().forEach((plot) => pointAt(plot, step));
  };

  const rest = () => {
    pointedStep = undefined;
    document.querySelectorAll(".pointed").forEach((plot) => {
      plot.classList.remove("pointed");
      const readout = plot.closest("figure").querySelector(".readout");
      readout.textContent = readout.dataset.rest;
    });
  };

  // A live page says so when it has put new charts into place.
  document.addEventListener("report-changed", () => {
    readings = new WeakMap();
    if (pointedStep !== undefined) pointAll(pointedStep);
  });

  const onPointer = (event) => {
    const plot = event.target instanceof Element ? event.target.closest("[data-plot]") : null;
    if (plot === null) return rest();
    const box = plot.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const { low, high } = plot.dataset;
    pointAll(Number(low) + share * (high - low));
  };
  document.addEventListener("pointermove", onPointer);
  document.addEventListener("pointerdown", onPointer);
  document.documentElement.addEventListener("pointerleave", rest);

  document.addEventListener("keydown", (event) => {
    const plot = event.target instanceof Element ? event.target.closest("[data-plot]") : null;
    if (plot === null) return;
    if (event.key === "Escape") return rest();
    const list = readingsOf(plot);
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -Infinity, End: Infinity };
    const move = moves[event.key];
    if (move === undefined || list.length === 0) return;
    event.preventDefault();
    const now = Number(event.target.getAttribute("aria-valuenow"));
    const index = list.indexOf(nearest(list, now)) + move;
    pointAll(list[Math.min(list.length - 1, Math.max(0, index))][0]);
  });
  document.addEventListener("focusin", (event) => {
    const plot = event.target instanceof Element ? event.target.closest("[data-plot]") : null;
    if (plot !== null && event.target.matches(":focus-visible"))
      pointAll(Number(event.target.getAttribute("aria-valuenow")));
  });
  document.addEventListener("focusout", rest);

  // What is folded away belongs on paper too.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open], .log)")];
    for (const details of unfolded) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of unfolded) details.open = false;
  });
})();
