// Takes each new view of the run and changes the page where it differs, so that what the reader opened, scrolled to,
// focused or points at stays as it is.
(() => {
  const line = document.getElementById("live");
  const stateOf = () => ({ state: line.dataset.state, text: line.querySelector("span").textContent });
  let status = stateOf();

  const tell = ({ state, text }) => {
    const now = stateOf();
    if (now.state !== state) line.dataset.state = state;
    if (now.text !== text) line.querySelector("span").textContent = text;
  };

  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("aria-labelledby") : null);

  const changeAttributes = (element, next) => {
    for (const { name, value } of next.attributes)
      if (element.getAttribute(name) !== value) element.setAttribute(name, value);
    for (const name of element.getAttributeNames()) {
      const isReaders = name === "open" && element.localName === "details";
      if (!next.hasAttribute(name) && !isReaders) element.removeAttribute(name);
    }
  };

  // Sections and figures are found by what labels them; everything else by its place.
  const changeChildren = (element, next) => {
    const keyed = new Map([...element.children].map((child) => [keyOf(child), child]));
    let at = element.firstChild;
    for (let child = next.firstChild, after; child !== null; child = after) {
      after = child.nextSibling; // the child may leave for the page
      const key = keyOf(child);
      const isSameKind = at !== null && keyOf(at) === null && at.nodeName === child.nodeName;
      const match = key !== null ? keyed.get(key) : isSameKind ? at : undefined;
      if (match === undefined || match.nodeName !== child.nodeName) {
        element.insertBefore(child, at);
        continue;
      }
      if (match === at) at = at.nextSibling;
      else element.insertBefore(match, at);
      change(match, child);
    }
    while (at !== null) {
      const rest = at.nextSibling;
      at.remove();
      at = rest;
    }
  };

  const change = (node, next) => {
    if (node.isEqualNode(next)) return;
    if (node.nodeType !== Node.ELEMENT_NODE) {
      node.data = next.data;
      return;
    }
    changeAttributes(node, next);
    changeChildren(node, next);
  };

  const show = (view) => {
    const next = new DOMParser().parseFromString(view.main, "text/html").querySelector("main");
    change(document.querySelector("main"), next);
    document.title = view.title;
    document.dispatchEvent(new Event("report-changed"));
    tell((status = view.status));
  };

  const connect = () => {
    const source = new EventSource(`/events?after=${line.dataset.view}`);
    source.addEventListener("open", () => tell(status));
    source.addEventListener("view", (event) => {
      line.dataset.view = event.lastEventId;
      show(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      tell({ state: "lost", text: "No connection to qlora watch; trying again. Below is what was shown last." });
      // A browser tries again by itself unless it has given up.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
    });
  };
  connect();
})();
