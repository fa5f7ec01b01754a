// A window of a history on a canvas.

const LEFT = 92, RIGHT = 14, TOP = 44;
// With more arrows than these each is a thin line; with more than those, one of many that would fall on it.
const FINE = 700, CROWDED = 12000;

class Sheet {
  constructor(history, canvas) {
    this.history = history;
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.hiddenKinds = new Set();
    this.only = new Set();
    this.matching = null;
    this.hot = -1;
    this.shown = [];
    [this.t0, this.t1] = history.first;
    if (this.t1 <= this.t0) this.t1 = this.t0 + 1e6;
  }

  resize() {
    const scale = window.devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    const lanes = this.history.lanes.length;
    this.gap = Math.max(70, Math.min(150, Math.round(520 / Math.max(2, lanes))));
    this.height = TOP + 34 + this.gap * (lanes - 1) + 40;
    this.canvas.style.height = this.height + "px";
    this.canvas.width = Math.round(this.width * scale);
    this.canvas.height = Math.round(this.height * scale);
    this.pen.setTransform(scale, 0, 0, scale, 0, 0);
  }

  inks() {
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue("--" + name).trim();
    this.ink = {};
    for (const name of ["surface", "text", "muted", "grid", "bad", "leader", "candidate", "follower"]) {
      this.ink[name] = ink(name);
    }
    this.groupInk = this.history.groups.map((group) => ink(group.ink));
  }

  x(time) {
    return LEFT + ((time - this.t0) / (this.t1 - this.t0)) * (this.width - LEFT - RIGHT);
  }

  time(x) {
    return this.t0 + ((x - LEFT) / (this.width - LEFT - RIGHT)) * (this.t1 - this.t0);
  }

  y(lane) {
    return TOP + 34 + lane * this.gap;
  }

  isVisible(i) {
    const history = this.history;
    if (this.hiddenKinds.has(history.kind[i])) return false;
    if (this.matching && !this.matching[i]) return false;
    if (this.only.size === 0) return true;
    const flags = history.flags[i], fate = flags & 7;
    return (this.only.has("lost") && (fate === 1 || fate === 3)) || (this.only.has("dropped") && fate === 2) ||
      (this.only.has("again") && (flags & AGAIN)) || (this.only.has("copy") && (flags & (COPY | DAMAGED)));
  }

  // Where an arrow begins and ends on the sheet; one that is lost on its way ends before.
  ends(i) {
    const history = this.history, fate = history.flags[i] & 7;
    const x0 = this.x(history.sent[i]), y0 = this.y(history.from[i]);
    let x1 = this.x(history.ended[i]), y1 = this.y(history.to[i]);
    if (fate === 1 || fate === 3) {
      const part = fate === 1 ? 0.62 : 0.12;
      x1 = x0 + (x1 - x0) * part;
      y1 = y0 + (y1 - y0) * part;
    }
    return [x0, y0, x1, y1];
  }

  draw() {
    this.inks();
    const pen = this.pen;
    pen.clearRect(0, 0, this.width, this.height);
    pen.font = "12px system-ui, sans-serif";
    this.drawTime();
    this.drawNotes();
    pen.save();
    pen.beginPath();
    pen.rect(LEFT - 6, 0, this.width - LEFT + 6, this.height);
    pen.clip();
    this.drawArrows();
    this.history.lanes.forEach((lane, place) => this.drawLane(lane, place));
    if (this.hot >= 0) this.drawArrow(this.hot, true, true);
    pen.restore();
    this.drawNames();
  }

  drawTime() {
    const pen = this.pen, rough = (this.t1 - this.t0) / Math.max(3, (this.width - LEFT) / 120);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((value) => value >= rough);
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    pen.lineWidth = 1;
    for (let time = Math.ceil(this.t0 / step) * step; time <= this.t1; time += step) {
      const x = Math.round(this.x(time)) + 0.5;
      pen.strokeStyle = this.ink.grid;
      pen.beginPath();
      pen.moveTo(x, 24);
      pen.lineTo(x, this.height - 8);
      pen.stroke();
      pen.fillStyle = this.ink.muted;
      if (x > LEFT + 12 && x < this.width - 36) pen.fillText(clock(time, step), x, 16);
    }
  }

  // Faults, alarms and the like: a flag at the top, and a line down to the lane that it is about, or through all.
  drawNotes() {
    const pen = this.pen;
    let free = -Infinity;
    pen.textAlign = "left";
    for (const note of this.history.notes) {
      if (note.at < this.t0 || note.at > this.t1) continue;
      const x = Math.round(this.x(note.at)) + 0.5;
      const isGood = note.kind === "heal" || note.kind === "resume" || note.kind === "stop";
      pen.strokeStyle = pen.fillStyle = isGood ? this.groupInk[3] : this.ink.bad;
      pen.globalAlpha = 0.55;
      pen.setLineDash([2, 3]);
      pen.beginPath();
      pen.moveTo(x, 30);
      pen.lineTo(x, note.lane === null ? this.height - 8 : this.y(note.lane));
      pen.stroke();
      pen.setLineDash([]);
      pen.globalAlpha = 1;
      pen.beginPath();
      pen.moveTo(x, 26);
      pen.lineTo(x + 8, 30);
      pen.lineTo(x, 34);
      pen.fill();
      const text = note.kind + (note.text ? ": " + note.text : "");
      const short = text.length > 44 ? text.slice(0, 43) + "…" : text;
      if (x > free) {
        pen.fillStyle = this.ink.muted;
        pen.fillText(short, x + 11, 34);
        free = x + 24 + pen.measureText(short).width;
      }
    }
  }

  drawLane(lane, place) {
    const pen = this.pen, y = this.y(place);
    if (!lane.node) {
      pen.strokeStyle = this.ink.muted;
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.moveTo(LEFT, y);
      pen.lineTo(this.width - RIGHT, y);
      pen.stroke();
      return;
    }
    pen.textAlign = "left";
    for (const part of this.history.spans[place]) {
      if (part.to < this.t0 || part.from > this.t1) continue;
      const x0 = Math.max(LEFT, this.x(part.from)), x1 = Math.min(this.width - RIGHT, this.x(part.to));
      const isDown = part.standing === 4;
      const name = part.standing === 3 ? "leader" : part.standing === 0 ? "follower" : isDown ? "bad" : "candidate";
      pen.strokeStyle = this.ink[name];
      pen.lineWidth = part.standing === 3 ? 8 : part.standing === 0 ? 4 : isDown ? 2 : 6;
      if (isDown) pen.setLineDash([3, 5]);
      pen.beginPath();
      pen.moveTo(x0, y);
      pen.lineTo(Math.max(x1, x0 + 1.5), y);
      pen.stroke();
      pen.setLineDash([]);
      const word = isDown ? "down" : STANDINGS[part.standing] + " · term " + part.term;
      if (x1 - x0 > pen.measureText(word).width + 8) {
        const width = pen.measureText(word).width;
        pen.globalAlpha = 0.85;
        pen.fillStyle = this.ink.surface;
        pen.fillRect(x0 + 2, y - 23, width + 8, 16);
        pen.globalAlpha = 1;
        pen.fillStyle = part.standing === 3 ? this.ink.leader : this.ink.muted;
        pen.fillText(word, x0 + 6, y - 11);
      }
    }
    this.drawCommits(place, y);
  }

  // A tick under the line wherever the commit index rose, while ticks can be told apart.
  drawCommits(place, y) {
    const history = this.history, pen = this.pen;
    const first = firstAbove(history.stateAt, this.t0), last = firstAbove(history.stateAt, this.t1);
    if (last - first > 1500) return;
    pen.textAlign = "center";
    let free = -Infinity;
    for (let i = first; i < last; i++) {
      if (history.stateLane[i] !== place || !(history.standing[i] & 8)) continue;
      const x = this.x(history.stateAt[i]);
      pen.fillStyle = this.ink.text;
      pen.beginPath();
      pen.moveTo(x - 3.5, y + 11);
      pen.lineTo(x + 3.5, y + 11);
      pen.lineTo(x, y + 5);
      pen.fill();
      if (x > free) {
        const word = "" + history.commit[i];
        pen.fillStyle = this.ink.muted;
        pen.font = "10px system-ui, sans-serif";
        pen.fillText(word, x, y + 21);
        free = x + pen.measureText(word).width + 8;
      }
      pen.font = "12px system-ui, sans-serif";
    }
  }

  drawArrows() {
    const shown = [], all = [];
    this.history.within(this.t0, this.t1, (i) => {
      if (this.isVisible(i)) all.push(i);
    });
    this.count = all.length;
    if (all.length > CROWDED) {
      // Of those that would cover each other one is drawn; a lost one is never covered by one that arrived.
      const taken = new Set();
      for (const i of all) {
        const history = this.history, isLost = (history.flags[i] & 7) === 1 ? 1 : 0;
        const pair = (history.from[i] * 64 + history.to[i]) * 8 + history.kinds[history.kind[i]].group;
        const place = Math.round(this.x(history.sent[i])) + 4096;
        const key = (place * 32768 + pair) * 2 + isLost;
        if (taken.has(key)) continue;
        taken.add(key);
        shown.push(i);
      }
    } else {
      shown.push(...all);
    }
    this.shown = shown;
    const isFine = shown.length <= FINE;
    this.pen.globalAlpha = isFine ? 1 : shown.length > 4000 ? 0.35 : 0.6;
    for (const i of shown) if ((this.history.flags[i] & 7) === 0) this.drawArrow(i, isFine, false);
    this.pen.globalAlpha = 1;
    for (const i of shown) if ((this.history.flags[i] & 7) !== 0) this.drawArrow(i, isFine, false);
    if (shown.length <= 45) for (const i of shown) this.nameArrow(i);
  }

  drawArrow(i, isFine, isHot) {
    const pen = this.pen, history = this.history, flags = history.flags[i], fate = flags & 7;
    const [x0, y0, x1, y1] = this.ends(i);
    const ink = this.groupInk[history.kinds[history.kind[i]].group];
    pen.strokeStyle = pen.fillStyle = ink;
    pen.lineWidth = isHot ? 3.5 : isFine ? 1.6 : 1;
    if (flags & (COPY | GUESS) || fate === 4) pen.setLineDash(flags & COPY ? [6, 3] : [2, 3]);
    pen.beginPath();
    pen.moveTo(x0, y0);
    pen.lineTo(x1, y1);
    pen.stroke();
    pen.setLineDash([]);
    if (flags & AGAIN && isFine) {
      pen.beginPath();
      pen.arc(x0, y0 + (y1 > y0 ? 7 : -7), isHot ? 5 : 4, 0, 7);
      pen.fillStyle = this.ink.surface;
      pen.fill();
      pen.lineWidth = 2;
      pen.stroke();
      pen.fillStyle = ink;
    }
    if (fate === 1 || fate === 2 || fate === 3) this.cross(x1, y1, fate === 2 ? y0 : y1, isFine ? 4.5 : 2.5);
    else if (isFine) this.head(x0, y0, x1, y1, isHot ? 10 : 8);
  }

  head(x0, y0, x1, y1, size) {
    const pen = this.pen, length = Math.hypot(x1 - x0, y1 - y0) || 1;
    const ux = (x1 - x0) / length, uy = (y1 - y0) / length;
    const tx = x1 - ux * 3, ty = y1 - uy * 3;
    pen.beginPath();
    pen.moveTo(tx, ty);
    pen.lineTo(tx - ux * size - uy * size * 0.4, ty - uy * size + ux * size * 0.4);
    pen.lineTo(tx - ux * size + uy * size * 0.4, ty - uy * size - ux * size * 0.4);
    pen.fill();
  }

  cross(x, y, from, size) {
    const pen = this.pen;
    // What its receiver did not take ends just before that one's line.
    const cy = y === from ? y : y + (from > y ? 9 : -9);
    pen.strokeStyle = this.ink.bad;
    pen.lineWidth = size > 3 ? 2.4 : 1.6;
    pen.beginPath();
    pen.moveTo(x - size, cy - size);
    pen.lineTo(x + size, cy + size);
    pen.moveTo(x - size, cy + size);
    pen.lineTo(x + size, cy - size);
    pen.stroke();
  }

  nameArrow(i) {
    const pen = this.pen, history = this.history;
    const [x0, y0, x1, y1] = this.ends(i);
    const text = history.textOf(i);
    const index = /\bindex=(\d+)/.exec(text);
    const word = history.kinds[history.kind[i]].name + (index ? " " + index[1] : "");
    pen.save();
    pen.translate(x0 + (x1 - x0) * 0.42, y0 + (y1 - y0) * 0.42);
    let angle = Math.atan2(y1 - y0, x1 - x0);
    if (angle > Math.PI / 2) angle -= Math.PI;
    if (angle < -Math.PI / 2) angle += Math.PI;
    pen.rotate(angle);
    pen.font = "10.5px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.strokeStyle = this.ink.surface;
    pen.lineWidth = 3;
    pen.strokeText(word, 0, -3);
    pen.fillStyle = this.groupInk[history.kinds[history.kind[i]].group];
    pen.fillText(word, 0, -3);
    pen.restore();
  }

  drawNames() {
    const pen = this.pen;
    pen.textAlign = "right";
    this.history.lanes.forEach((lane, place) => {
      pen.fillStyle = this.ink.text;
      pen.font = (lane.node ? "600 " : "") + "13px system-ui, sans-serif";
      pen.fillText(lane.name, LEFT - 12, this.y(place) + 4);
    });
  }

  // The arrow under the mouse; -1 for none.
  nearest(x, y) {
    let best = -1, bestDistance = 7;
    for (const i of this.shown) {
      const [x0, y0, x1, y1] = this.ends(i);
      const dx = x1 - x0, dy = y1 - y0, squared = dx * dx + dy * dy || 1;
      const part = Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / squared));
      const distance = Math.hypot(x - x0 - part * dx, y - y0 - part * dy);
      if (distance < bestDistance) [best, bestDistance] = [i, distance];
    }
    return best;
  }

  laneAt(y) {
    const lane = Math.round((y - TOP - 34) / this.gap);
    return lane >= 0 && lane < this.history.lanes.length && Math.abs(y - this.y(lane)) < 9 ? lane : -1;
  }
}
