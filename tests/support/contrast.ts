/** What of a page is hard to read. */

/** Texts of the page whose contrast to what lies behind them is below WCAG AA's 4.5 (3 for large text). */
export const LOW_CONTRAST = `(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgb = (color) => known.get(color) ?? known.set(color, paint(color)).get(color);
  const paint = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e !== null; e = e.parentElement) {
      const color = rgb(getComputedStyle(e).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const low = [];
  let seen = 0;
  for (const element of document.querySelectorAll("main *")) {
    if (element.closest("script") !== null) continue;
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== "")) continue;
    if (element.localName === "title") continue;
    seen++;
    const style = getComputedStyle(element);
    const [a, b] = [rgb(element instanceof SVGElement ? style.fill : style.color), behind(element)].map(luminance).sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) low.push(element.textContent.slice(0, 40) + " " + ratio.toFixed(2));
  }
  return { low, seen };
})()`;
