// Shows the exports that have every word of the query, in their name, comment or signature; "/" goes to the box.
const box = document.querySelector("#search");
const articles = [...document.querySelectorAll("article")].map((element) => ({
  element,
  text: element.textContent.toLowerCase(),
  name: element.querySelector("h3 a").textContent.toLowerCase(),
  link: document.querySelector(`nav a[href="#${CSS.escape(element.id)}"]`).closest("li"),
}));
const sections = [...document.querySelectorAll("main section, nav section")];

function search() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { element, text, name, link } of articles) {
    const hit = words.every((word) => text.includes(word));
    element.hidden = link.hidden = !hit;
    link.classList.toggle("exact", hit && words.some((word) => name.includes(word)));
    if (hit) shown++;
  }
  for (const section of sections) section.hidden = !section.querySelector("article:not([hidden]), li:not([hidden])");
  for (const header of document.querySelectorAll("main header")) header.hidden = words.length > 0;
  document.querySelector("#nothing").hidden = shown > 0;
  document.querySelector("#count").textContent = words.length > 0 ? `${shown} of ${articles.length}` : "";
  document.body.classList.toggle("searching", words.length > 0);
}

box.addEventListener("input", search);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== box) {
    event.preventDefault();
    box.focus();
  }
  if (event.key === "Escape" && box.value !== "") {
    box.value = "";
    search();
  }
});
// A link to something that the search hides ends the search.
addEventListener("hashchange", () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target === null || !target.hidden) return;
  box.value = "";
  search();
  target.scrollIntoView();
});
search();
