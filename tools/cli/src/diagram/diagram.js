// What the reader does: zoom, move, filter, point, take a part away.

const SHORTEST = 2e3;

class Diagram {
  constructor(root, history) {
    this.root = root;
    this.history = history;
    root.innerHTML = Diagram.HTML;
    this.find = (name) => root.querySelector("." + name);
    this.sheet = new Sheet(history, this.find("sheet"));
    this.overview = this.find("overview");
    this.tip = this.find("tip");
    this.picked = -1;
    this.listFilters();
    this.listen();
    new ResizeObserver(() => this.refresh(true)).observe(this.find("stage"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.refresh(true));
    new MutationObserver(() => this.refresh(true)).observe(document.documentElement, { attributes: true });
    this.refresh(true);
  }

  listFilters() {
    const history = this.history, counts = new Array(history.kinds.length).fill(0);
    const fates = { lost: 0, dropped: 0, again: 0, copy: 0 };
    for (let i = 0; i < history.arrows; i++) {
      const flags = history.flags[i], fate = flags & 7;
      counts[history.kind[i]]++;
      if (fate === 1 || fate === 3) fates.lost++;
      if (fate === 2) fates.dropped++;
      if (flags & AGAIN) fates.again++;
      if (flags & (COPY | DAMAGED)) fates.copy++;
    }
    const groups = this.find("groups");
    history.groups.forEach((group, place) => {
      const kinds = history.kinds.map((kind, i) => [kind, i]).filter(([kind]) => kind.group === place);
      if (kinds.length === 0) return;
      const total = kinds.reduce((sum, [, i]) => sum + counts[i], 0);
      const button = chip(group.name, total, group.ink);
      button.title = kinds.map(([kind, i]) => kind.name + " " + counts[i].toLocaleString("en")).join("\n");
      button.classList.add("on");
      button.onclick = () => {
        const isOn = button.classList.toggle("on");
        for (const [, i] of kinds) isOn ? this.sheet.hiddenKinds.delete(i) : this.sheet.hiddenKinds.add(i);
        this.refresh();
      };
      groups.append(button);
    });
    const only = this.find("only");
    const words = { lost: "lost", dropped: "not taken", again: "sent again", copy: "copied or damaged" };
    for (const [name, count] of Object.entries(fates)) {
      const button = chip(words[name], count, name === "lost" || name === "dropped" ? "bad" : "text");
      button.dataset.only = name;
      button.disabled = count === 0;
      button.onclick = () => {
        button.classList.toggle("on") ? this.sheet.only.add(name) : this.sheet.only.delete(name);
        this.refresh();
      };
      only.append(button);
    }
    for (const button of this.root.querySelectorAll("[data-jump]")) {
      button.disabled = history.events[button.dataset.jump].length === 0;
      button.onclick = () => this.jump(button.dataset.jump);
    }
  }

  listen() {
    const canvas = this.find("sheet"), sheet = this.sheet;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      canvas.focus({ preventScroll: true });
      const [x, y] = place(event);
      drag = { x, y, t0: sheet.t0, t1: sheet.t1, isMoved: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      if (!drag) return this.point(x, y);
      if (Math.abs(x - drag.x) > 3) drag.isMoved = true;
      if (!drag.isMoved) return;
      const shift = ((drag.x - x) / (sheet.width - LEFT - RIGHT)) * (drag.t1 - drag.t0);
      this.show(drag.t0 + shift, drag.t1 + shift);
    });
    canvas.addEventListener("pointerup", (event) => {
      const wasClick = drag && !drag.isMoved;
      drag = null;
      if (wasClick) this.pick(...place(event));
    });
    canvas.addEventListener("pointerleave", () => this.point(-1, -1));
    canvas.addEventListener("dblclick", (event) => this.zoom(1 / 3, sheet.time(place(event)[0])));
    canvas.addEventListener("wheel", (event) => {
      const isSideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
      // In a page with more in it the wheel goes on to the next paragraph, unless the reader is in here.
      const isMine = document.activeElement === canvas || event.ctrlKey || document.body.classList.contains("solo");
      if (!isMine && !isSideways) return this.hint();
      event.preventDefault();
      const delta = Math.max(-120, Math.min(120, isSideways ? event.deltaX || event.deltaY : event.deltaY));
      if (isSideways) this.move(delta / 600);
      else this.zoom(Math.exp(delta / 300), sheet.time(place(event)[0]));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.find("in").onclick = () => this.zoom(0.5);
    this.find("out").onclick = () => this.zoom(2);
    this.find("whole").onclick = () => this.show(0, this.history.end);
    this.find("mermaid").onclick = () => this.exportMermaid();
    this.find("picture").onclick = () => save("diagram.png", canvas.toDataURL("image/png"));
    this.find("close").onclick = () => this.find("export").close();
    this.find("copy").onclick = () => {
      this.find("text").select();
      navigator.clipboard?.writeText(this.find("text").value);
    };
    let wait = 0;
    this.find("search").oninput = (event) => {
      clearTimeout(wait);
      wait = setTimeout(() => this.search(event.target.value), 150);
    };
    this.listenOverview();
  }

  listenOverview() {
    const whole = this.overview;
    let isHeld = false;
    const go = (event) => {
      const box = whole.getBoundingClientRect();
      const middle = ((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * this.history.end;
      const half = (this.sheet.t1 - this.sheet.t0) / 2;
      this.show(middle - half, middle + half);
    };
    whole.addEventListener("pointerdown", (event) => {
      whole.setPointerCapture(event.pointerId);
      isHeld = true;
      go(event);
    });
    whole.addEventListener("pointermove", (event) => isHeld && go(event));
    whole.addEventListener("pointerup", () => (isHeld = false));
  }

  key(event) {
    const acts = {
      ArrowLeft: () => this.move(-0.2),
      ArrowRight: () => this.move(0.2),
      "+": () => this.zoom(0.5),
      "-": () => this.zoom(2),
      "0": () => this.show(0, this.history.end),
      e: () => this.jump("election"),
      l: () => this.jump("loss"),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  zoom(factor, around) {
    const { t0, t1 } = this.sheet, middle = around ?? (t0 + t1) / 2;
    const length = Math.max(SHORTEST, Math.min(this.history.end * 1.02, (t1 - t0) * factor));
    const part = (middle - t0) / (t1 - t0);
    this.show(middle - part * length, middle + (1 - part) * length);
  }

  move(part) {
    const { t0, t1 } = this.sheet, shift = (t1 - t0) * part;
    this.show(t0 + shift, t1 + shift);
  }

  show(t0, t1) {
    const length = t1 - t0, spare = length * 0.02;
    t0 = Math.max(-spare, Math.min(t0, this.history.end + spare - length));
    if (length > this.history.end) t0 = -spare;
    this.sheet.t0 = t0;
    this.sheet.t1 = t0 + length;
    this.sheet.hot = -1;
    this.tip.hidden = true;
    this.refresh();
  }

  // To the next event of a kind behind the middle of the window, or the first one again.
  jump(kind) {
    const times = this.history.events[kind], { t0, t1 } = this.sheet, middle = (t0 + t1) / 2;
    const place = firstAbove(times, middle + (t1 - t0) * 1e-6 + 1);
    const time = times[place < times.length ? place : 0];
    this.show(time - (t1 - t0) / 2, time + (t1 - t0) / 2);
  }

  search(words) {
    const history = this.history, wanted = words.trim().toLowerCase().split(/\s+/).filter(Boolean);
    this.sheet.matching = null;
    if (wanted.length > 0) {
      const matching = new Uint8Array(history.arrows);
      for (let i = 0; i < history.arrows; i++) {
        const kind = history.kinds[history.kind[i]].name;
        const text = (kind + " " + history.lanes[history.from[i]].name + " " + history.textOf(i)).toLowerCase();
        matching[i] = wanted.every((word) => text.includes(word)) ? 1 : 0;
      }
      this.sheet.matching = matching;
    }
    this.refresh();
  }

  refresh(isResized) {
    this.isResized = this.isResized || isResized;
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      if (this.isResized) this.sheet.resize();
      this.sheet.draw();
      this.drawOverview();
      this.isResized = false;
      const { t0, t1, count, shown } = this.sheet;
      const thinned = shown.length < count ? ", every " + Math.ceil(count / shown.length) + "th drawn" : "";
      this.find("where").textContent = span(t1 - t0) + " from " + span(Math.max(0, t0)) + " on: " +
        count.toLocaleString("en") + " of " + this.history.arrows.toLocaleString("en") + " datagrams" + thinned;
      this.root.dataset.from = t0;
      this.root.dataset.to = t1;
      this.root.dataset.count = count;
    });
  }

  drawOverview() {
    const canvas = this.overview, history = this.history, sheet = this.sheet;
    const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = 46;
    const inner = width - LEFT - RIGHT, bins = Math.max(1, Math.floor(inner));
    if (this.isResized || !this.bins) {
      this.bins = { all: new Uint32Array(bins), lost: new Uint32Array(bins) };
      for (let i = 0; i < history.arrows; i++) {
        const bin = Math.min(bins - 1, Math.floor((history.sent[i] / history.end) * bins));
        this.bins.all[bin]++;
        if ((history.flags[i] & 7) === 1) this.bins.lost[bin]++;
      }
    }
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    const most = Math.log1p(this.bins.all.reduce((a, b) => Math.max(a, b), 1));
    this.bins.all.forEach((count, bin) => {
      const tall = (Math.log1p(count) / most) * 30, lost = (Math.log1p(this.bins.lost[bin]) / most) * 30;
      pen.fillStyle = sheet.ink.follower;
      pen.fillRect(LEFT + bin, 38 - tall, 1, tall);
      pen.fillStyle = sheet.ink.bad;
      pen.fillRect(LEFT + bin, 38 - lost, 1, lost);
    });
    // Under the datagrams: who led when.
    history.spans.forEach((spans, lane) => {
      for (const part of spans.filter((part) => part.standing === 3)) {
        const from = LEFT + (part.from / history.end) * inner, to = LEFT + (part.to / history.end) * inner;
        pen.fillStyle = sheet.ink.leader;
        pen.fillRect(from, 39, Math.max(1, to - from), 5);
        pen.fillStyle = sheet.ink.surface;
        pen.fillRect(from, 39, 1, 5);
      }
    });
    for (const note of history.notes) {
      pen.fillStyle = sheet.ink.bad;
      pen.fillRect(LEFT + (note.at / history.end) * inner, 0, 1.5, 7);
    }
    const x0 = LEFT + (Math.max(0, sheet.t0) / history.end) * inner;
    const x1 = LEFT + (Math.min(history.end, sheet.t1) / history.end) * inner;
    pen.fillStyle = sheet.ink.text;
    pen.globalAlpha = 0.1;
    pen.fillRect(x0, 0, Math.max(2, x1 - x0), height);
    pen.globalAlpha = 0.7;
    pen.lineWidth = 1.5;
    pen.strokeStyle = sheet.ink.text;
    pen.strokeRect(x0, 0.75, Math.max(2, x1 - x0), height - 1.5);
    pen.globalAlpha = 1;
    pen.fillStyle = sheet.ink.muted;
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.fillText("all " + span(history.end), LEFT - 12, 28);
  }

  describe(i) {
    const history = this.history, flags = history.flags[i];
    const marks = [
      [AGAIN, "sent again"], [COPY, "a copy by the network"], [DAMAGED, "damaged"], [GUESS, "one end not recorded"],
    ];
    const words = marks.filter(([flag]) => flags & flag).map(([, word]) => word);
    const took = (flags & 7) === 0 && !(flags & GUESS) ? " in " + span(history.ended[i] - history.sent[i]) : "";
    return {
      title: history.kinds[history.kind[i]].name,
      ink: history.groups[history.kinds[history.kind[i]].group].ink,
      way: history.lanes[history.from[i]].name + " → " + history.lanes[history.to[i]].name,
      fate: [FATES[flags & 7] + took, ...words].join(", "),
      time: "at " + clock(history.sent[i], 1e3),
      text: history.textOf(i),
    };
  }

  point(x, y) {
    const sheet = this.sheet, hot = x < 0 ? -1 : sheet.nearest(x, y);
    const lane = hot < 0 && x >= LEFT ? sheet.laneAt(y) : -1;
    if (hot !== sheet.hot) {
      sheet.hot = hot;
      this.refresh();
    }
    sheet.canvas.style.cursor = hot >= 0 ? "pointer" : "grab";
    let content = null;
    if (hot >= 0) content = this.describe(hot);
    if (lane >= 0 && this.history.lanes[lane].node) {
      const state = this.history.stateOf(lane, sheet.time(x));
      if (state >= 0) {
        const text = this.history.stateTextOf(state);
        content = {
          title: this.history.lanes[lane].name,
          ink: "leader",
          way: "since " + clock(this.history.stateAt[state], 1e3),
          fate: "",
          time: "",
          text: text.split("\n").pop().replaceAll(" ", "\n"),
        };
      }
    }
    this.tip.hidden = content === null;
    if (content === null) return;
    fill(this.tip, content);
    const box = this.find("stage").getBoundingClientRect(), own = this.tip.getBoundingClientRect();
    const right = x + 26 + own.width > box.width ? x - 26 - own.width : x + 26;
    this.tip.style.left = Math.max(4, right) + "px";
    this.tip.style.top = Math.max(4, Math.min(y + 22, box.height - own.height - 4)) + "px";
  }

  pick(x, y) {
    this.picked = this.sheet.nearest(x, y);
    const panel = this.find("picked");
    panel.hidden = this.picked < 0;
    if (this.picked >= 0) fill(panel, this.describe(this.picked));
  }

  hint() {
    const hint = this.find("hint");
    hint.classList.add("on");
    clearTimeout(this.hintEnd);
    this.hintEnd = setTimeout(() => hint.classList.remove("on"), 1200);
  }

  exportMermaid() {
    const { history, sheet } = this, lines = ["sequenceDiagram"];
    history.lanes.forEach((lane, place) => lines.push("    participant l" + place + " as " + lane.name));
    const told = sheet.shown.slice(0, 500).map((i) => {
      const flags = history.flags[i], fate = flags & 7;
      const how = fate >= 1 && fate <= 3 ? "-x" : flags & COPY ? "-->>" : "->>";
      const body = history.textOf(i).split("\n").find((line) => /\b(term|index)=/.test(line)) || "";
      const numbers = (body.match(/\b(term|index)=\d+/g) || []).map((word) => " " + word).join("");
      const marks = [
        [fate === 1, "lost"], [fate === 2, "dropped"], [flags & AGAIN, "again"], [flags & COPY, "copy"],
      ];
      const words = marks.filter(([isSo]) => isSo).map(([, word]) => word).join(", ");
      const text = history.kinds[history.kind[i]].name + numbers + (words ? " (" + words + ")" : "");
      return [history.sent[i], "l" + history.from[i] + how + "l" + history.to[i] + ": " + text];
    });
    history.spans.forEach((spans, lane) => {
      for (const part of spans.filter((part) => part.from >= sheet.t0 && part.from <= sheet.t1)) {
        const term = part.standing === 4 ? "" : ", term " + part.term;
        told.push([part.from, "Note over l" + lane + ": " + STANDINGS[part.standing] + term]);
      }
    });
    told.sort((a, b) => a[0] - b[0]);
    this.find("text").value = lines.concat(told.map(([, line]) => "    " + line)).join("\n") + "\n";
    this.find("export").showModal();
  }
}

Diagram.HTML = `
<div class="bar"><div class="groups"></div><input class="search" type="search" placeholder="find: append term=3 …"
  aria-label="show only datagrams that hold these words"></div>
<div class="bar"><div class="only"><span>only</span></div>
  <div class="jumps"><span>next</span>
    <button data-jump="election">election</button><button data-jump="loss">loss</button>
    <button data-jump="again">re-send</button><button data-jump="fault">fault</button></div>
  <div class="zooms">
    <button class="out" title="zoom out (-)">−</button><button class="in" title="zoom in (+)">+</button>
    <button class="whole" title="all of it (0)">all</button></div>
  <div class="takes"><button class="mermaid">Mermaid</button><button class="picture">PNG</button></div></div>
<div class="stage"><canvas class="sheet" tabindex="0" role="img" aria-label="space-time diagram"></canvas>
  <div class="tip" hidden></div><div class="hint">click the diagram, then turn the wheel to zoom</div></div>
<canvas class="overview" height="46"></canvas>
<p class="where" aria-live="polite"></p>
<div class="picked" hidden></div>
<dialog class="export"><p>This window for Mermaid:</p><textarea class="text" readonly rows="18" cols="80"></textarea>
  <p><button class="copy">copy</button> <button class="close">close</button></p></dialog>`;

function chip(text, count, ink) {
  const button = document.createElement("button");
  button.className = "chip";
  button.style.setProperty("--chip", "var(--" + ink + ")");
  button.append(text);
  const number = document.createElement("small");
  number.textContent = count.toLocaleString("en");
  button.append(number);
  return button;
}

function fill(panel, { title, ink, way, fate, time, text }) {
  panel.replaceChildren();
  const add = (tag, name, content) => {
    if (!content) return;
    const element = document.createElement(tag);
    element.className = name;
    element.textContent = content;
    panel.append(element);
  };
  panel.style.setProperty("--chip", "var(--" + ink + ")");
  add("b", "title", title);
  add("span", "way", way);
  add("span", "fate", fate);
  add("span", "time", time);
  add("pre", "frames", text);
}

function save(name, url) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

for (const root of document.querySelectorAll(".spacetime")) {
  History.unpack(root.dataset.columns).then((history) => {
    delete root.dataset.columns;
    root.diagram = new Diagram(root, history);
  });
}
