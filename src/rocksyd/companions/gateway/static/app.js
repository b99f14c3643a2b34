// What pages do by themselves: stay up to date, follow output, send orders, keys. Everything else is made on the server.
"use strict";
(() => {
  const $ = (what, where = document) => where.querySelector(what);
  const all = (what, where = document) => [...where.querySelectorAll(what)];
  const OUTPUT_MOST = 400000; // characters of output that are kept on the page
  let toastTimer = 0;

  function toast(text, bad) {
    const place = $("#toast");
    place.textContent = text;
    place.className = bad ? "bad shown" : "shown";
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => (place.className = ""), 6000);
  }

  // --- orders ----------------------------------------------------------------------------------------------------
  async function send(where, verb, body) {
    const answer = await fetch(where, {
      method: verb,
      headers: { "Content-Type": "application/json" },
      body: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body),
    });
    const found = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error((found.error && found.error.message) || `${answer.status} ${answer.statusText}`);
    return found;
  }

  async function press(button) {
    if (button.dataset.sure && !button.classList.contains("sure")) {
      const said = button.textContent;
      button.textContent = button.dataset.sure;
      button.classList.add("sure");
      // Who turns to something else has not meant it. (Not after a time: a slow hand would press another button than it sees.)
      button.onblur = () => {
        button.textContent = said;
        button.classList.remove("sure");
      };
      button.onpointerleave = (event) => event.pointerType === "mouse" && button.onblur();
      return;
    }
    button.disabled = true;
    try {
      const found = await send(button.dataset.post, button.dataset.verb || "POST", button.dataset.body);
      if (button.dataset.next) location.assign(button.dataset.next);
      else if (button.dataset.into) {
        const place = $(`#${button.dataset.into}`);
        place.textContent = plain(found.result.text);
        place.hidden = false;
      } else await renew();
    } catch (error) {
      toast(error.message, true);
    } finally {
      button.disabled = false;
    }
  }

  function read(field) {
    const text = field.value;
    if (field.dataset.kind === "integer" || field.dataset.kind === "number") return Number(text);
    if (field.dataset.kind === "json" || field.dataset.kind === "whole") {
      try {
        return JSON.parse(text);
      } catch (error) {
        if (field.dataset.kind === "whole") throw new Error(`${field.name}: ${error.message}`);
        return text; // a word needs no quotes
      }
    }
    return text;
  }

  async function order(form) {
    const body = { target: form.dataset.run, app: form.dataset.app };
    try {
      for (const field of all("[data-kind]", form)) {
        if (field.value === "") continue;
        if (field.dataset.kind === "whole") body.params = read(field);
        else if (field.dataset.kind === "option") body[field.name] = field.value;
        else (body.params ||= {})[field.name] = read(field);
      }
      const run = await send("/runs", "POST", body);
      location.assign(`/run/${encodeURIComponent(run.key)}`);
    } catch (error) {
      toast(error.message, true);
    }
  }

  async function edit(form) {
    const body = { key: form.dataset.edit };
    try {
      for (const field of all("[data-kind]", form)) {
        if (field.value !== field.defaultValue) body[field.name] = read(field);
      }
      await send("/rpc/edit", "POST", body);
      location.reload();
    } catch (error) {
      toast(error.message, true);
    }
  }

  async function login(form) {
    try {
      const found = await send("/login", "POST", { token: $("[name=token]", form).value, next: form.dataset.next });
      location.assign(found.next);
    } catch (error) {
      toast(error.message, true);
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    for (const other of all("button.sure")) if (other !== button) other.onblur();
    if (!button) return;
    if (button.dataset.post) press(button);
    else if ("themeSwitch" in button.dataset) turn();
    else if ("help" in button.dataset) $("#keys").showModal();
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    const sends = { run: order, edit: edit, login: login };
    const which = Object.keys(sends).find((name) => name in form.dataset);
    if (which) {
      event.preventDefault();
      sends[which](form);
      return;
    }
    for (const field of all("input, select", form)) if (field.name && field.value === "") field.disabled = true;
    setTimeout(() => all(":disabled", form).forEach((field) => (field.disabled = false)), 0);
  });

  // --- staying up to date --------------------------------------------------------------------------------------------
  let renewing = false;
  let missed = false;

  async function renew() {
    if (renewing || document.hidden) {
      missed = true;
      return;
    }
    renewing = true;
    missed = false;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected && new URL(answer.url).pathname === "/login") return location.assign(answer.url);
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of ["#alarm", "#main"]) exchange($(part), $(part, fresh));
        $("footer b").textContent = $("footer b", fresh).textContent;
        draw();
      }
    } catch (error) {
      // It is tried again with the next change.
    } finally {
      renewing = false;
    }
  }

  function exchange(old, fresh) {
    if (!old || !fresh) return;
    Idiomorph.morph(old, fresh, {
      morphStyle: "outerHTML",
      ignoreActiveValue: true,
      callbacks: {
        beforeNodeMorphed: (node) =>
          !(node.nodeType === 1 && ("keep" in node.dataset || node.classList.contains("sure") || node.matches("form, .uplot-here"))),
        beforeAttributeUpdated: (name, node) => !(name === "open" && node.tagName === "DETAILS"),
      },
    });
  }

  function listen() {
    const place = $("#live");
    const source = new EventSource("/changes");
    source.addEventListener("open", () => {
      place.textContent = "live";
      place.classList.add("on");
    });
    source.addEventListener("changed", renew);
    source.addEventListener("error", () => {
      place.textContent = "not live";
      place.classList.remove("on");
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
    });
    addEventListener("pagehide", () => source.close());
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && missed) renew();
  });

  // --- output ----------------------------------------------------------------------------------------------------
  const CONTROL = /\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;
  const plain = (text) => text.replace(/\r\n/g, "\n").replace(CONTROL, "");
  const INKS = ["", "bad", "ok", "wait", "run", "other", "accent", ""];

  // What a run prints, as nodes: of all that steers a terminal only colours and bold are taken. Texts may be cut anywhere.
  function pen() {
    let rest = "", ink = "", bold = false;
    const dip = (codes) => {
      for (const code of codes.split(";").map(Number)) {
        if (code === 0) [ink, bold] = ["", false];
        else if (code === 1 || code === 22) bold = code === 1;
        else if (code === 38 || code === 48) return; // one of 256 or more: its numbers follow
        else if (code === 39 || (code >= 30 && code < 38) || (code >= 90 && code < 98)) ink = code === 39 ? "" : INKS[code % 10];
      }
    };
    const node = (text) => {
      if (!ink && !bold) return document.createTextNode(text);
      const span = document.createElement("span");
      span.className = `${ink && `ink-${ink}`} ${bold ? "bold" : ""}`.trim();
      span.textContent = text;
      return span;
    };
    return (more) => {
      const text = (rest + more).replace(/\r\n/g, "\n");
      [rest] = text.match(/\x1b(\[[0-9;?]{0,40})?$/) || [""];
      return text.slice(0, text.length - rest.length).split(/\x1b\[([0-9;]*)m/).flatMap((part, place) => {
        if (place % 2) dip(part);
        const shown = place % 2 ? "" : part.replace(CONTROL, "");
        return shown ? [node(shown)] : [];
      });
    };
  }

  function follow(place) {
    const state = $("#output-state");
    const source = new EventSource(place.dataset.output);
    const written = pen();
    let length = 0;
    state.textContent = "…";
    source.addEventListener("output", (event) => {
      const nodes = written(JSON.parse(event.data).text);
      const below = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
      for (const one of nodes) {
        place.append(one);
        length += one.textContent.length;
      }
      while (length > OUTPUT_MOST && place.childNodes.length > 1) {
        length -= place.firstChild.textContent.length;
        place.firstChild.remove();
        state.textContent = "its end";
      }
      if (below) place.scrollTop = place.scrollHeight;
    });
    source.addEventListener("end", () => {
      source.close();
      if (state.textContent === "…") state.textContent = length ? "" : "nothing was printed";
    });
    addEventListener("pagehide", () => source.close());
  }

  // --- the chart of durations ------------------------------------------------------------------------------------
  let drawn = null;
  const DAY = "\n{D} {MMM}";
  const CLOCK = [
    // How far labels are apart; a label; what the first one, and the first of a year, day or minute has besides; 1: below it.
    [3600 * 24 * 365, "{YYYY}", null, null, null, null, null, null, 1],
    [3600 * 24 * 28, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
    [3600 * 24, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
    [60, "{HH}:{mm}", DAY, null, DAY, null, null, null, 1],
    [1, "{HH}:{mm}:{ss}", DAY, null, DAY, null, null, null, 1],
    [1e-3, "{HH}:{mm}:{ss}.{fff}", DAY, null, DAY, null, null, null, 1],
  ];

  function draw() {
    const place = $(".uplot-here");
    if (!place || !window.uPlot || place.dataset.drawn === place.dataset.points) return;
    const found = JSON.parse(place.dataset.points);
    if (found.times.length < 1) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    if (drawn) drawn.destroy();
    place.dataset.drawn = place.dataset.points;
    const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    const dots = (name, of) => ({ label: name, stroke: colour(of), paths: () => null, points: { show: true, size: 5, fill: colour(of) } });
    const marks = (u) => {
      u.ctx.save();
      u.ctx.strokeStyle = colour("--accent");
      u.ctx.setLineDash([4, 4]);
      for (const [at] of found.marks) {
        const x = u.valToPos(at, "x", true);
        if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
        u.ctx.beginPath();
        u.ctx.moveTo(x, u.bbox.top);
        u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
        u.ctx.stroke();
      }
      u.ctx.restore();
    };
    const span = (seconds) => (seconds === 0 ? "0" : seconds < 1 ? `${+(seconds * 1000).toPrecision(3)} ms` : `${+seconds.toPrecision(3)} s`);
    drawn = new uPlot(
      {
        width: place.clientWidth,
        height: 220,
        hooks: { draw: [marks] },
        legend: { show: false },
        cursor: { drag: { x: true, y: false } },
        scales: { y: { range: (u, low, high) => [0, (high || 1) * 1.1] } },
        axes: [{ ...axis, values: CLOCK }, { ...axis, size: 70, values: (u, values) => values.map(span) }],
        series: [{}, dots("ok", "--ok"), dots("not ok", "--bad")],
      },
      [found.times, found.good, found.bad],
      place,
    );
  }

  // --- dark and light, keys ------------------------------------------------------------------------------------------
  function turn() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("theme", document.documentElement.dataset.theme);
    } catch (error) {
      // It holds for this page.
    }
    const place = $(".uplot-here");
    if (place) delete place.dataset.drawn;
    draw();
  }

  let leading = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const go = Date.now() - leading < 1500 ? $(`nav a[data-key="${CSS.escape(event.key)}"]`) : null;
    leading = 0;
    if (go) go.click();
    else if (event.key === "g") leading = Date.now();
    else if (event.key === "/") {
      event.preventDefault();
      $(".tools input").focus();
    } else if (event.key === "?") $("#keys").showModal();
    else if (event.key === "d") turn();
    else if (event.key === "j" || event.key === "k") {
      const links = all("table.list tbody a, .error h2 a");
      const rows = [...new Map(links.map((link) => [link.closest("tr, .error"), link])).keys()].map((row) => $("a", row));
      const at = rows.findIndex((link) => link.closest("tr, .error").contains(document.activeElement));
      const next = rows[Math.max(0, Math.min(rows.length - 1, at + (event.key === "j" ? 1 : -1)))];
      if (next) next.focus();
    }
  });

  let width = innerWidth;
  addEventListener("resize", () => {
    if (width === innerWidth) return;
    width = innerWidth;
    const place = $(".uplot-here");
    if (place) delete place.dataset.drawn;
    draw();
  });

  if (document.body.dataset.live) listen();
  const output = $("[data-output]");
  if (output) follow(output);
  draw();
})();
