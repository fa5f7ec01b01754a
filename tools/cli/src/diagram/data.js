"use strict";
// The columns of a history, as pack.rs wrote them, and questions to them.

class History {
  static async unpack(base64) {
    const zipped = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new History(await new Response(stream).arrayBuffer());
  }

  constructor(buffer) {
    const headBytes = new DataView(buffer).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, headBytes)));
    Object.assign(this, head);
    let at = 4 + headBytes;
    const column = (type, length) => {
      const taken = new type(buffer, at, length);
      at = Math.ceil((at + taken.byteLength) / 8) * 8;
      return taken;
    };
    const n = head.arrows;
    this.sent = column(Float64Array, n);
    this.ended = column(Float64Array, n);
    this.from = column(Uint8Array, n);
    this.to = column(Uint8Array, n);
    this.kind = column(Uint8Array, n);
    this.flags = column(Uint8Array, n);
    this.arrowText = column(Uint32Array, n + 1);
    const m = head.states;
    this.stateAt = column(Float64Array, m);
    this.term = column(Float64Array, m);
    this.commit = column(Float64Array, m);
    this.stateLane = column(Uint8Array, m);
    this.standing = column(Uint8Array, m);
    this.stateText = column(Uint32Array, m + 1);
    this.texts = new Uint8Array(buffer, at);
    this.decoder = new TextDecoder();
    this.index();
  }

  // Per block of arrows the latest end, so that a window finds long flights without reading all that came before;
  // per lane its spans of one standing and term.
  index() {
    const blocks = Math.ceil(this.arrows / History.BLOCK);
    this.blockEnd = new Float64Array(blocks);
    this.longest = 0;
    for (let i = 0; i < this.arrows; i++) {
      const block = Math.floor(i / History.BLOCK);
      if (this.ended[i] > this.blockEnd[block]) this.blockEnd[block] = this.ended[i];
    }
    this.spans = this.lanes.map(() => []);
    for (let i = 0; i < this.states; i++) {
      const spans = this.spans[this.stateLane[i]];
      const last = spans[spans.length - 1];
      const standing = this.standing[i] & 7;
      if (last && last.standing === standing && last.term === this.term[i]) continue;
      if (last) last.to = this.stateAt[i];
      spans.push({ from: this.stateAt[i], to: this.end, standing, term: this.term[i], state: i });
    }
    this.events = { election: [], loss: [], again: [], fault: [] };
    for (const spans of this.spans) {
      for (const span of spans) if (span.standing === 3) this.events.election.push(span.from);
    }
    this.events.election.sort((a, b) => a - b);
    for (let i = 0; i < this.arrows; i++) {
      const fate = this.flags[i] & 7;
      if (fate === 1 || fate === 2) this.events.loss.push(this.sent[i]);
      if (this.flags[i] & 8) this.events.again.push(this.sent[i]);
    }
    for (const note of this.notes) this.events.fault.push(note.at);
  }

  textOf(i) {
    return this.decoder.decode(this.texts.subarray(this.arrowText[i], this.arrowText[i + 1]));
  }

  stateTextOf(i) {
    return this.decoder.decode(this.texts.subarray(this.stateText[i], this.stateText[i + 1]));
  }

  // Calls back with each arrow that touches the window.
  within(from, to, visit) {
    const end = firstAbove(this.sent, to);
    for (let block = 0; block * History.BLOCK < end; block++) {
      if (this.blockEnd[block] < from) continue;
      const stop = Math.min(end, (block + 1) * History.BLOCK);
      for (let i = block * History.BLOCK; i < stop; i++) if (this.ended[i] >= from) visit(i);
    }
  }

  // The last state of a lane at a time; -1 before its first.
  stateOf(lane, time) {
    for (let i = firstAbove(this.stateAt, time) - 1; i >= 0; i--) if (this.stateLane[i] === lane) return i;
    return -1;
  }
}
History.BLOCK = 256;

const FATES = ["delivered", "lost", "not taken by its receiver", "refused by the socket", "end not recorded"];
const STANDINGS = ["follower", "pre-candidate", "candidate", "leader", "down"];
const AGAIN = 8, COPY = 16, DAMAGED = 32, GUESS = 64;

// The place of the first value above `value` in an ascending column.
function firstAbove(column, value) {
  let low = 0, high = column.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function clock(ns, step) {
  const unit = step >= 1e9 ? [1e9, "s"] : step >= 1e6 ? [1e6, "ms"] : step >= 1e3 ? [1e6, "ms"] : [1e3, "µs"];
  const digits = Math.max(0, Math.ceil(-Math.log10(step / unit[0]) - 1e-9));
  return (ns / unit[0]).toFixed(digits) + " " + unit[1];
}

function span(ns) {
  if (ns >= 1e9) return +(ns / 1e9).toPrecision(3) + " s";
  if (ns >= 1e6) return +(ns / 1e6).toPrecision(3) + " ms";
  return +(ns / 1e3).toPrecision(3) + " µs";
}
