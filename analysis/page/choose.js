"use strict";
// Choice of a network: one is chosen in the table or a plot and shown; limits and words say which are in question.
const Choose = (() => {
  const find = (selector) => document.querySelector(selector);
  const state = { chosen: null, arch: null, sorted: null, limits: {}, words: "", x: null, y: null, zoom: null, within: () => true };
  let data, networks, drawn = false;

  function read() {
    data = JSON.parse(find("#data").textContent);
    data.runs.forEach((run) => run.networks.forEach((network) => { network.run = run.name; }));
    networks = new Map(data.runs.flatMap((run) => run.networks).map((network) => [network.id, network]));
    const keys = data.axes.map((axis) => axis.key);
    if (!keys.includes(state.x)) state.x = keys[Math.min(1, keys.length - 1)];
    if (!keys.includes(state.y)) state.y = keys[0];
    // Members of a search that goes on get other numbers; what was chosen stays chosen by its notation.
    const same = [...networks.values()].find((network) => network.arch === state.arch);
    if (same) state.chosen = same.id;
    if (!networks.has(state.chosen)) state.chosen = data.knee ?? networks.keys().next().value ?? null;
  }

  // A network of which a limited quantity is not known is out: nothing says that it keeps the limit.
  function within(network) {
    const value = (key) => network.values[key] ?? Infinity;
    return Object.entries(state.limits).every(([key, limit]) => value(key) <= limit) && matches(network);
  }

  function matches(network) {
    const all = `${network.number} ${network.standing} ${network.arch}`.toLowerCase();
    return state.words.toLowerCase().split(/\s+/).every((word) => all.includes(word));
  }

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function axisMenu(letter) {
    const options = data.axes.map((axis) => element("option", { value: axis.key, selected: axis.key === state[letter] }, axis.title));
    const menu = element("select", { id: letter }, ...options);
    menu.addEventListener("change", () => { state[letter] = menu.value; state.zoom = null; update(); });
    return element("label", {}, letter === "x" ? "across " : "up ", menu);
  }

  // A slider steps from one network's value to the next, so that each step lets one more in.
  function limitRow(axis) {
    const all = [...networks.values()].map((n) => n.values[axis.key]).filter((v) => v !== null);
    const values = [...new Set(all)].sort((a, b) => a - b);
    const typed = element("input", { type: "number", step: "any", id: `limit-${axis.key}`, placeholder: "no limit" });
    const slider = element("input", { type: "range", min: 0, max: values.length, step: 1, ariaLabel: `${axis.title}, at most` });
    const clear = element("button", { type: "button", title: "no limit", ariaLabel: `no limit on ${axis.name}` }, "×");
    typed.addEventListener("input", () => limit(axis.key, typed.value === "" ? undefined : Number(typed.value)));
    slider.addEventListener("input", () => limit(axis.key, values[slider.value]));
    clear.addEventListener("click", () => limit(axis.key, undefined));
    axis.show = () => {
      const value = state.limits[axis.key];
      if (document.activeElement !== typed) typed.value = value === undefined ? "" : Number(value.toPrecision(6));
      slider.value = value === undefined ? values.length : Math.max(0, values.filter((v) => v <= value).length - 1);
    };
    return [element("label", { htmlFor: typed.id }, `${axis.title} at most`), slider, typed, clear];
  }

  function limit(key, value) {
    if (value === undefined || Number.isNaN(value)) delete state.limits[key];
    else state.limits[key] = value;
    update();
  }

  function controls() {
    find("#axes").replaceChildren(axisMenu("x"), axisMenu("y"));
    const legend = find("#limits legend");
    find("#limits").replaceChildren(legend, ...data.axes.filter((axis) => axis.objective).flatMap(limitRow));
    find("#controls").addEventListener("submit", (event) => event.preventDefault());
    const words = find("#words");
    words.value = state.words;
    words.addEventListener("input", () => { state.words = words.value; update(); });
  }

  const rows = () => [...document.querySelectorAll("#members tbody tr")];
  const shownRows = () => rows().filter((row) => !row.hidden);

  // Sorts by numbers where a cell begins with one; rows without a value come last, in either direction.
  function sort(column, down) {
    const header = document.querySelectorAll("#members th")[column];
    state.sorted = [column, down];
    document.querySelectorAll("#members th").forEach((other) => { other.ariaSort = null; });
    header.ariaSort = down ? "descending" : "ascending";
    const value = (row) => row.cells[column].textContent.trim();
    const order = (a, b) => {
      const [left, right] = [a, b].map((row) => parseFloat(value(row).replace(/,/g, "")));
      if (value(a) === "" || value(b) === "") return (value(a) === "") - (value(b) === "");
      const sign = Number.isNaN(left - right) ? value(a).localeCompare(value(b)) : left - right;
      return down ? -sign : sign;
    };
    find("#members tbody").append(...rows().sort(order));
  }

  function table() {
    const headers = [...document.querySelectorAll("#members th")];
    headers.forEach((header, column) => {
      const button = element("button", { type: "button", title: "sort" }, ...header.childNodes);
      button.addEventListener("click", () => sort(column, header.ariaSort === "ascending"));
      header.replaceChildren(button);
    });
    const main = headers.findIndex((header) => !/^(#|standing)$/.test(header.textContent.trim()));
    rows().forEach((row) => {
      row.cells[main]?.classList.add("main");
      row.addEventListener("click", () => choose(row.dataset.id));
      row.addEventListener("keydown", (event) => key(event, row));
    });
    headers[main]?.classList.add("main");
  }

  // Arrows, Home and End go through the rows that are shown and choose; Enter goes on to the network itself.
  function key(event, row) {
    const shown = shownRows(), at = shown.indexOf(row);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (to !== undefined && shown[to]) {
      event.preventDefault();
      choose(shown[to].dataset.id);
      shown[to].focus();
    } else if ((event.key === "Enter" || event.key === " ") && event.target === row) {
      event.preventDefault();
      choose(row.dataset.id);
      find(`#${row.dataset.id}`).scrollIntoView({ block: "nearest" });
    }
  }

  function copyButtons() {
    document.querySelectorAll(".command").forEach((command) => {
      const button = element("button", { type: "button" }, "copy");
      button.addEventListener("click", async () => {
        const said = command.querySelector("pre");
        try {
          await navigator.clipboard.writeText(said.textContent);
          button.textContent = "copied";
        } catch {  // browsers that keep the clipboard from files: select it, to be copied by hand
          getSelection().selectAllChildren(said);
          button.textContent = "selected";
        }
        setTimeout(() => { button.textContent = "copy"; }, 2000);
      });
      command.append(button);
    });
  }

  function choose(id) {
    state.chosen = id;
    state.arch = networks.get(id).arch;
    update();
  }

  function update() {
    state.within = within;
    rows().forEach((row) => {
      row.hidden = !within(networks.get(row.dataset.id));
      row.classList.toggle("chosen", row.dataset.id === state.chosen);
      row.ariaSelected = row.dataset.id === state.chosen;
      row.tabIndex = -1;
    });
    const first = shownRows().find((row) => row.dataset.id === state.chosen) ?? shownRows()[0];
    if (first) first.tabIndex = 0;  // one row is reached by Tab, the others by arrows
    document.querySelectorAll(".network").forEach((card) => card.classList.toggle("chosen", card.id === state.chosen));
    data.axes.forEach((axis) => axis.show?.());
    const [shown, all] = [shownRows().length, rows().length];
    find("#shown").textContent = shown === all ? `${all} network${all === 1 ? "" : "s"}` : `${shown} of ${all} networks are within the limits and the filter`;
    draw();
  }

  function note() {
    const every = data.runs[0].samples.every > 1 ? ` Every ${data.runs[0].samples.every}th of ${Plots.number(data.runs[0].samples.of)} evaluations is drawn.` : "";
    const tested = data.axes[0].key.startsWith("test_");
    const kinds = tested ? "Stars are on the retrained front, crosses are not, open circles were not retrained. " : "";
    find("#plot-note").textContent = `${kinds}Networks at one place are drawn side by side. Click a network to choose it; drag a box to take its upper right corner as limits. Dashed: limits of the search.${every}`;
  }

  function draw() {
    if (!drawn) return;
    const chosen = networks.get(state.chosen);
    Plots.scatter(find("#plot"), data, state, chosen);
    if (!find("#parallel-part").hidden) Plots.parallel(find("#parallel"), data, state, chosen);
  }

  async function plots() {
    const several = data.axes.filter((axis) => axis.objective).length > 2 && networks.size > 1;
    find("#parallel-part").hidden = !several || !Plots.webgl();
    note();
    if (!networks.size) { find("#plot").hidden = true; return; }
    drawn = true;
    const chosen = networks.get(state.chosen);
    await Plots.scatter(find("#plot"), data, state, chosen);
    find("#plot").on("plotly_click", ({ points }) => { if (points[0].customdata) choose(points[0].customdata); });
    find("#plot").on("plotly_selected", (box) => {
      if (!box?.range) return;
      limit(state.x, box.range.x[1]);
      limit(state.y, box.range.y[1]);
    });
    find("#plot").on("plotly_relayout", (change) => {  // what stands side by side depends on the part that is seen
      if (!Object.keys(change).some((key) => /^[xy]axis\.(range|autorange)/.test(key))) return;
      const { xaxis, yaxis } = find("#plot").layout;
      state.zoom = change["xaxis.autorange"] || change["yaxis.autorange"] ? null : [[...xaxis.range], [...yaxis.range]];
      draw();
    });
    if (find("#parallel-part").hidden) return;
    await Plots.parallel(find("#parallel"), data, state, chosen);
    find("#parallel").on("plotly_restyle", () => {
      const ends = Plots.dragged(find("#parallel"), data);
      Object.entries(ends).forEach(([key, end]) => { if (end === undefined) delete state.limits[key]; else state.limits[key] = end; });
      update();
    });
  }

  // Makes a page, or what has come in its place, answer; what was chosen stays chosen.
  async function start() {
    drawn = false;
    read();
    controls();
    table();
    if (state.sorted) sort(...state.sorted);
    copyButtons();
    update();
    await plots();
    performance.mark("ready");
    document.documentElement.dataset.ready = "true";
  }

  document.addEventListener("themechange", draw);
  let resized;
  addEventListener("resize", () => {  // places of numbers, and what a drag does, depend on the width
    clearTimeout(resized);
    resized = setTimeout(draw, 200);
  });
  Plots.load().then(start, (error) => {
    document.documentElement.classList.remove("scripted");
    find("#unscripted").textContent = `This browser cannot unpack the plots (${error.message}); all networks and figures are shown below.`;
  });
  return { start };
})();
