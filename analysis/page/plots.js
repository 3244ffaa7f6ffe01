"use strict";
// Plots of networks with Plotly: two quantities against each other, and parallel coordinates of all objectives.
const Plots = (() => {
  // The colours of analysis.plots.SEARCHES.
  const LIGHT = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6d31", "#6a51a3"];
  const DARK = ["#4aa8e0", "#e6b04a", "#2fc49b", "#dd9cc0", "#ef7b35", "#9bd4f5", "#b5945a", "#a48fd0"];
  const SYMBOLS = { front: "star", open: "circle-open", beaten: "x" };
  const digits = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
  const rough = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });
  const counts = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

  const number = (value) => (value === null ? "?" : Math.abs(value) >= 1000 ? counts.format(value) : digits.format(value));
  // Plotly reads a few tags in texts; what users named is none.
  const text = (value) => String(value).replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const wrapped = (value) => text(value.replace(/(.{60})/g, "$1\n")).replace(/\n/g, "<br>");

  // Plotly stands in the page compressed, which makes the file a third as large.
  async function load() {
    const packed = Uint8Array.from(atob(document.getElementById("library").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.text = await new Response(stream).text();
    document.head.append(script);
  }

  // Networks that share a name and a colour in the legend: a run, or a search of a sweep.
  function series(data) {
    const listed = [], colours = document.documentElement.dataset.theme === "dark" ? DARK : LIGHT;
    data.runs.forEach((run, r) => {
      const groups = r === 0 && data.groups.length ? data.groups : [null];
      groups.forEach((name, g) => {
        const networks = run.networks.filter((n) => name === null || n.group === g);
        const colour = colours[listed.length % colours.length];
        listed.push({ name: name ?? (data.runs.length > 1 ? run.name : "networks of the front"), colour, networks, run, group: name === null ? null : g });
      });
    });
    return listed;
  }

  function hover(network, data, runs) {
    const lines = data.axes.filter((axis) => network.values[axis.key] !== null)
      .map((axis) => `${text(axis.title)}: ${number(network.values[axis.key])}`);
    const owner = runs > 1 ? `, ${text(network.run)}` : "";
    const standing = network.standing ? ` (${text(network.standing)})` : "";
    return [`<b>network ${network.number}</b>${standing}${owner}`, ...lines, wrapped(network.arch)].join("<br>");
  }

  function staircase(networks, x, y) {
    const points = networks.filter((n) => n.kind === "front").map((n) => [n.values[x], n.values[y]])
      .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    let lowest = Infinity;
    return points.filter(([, value]) => value < lowest && ((lowest = value), true));
  }

  const quantile = (sorted, share) => sorted[Math.floor(share * (sorted.length - 1))];

  // The range of an axis: all networks, the limits on it and most of the cheaper evaluations, with some room; logarithms
  // where the axis is logarithmic.
  function range(axis, values, clouds) {
    const sorted = Float64Array.from(clouds.flatMap((cloud) => cloud[axis.letter])).sort();
    const around = sorted.length ? [quantile(sorted, 0.05), quantile(sorted, 0.6)] : [];
    const known = [...values, ...around].filter((v) => v !== null && (!axis.log || v > 0));
    if (!known.length) return undefined;
    const shown = axis.log ? known.map(Math.log10) : known;
    const low = Math.min(...shown), high = Math.max(...shown);
    const extent = high - low || Math.abs(high) * 0.2 || 1;
    return [low - 0.1 * extent, high + 0.12 * extent];
  }

  const scaled = (axis, value) => (axis.log ? Math.log10(value) : value);
  const unscaled = (axis, value) => (axis.log ? 10 ** value : value);

  // Where networks are drawn, by their ids, in scaled values. Those whose marks would cover each other stand side by side, so
  // that each is seen and can be clicked; hovering tells their values as they are.
  const NEAR = 11, BESIDE = 13;
  function places(networks, axes, ranges, size) {
    const exact = networks.map((n) => [scaled(axes.x, n.values[axes.x.key]), scaled(axes.y, n.values[axes.y.key])]);
    const found = new Map(networks.map((n, i) => [n.id, exact[i]]));
    if (!ranges[0] || !ranges[1]) return found;
    const unit = ranges.map(([low, high], i) => (high - low) / size[i]);  // of a pixel
    const groups = [];
    exact.forEach(([x, y], i) => {
      const group = groups.find(([j]) => Math.hypot((exact[j][0] - x) / unit[0], (exact[j][1] - y) / unit[1]) < NEAR);
      if (group) group.push(i); else groups.push([i]);
    });
    groups.filter((group) => group.length > 1).forEach((group) => {
      const apart = Math.min(BESIDE, size[0] / 2 / group.length) * unit[0];
      const middle = group.reduce((sum, i) => sum + exact[i][0], 0) / group.length;
      group.forEach((i, at) => found.set(networks[i].id, [middle + (at - (group.length - 1) / 2) * apart, exact[i][1]]));
    });
    return found;
  }

  // Where each number stands beside its point, so that none covers another; none where there is no room.
  function positions(points, ranges, size) {
    const places = [["top right", 1, 1], ["top left", -1, 1], ["bottom right", 1, -1], ["bottom left", -1, -1], ["top center", 0, 1.3], ["bottom center", 0, -1.3]];
    const pixel = ([x, y]) => [(x - ranges[0][0]) / (ranges[0][1] - ranges[0][0]) * size[0], (y - ranges[1][0]) / (ranges[1][1] - ranges[1][0]) * size[1]];
    const taken = points.map(pixel).map(([x, y]) => [x - 5, x + 5, y - 5, y + 5]);
    return points.map((point) => {
      const [x, y] = pixel(point);
      for (const [name, dx, dy] of places) {
        const box = [x + dx * 10 - 7, x + dx * 10 + 7, y + dy * 11 - 6, y + dy * 11 + 6];
        const inside = box[0] > 0 && box[1] < size[0] && box[2] > 0 && box[3] < size[1];
        if (inside && !taken.some((t) => box[0] < t[1] && t[0] < box[1] && box[2] < t[3] && t[2] < box[3])) {
          taken.push(box);
          return name;
        }
      }
      return null;
    });
  }

  function samples(one, axes, single) {
    const { values, batch, group, arch } = one.run.samples;
    if (!values || !values[axes.x.key] || !values[axes.y.key]) return [];
    const kinds = single
      ? [["sample, one batch", (i) => batch[i], Theme.colour("sample"), 4], ["validation set", (i) => !batch[i], Theme.colour("measured"), 5]]
      : [[`${one.name}: evaluations`, (i) => group === null || group[i] === one.group, one.colour, 4]];
    return kinds.map(([name, wanted, color, size]) => {
      // Evaluations of one place are one mark, the larger the more there are.
      const same = new Map();
      arch.forEach((_, i) => {
        if (!wanted(i)) return;
        const place = `${values[axes.x.key][i]} ${values[axes.y.key][i]}`;
        if (same.has(place)) same.get(place).push(i); else same.set(place, [i]);
      });
      const groups = [...same.values()], at = (key) => groups.map(([i]) => values[key][i]);
      const said = ([i, ...others]) => `${others.length ? `${others.length + 1} evaluations, one of them` : "evaluation"}<br>${wrapped(arch[i])}`;
      return {
        type: "scatter", mode: "markers", name: text(name), x: at(axes.x.key), y: at(axes.y.key),
        hovertext: groups.map(said), hovertemplate: "%{hovertext}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
        marker: { color, size: groups.map((group) => size * Math.min(3, Math.sqrt(group.length))), opacity: 0.5 }, legendgroup: single ? name : one.name,
      };
    }).filter((trace) => trace.x.length);
  }

  function bars(networks, key) {
    const half = (side) => networks.map((n) => n[side][key] ?? 0);
    const [array, arrayminus] = [half("above"), half("below")];
    return { type: "data", array, arrayminus, visible: array.some(Boolean), thickness: 1, width: 2 };
  }

  function members(one, state, data, axes, placed, ranges, size) {
    const { x, y } = axes;
    const networks = one.networks.filter((n) => placed.has(n.id));
    const points = networks.map((n) => placed.get(n.id));
    const beside = ranges[0] && ranges[1] ? positions(points, ranges, size) : [];
    const stairs = staircase(networks, x.key, y.key);
    const shared = { legendgroup: one.name, name: text(one.name) };
    return [
      { ...shared, type: "scatter", mode: "lines", x: stairs.map((p) => p[0]), y: stairs.map((p) => p[1]), line: { shape: "hv", color: one.colour, width: 1.2 }, hoverinfo: "skip", showlegend: false },
      {
        ...shared, type: "scatter", mode: "markers+text", x: points.map((p) => unscaled(x, p[0])), y: points.map((p) => unscaled(y, p[1])),
        customdata: networks.map((n) => n.id), hovertext: networks.map((n) => hover(n, data, data.runs.length)), hovertemplate: "%{hovertext}<extra></extra>",
        text: networks.map((n, i) => (beside[i] ? String(n.number) : "")), textposition: beside.map((p) => p ?? "top right"), textfont: { size: 11 },
        marker: {
          color: one.colour, size: networks.map((n) => (n.kind === "front" ? 13 : 9)), symbol: networks.map((n) => SYMBOLS[n.kind]),
          opacity: networks.map((n) => (state.within(n) ? 1 : 0.2)), line: { width: 1, color: one.colour },
        },
        error_x: { ...bars(networks, x.key), color: one.colour }, error_y: { ...bars(networks, y.key), color: one.colour },
      },
    ];
  }

  function ring(name, network, axes, placed, line) {
    const [x, y] = (network && placed.get(network.id)) ?? [];
    return x !== undefined ? [{
      type: "scatter", mode: "markers", name, x: [unscaled(axes.x, x)], y: [unscaled(axes.y, y)], hoverinfo: "skip",
      marker: { symbol: "circle-open", size: line.size, color: line.color, line: { width: line.width } },
    }] : [];
  }

  function references(data, axes) {
    const shown = data.references.filter((r) => axes.x.key in r.values && axes.y.key in r.values);
    return shown.length ? [{
      type: "scatter", mode: "markers+text", name: "reference", x: shown.map((r) => r.values[axes.x.key]), y: shown.map((r) => r.values[axes.y.key]),
      text: shown.map((r) => text(r.name)), textposition: "top center", marker: { symbol: "diamond", size: 9, color: Theme.colour("limit") }, hovertemplate: "%{text}<extra></extra>",
    }] : [];
  }

  // The limits of the search dashed, those of whoever looks at the page solid; what lies beyond is shaded.
  function limits(state, axes) {
    const shapes = [];
    for (const [letter, axis] of Object.entries(axes)) {
      const other = letter === "x" ? "y" : "x";
      const across = { [`${other}ref`]: "paper", [`${other}0`]: 0, [`${other}1`]: 1 };
      for (const [value, dash, color] of [[axis.limit, "dash", Theme.colour("limit")], [state.limits[axis.key] ?? null, "solid", Theme.colour("accent")]]) {
        if (value !== null) shapes.push({ type: "line", [`${letter}0`]: value, [`${letter}1`]: value, ...across, line: { color, dash, width: 1.5 } });
      }
    }
    return shapes;
  }

  function look() {
    return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: Theme.colour("ink"), size: 12, family: "system-ui, sans-serif" }, modebar: { bgcolor: "rgba(0,0,0,0)", color: Theme.colour("faint"), activecolor: Theme.colour("accent") } };
  }

  function axis(quantity, range) {
    return {
      title: { text: text(quantity.title) }, type: quantity.log ? "log" : "linear", range, autorange: !range, gridcolor: Theme.colour("line"),
      linecolor: Theme.colour("strong"), zeroline: false, exponentformat: "SI", automargin: true, ...(quantity.log && (!range || range[1] - range[0] > 0.9) ? { dtick: "D2" } : { nticks: 8 }),
    };
  }

  function scatter(element, data, state, chosen) {
    const axes = { x: data.axes.find((a) => a.key === state.x), y: data.axes.find((a) => a.key === state.y) };
    const all = [...data.runs.flatMap((run) => run.networks), ...data.references.filter((r) => axes.x.key in r.values && axes.y.key in r.values)]
      .filter((n) => (n.values[axes.x.key] ?? null) !== null && (n.values[axes.y.key] ?? null) !== null);
    const listed = series(data), single = listed.length === 1;
    const clouds = listed.flatMap((one) => samples(one, axes, single));
    const end = (n, a, sign, side) => n.values[a.key] + sign * (n[side]?.[a.key] ?? 0);
    const ends = (a) => all.flatMap((n) => [end(n, a, -1, "below"), end(n, a, 1, "above")]);
    const spread = (letter, a) => range({ ...a, letter }, [...ends(a), a.limit, state.limits[a.key] ?? null], clouds);
    const ranges = state.zoom ?? [spread("x", axes.x), spread("y", axes.y)];
    const size = [Math.max(100, element.clientWidth - 80), Math.max(100, element.clientHeight - 130)];
    const knee = all.find((n) => n.id === data.knee);
    const placed = places(all.filter((n) => n.id), axes, ranges, size);
    const traces = [
      ...clouds, ...listed.flatMap((one) => members(one, state, data, axes, placed, ranges, size)), ...references(data, axes),
      ...ring("knee", knee, axes, placed, { size: 22, color: Theme.colour("ink"), width: 1.2 }),
      ...ring("chosen", chosen, axes, placed, { size: 26, color: Theme.colour("accent"), width: 3 }),
    ];
    const narrow = element.clientWidth < 600;
    const layout = {
      ...look(), xaxis: axis(axes.x, ranges[0]), yaxis: axis(axes.y, ranges[1]), shapes: limits(state, axes), selections: [],
      margin: { l: 50, r: 10, t: narrow ? 40 : 25, b: 40 }, legend: { orientation: "h", x: 0, ...(narrow ? { y: 1.01, yanchor: "bottom" } : { y: -0.18 }) }, hovermode: "closest", dragmode: narrow ? false : "select",
      hoverlabel: { align: "left", bgcolor: Theme.colour("panel"), font: { color: Theme.colour("ink") } },
    };
    const config = { responsive: true, displaylogo: false, displayModeBar: !narrow, modeBarButtonsToRemove: ["lasso2d", "toImage"] };
    return Plotly.react(element, traces, layout, config);
  }

  // Values of a logarithmic axis are drawn as logarithms; all axes have five ticks of their own.
  function dimension(quantity, networks, limit) {
    const scale = quantity.log ? Math.log10 : (v) => v, back = quantity.log ? (v) => 10 ** v : (v) => v;
    const values = networks.map((n) => scale(n.values[quantity.key]));
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 10, high + (Math.abs(high) || 1) / 10];
    const tickvals = [0, 0.25, 0.5, 0.75, 1].map((share) => low + share * (high - low));
    const ticktext = tickvals.map((v) => rough.format(back(v)));
    const kept = limit === undefined ? {} : { constraintrange: [low, Math.max(low, scale(limit))] };
    return { label: text(quantity.name), values, range: [low, high], tickvals, ticktext, ...kept };
  }

  function parallel(element, data, state, chosen) {
    const objectives = data.axes.filter((a) => a.objective);
    const listed = series(data);
    const drawn = listed.flatMap((one, i) => one.networks.map((n) => [n, i])).filter(([n]) => objectives.every((a) => n.values[a.key] !== null));
    const networks = drawn.map(([n]) => n);
    const colours = [...listed.map((one) => one.colour), Theme.colour("ink")];
    const scale = colours.length > 1 ? colours.map((colour, i) => [i / (colours.length - 1), colour]) : undefined;
    const line = { color: drawn.map(([n, i]) => (n === chosen ? listed.length : i)), colorscale: scale, cmin: 0, cmax: listed.length };
    const trace = { type: "parcoords", dimensions: objectives.map((a) => dimension(a, networks, state.limits[a.key])), line, rangefont: { color: "rgba(0,0,0,0)" }, unselected: { line: { color: Theme.colour("faint"), opacity: 0.15 } } };
    const layout = { ...look(), margin: { l: 55, r: 55, t: 45, b: 25 } };
    return Plotly.react(element, [trace], layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }

  // Upper ends of the ranges that were dragged along the axes, by objective.
  function dragged(element, data) {
    const objectives = data.axes.filter((a) => a.objective);
    return Object.fromEntries(element.data[0].dimensions.map((d, i) => {
      const ends = (d.constraintrange ?? []).flat();
      return [objectives[i].key, ends.length ? (objectives[i].log ? 10 ** Math.max(...ends) : Math.max(...ends)) : undefined];
    }));
  }

  const webgl = () => Boolean(document.createElement("canvas").getContext("webgl"));
  return { load, scatter, parallel, dragged, webgl, number };
})();
