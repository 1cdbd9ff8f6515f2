// Asks the server that the page came from, and draws its answer.
const byId = (id) => document.getElementById(id);
const form = byId("ask");
const path = form.dataset.path;
const kind = () => (path === "/score" ? "text" : form.elements.kind.value);

form.addEventListener("change", () => {
  for (const name of ["comparison", "text"])
    for (const part of form.querySelectorAll(`.${name}`)) part.hidden = name !== kind();
});

function draw(rows) {
  byId("answer").replaceChildren(
    ...rows.flatMap(([name, value, share]) => {
      const [term, detail, bar] = ["dt", "dd", "i"].map((tag) => document.createElement(tag));
      term.textContent = name;
      detail.textContent = value;
      bar.style.inlineSize = `${100 * share}%`;
      detail.append(bar);
      return [term, detail];
    }),
  );
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void ask();
});

async function ask() {
  const fields = ["prompt", "response_a", "response_b"];
  const comparison = kind() === "comparison";
  const input = comparison ? Object.fromEntries(fields.map((name) => [name, byId(name).value])) : byId("text").value;
  const body = { input };
  if (comparison && byId("swap").checked) body.tta = "swap";
  if (byId("model")) body.model = byId("model").value;
  const headers = { "content-type": "application/json" };
  if (byId("key")) headers.authorization = `Bearer ${byId("key").value}`;
  const state = byId("state");
  const button = form.querySelector("button");
  button.disabled = true;
  state.textContent = "judging ...";
  try {
    const from = performance.now();
    const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    const answer = await response.json();
    if (!response.ok) throw new Error([answer.error.message, answer.error.hint].filter(Boolean).join(". "));
    const [row] = answer.data;
    draw(
      path === "/score"
        ? [["score", row.score.toFixed(4), 0]]
        : Object.entries(row.probabilities).map(([name, p]) => [name, `${(100 * p).toFixed(1)} %`, p]),
    );
    const cut = row.truncated ? "; longer than the model reads, so it was cut" : "";
    const tokens = answer.usage.total_tokens;
    state.textContent = `${tokens} tokens in ${Math.round(performance.now() - from)} ms${cut}`;
  } catch (error) {
    draw([]);
    state.textContent = error.message;
  }
  button.disabled = false;
}
