"use strict";
// Follows a run that is still going on: its progress and log, and the page anew whenever there are new results.
(() => {
  const find = (id) => document.getElementById(id);
  const live = find("live");
  let busy = false;

  function show(status) {
    find("done").value = status.fraction;
    find("state").textContent = status.said;
    find("facts").replaceChildren(...status.facts.flatMap(([name, value]) => [["dt", name], ["dd", value]].map(([tag, text]) => {
      const made = document.createElement(tag);
      made.textContent = text;
      return made;
    })));
    const log = find("log"), atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    log.textContent = status.log;
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  // Takes over what the new page has; what was chosen, limited and scrolled to stays as it is.
  async function renew() {
    const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    const version = page.getElementById("live").dataset.version;
    if (typeof Choose === "undefined" || !page.getElementById("data")) {
      if (page.getElementById("data")) location.reload();
      return;
    }
    const main = document.querySelector("main"), height = main.offsetHeight;
    const next = page.querySelector("main");
    next.style.minHeight = `${height}px`;  // so that the window does not jump while the plots are drawn
    main.replaceWith(next);
    live.dataset.version = version;
    await Choose.start();
    next.style.minHeight = "";
  }

  async function look() {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const status = await (await fetch("status.json")).json();
      show(status);
      if (status.version !== live.dataset.version) await renew();
    } catch {
      find("state").textContent = "paretoray watch does not answer; it has ended, or is busy";
    } finally {
      busy = false;
    }
  }

  look();
  setInterval(look, 2000);
})();
