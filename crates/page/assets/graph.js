// The graph: its ways, its filter, moving and zooming it; and the list that a phone shows instead. Uses page.js.
"use strict";

const ZOOM_MIN = 0.05;
const ZOOM_MAX = 2.5;
/** Below this, letters are too small to read: a node shows its name alone, as large as its card takes. */
const FAR = 0.62;
/** Below this, such names are too small as well: they are left out, which also draws faster. */
const TINY = 0.25;
/** Around a drawing that is fitted, on the screen. */
const ROOM = 12;
const STEP = 60;

/** What reads what, by the numbers of the nodes. */
class Ways {
  constructor(svg) {
    this.svg = svg;
    this.nodes = $$(".node", svg);
    this.number = new Map(this.nodes.map((node, at) => [node, at]));
    this.paths = $$(".edges path", svg);
    this.down = this.nodes.map(() => []);
    this.up = this.nodes.map(() => []);
    for (const path of this.paths) {
      const [from, to] = [Number(path.dataset.from), Number(path.dataset.to)];
      this.down[from].push({ path, end: to });
      this.up[to].push({ path, end: from });
    }
  }

  /** All that a node stands on, and all that stands on it. */
  show(node) {
    $$(".on", this.svg).forEach((element) => element.classList.remove("on"));
    this.svg.classList.toggle("traced", Boolean(node));
    if (!node) return;
    for (const next of [this.down, this.up]) {
      const seen = new Set([this.number.get(node)]);
      for (const at of seen) {
        this.nodes[at].classList.add("on");
        for (const { path, end } of next[at]) {
          path.classList.add("on");
          seen.add(end);
        }
      }
    }
  }

  /** The node in a direction: along an edge, or the next one of the same column. */
  beside(node, key) {
    const at = this.number.get(node);
    const place = (other) => other.transform.baseVal[0].matrix;
    const own = place(node);
    const near = (ends) => ends.map(({ end }) => this.nodes[end]).filter((other) => !other.classList.contains("out"))
      .sort((a, b) => Math.abs(place(a).f - own.f) - Math.abs(place(b).f - own.f))[0];
    if (key === "ArrowLeft") return near(this.up[at]);
    if (key === "ArrowRight") return near(this.down[at]);
    const sign = key === "ArrowUp" ? -1 : 1;
    return this.nodes.filter((other) => place(other).e === own.e && (place(other).f - own.f) * sign > 0 && !other.classList.contains("out"))
      .sort((a, b) => (place(a).f - place(b).f) * sign)[0];
  }
}

/** What is written when the drawing is small: names of nodes in large letters, names of layers in letters that stay as large. */
class Lettering {
  constructor(svg) {
    this.context = make("canvas").getContext("2d");
    this.context.font = `600 100px ${getComputedStyle(svg).fontFamily}`;
    this.bands = $$(".bands text", svg).map((text) => ({ text, most: this.largest([text.textContent], text.previousElementSibling.getAttribute("width") - 20) }));
    $$(".node", svg).forEach((node) => this.write(node));
  }

  /** The size of letters at which the longest of the lines is that wide. */
  largest(lines, width) {
    return width / Math.max(...lines.map((line) => this.context.measureText(line).width / 100));
  }

  /** A name in one line, or broken behind the "_" next to its middle where that leaves larger letters. */
  write(node) {
    const name = $(".name", node).textContent;
    const width = $(".card", node).getAttribute("width") - 24;
    const middle = ({ index }) => Math.abs(index + 1 - name.length / 2);
    const [at] = [...name.matchAll(/_(?=.)/g)].sort((a, b) => middle(a) - middle(b));
    const broken = at && [name.slice(0, at.index + 1), name.slice(at.index + 1)];
    const lines = broken && this.largest([name], width) < 25 ? broken : [name];
    const size = Math.min(25, this.largest(lines, width));
    lines.forEach((line, number) => {
      const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
      text.setAttribute("class", "far-name");
      text.setAttribute("aria-hidden", "true");
      text.setAttribute("x", "14");
      text.setAttribute("y", String(34 + size * (0.35 + 1.2 * (number - (lines.length - 1) / 2))));
      text.style.fontSize = `${size}px`;
      text.textContent = line;
      node.append(text);
    });
  }

  scale(scale) {
    for (const { text, most } of this.bands) text.style.fontSize = `${Math.max(13, Math.min(12 / scale, most))}px`;
  }
}

/** Moves and zooms a drawing in its frame. */
class Camera {
  constructor(canvas, svg) {
    [this.canvas, this.svg] = [canvas, svg];
    [this.x, this.y, this.scale] = [0, 0, 1];
    this.lettering = new Lettering(svg);
    this.touches = new Map();
    this.moved = false;
    canvas.classList.add("moves");
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) canvas.addEventListener(end, (event) => this.release(event));
    // A drag that ends upon a node opens nothing.
    canvas.addEventListener("click", (event) => { if (this.moved) event.preventDefault(); }, true);
    canvas.addEventListener("dragstart", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    // The browser scrolls a frame to what is focused in it; here the drawing moves instead.
    canvas.addEventListener("scroll", () => canvas.scrollTo(0, 0));
  }

  draw() {
    this.svg.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    if (this.scale === this.drawn) return;
    this.drawn = this.scale;
    this.svg.classList.toggle("far", this.scale < FAR);
    this.svg.classList.toggle("tiny", this.scale < TINY);
    this.lettering.scale(this.scale);
  }

  /** A box of the drawing into the middle of the frame. */
  fit({ left, top, right, bottom }, largest = 1) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = Math.min((width - 2 * ROOM) / (right - left), (height - 2 * ROOM) / (bottom - top), largest);
    this.scale = Math.max(ZOOM_MIN, scale);
    this.x = (width - (left + right) * this.scale) / 2;
    this.y = (height - (top + bottom) * this.scale) / 2;
    this.draw();
  }

  /** The place of the frame stays where it is in the drawing. */
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(ZOOM_MAX, Math.max(ZOOM_MIN, this.scale * factor));
    const by = scale / this.scale;
    [this.x, this.y, this.scale] = [x - (x - this.x) * by, y - (y - this.y) * by, scale];
    this.draw();
    return by !== 1;
  }

  move(x, y) {
    this.x += x;
    this.y += y;
    this.draw();
  }

  place(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  press(event) {
    if (event.button !== 0) return;
    this.moved = false;
    this.touches.set(event.pointerId, this.place(event));
    this.canvas.classList.add("moving");
  }

  drag(event) {
    const before = this.touches.get(event.pointerId);
    if (!before) return;
    const now = this.place(event);
    const others = [...this.touches].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    if (others.length) {
      const far = ([x, y]) => Math.hypot(x - others[0][0], y - others[0][1]) || 1;
      this.zoom(far(now) / far(before), ...others[0]);
    } else {
      // A hand that trembles while it clicks does not drag.
      if (!this.moved && Math.hypot(now[0] - before[0], now[1] - before[1]) < 4) return;
      if (!this.moved) this.canvas.setPointerCapture?.(event.pointerId);
      this.move(now[0] - before[0], now[1] - before[1]);
    }
    this.moved = true;
    this.touches.set(event.pointerId, now);
  }

  release(event) {
    if (event.type === "pointerleave" && this.canvas.hasPointerCapture?.(event.pointerId)) return;
    this.touches.delete(event.pointerId);
    if (!this.touches.size) this.canvas.classList.remove("moving");
  }

  wheel(event) {
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    // At its end the wheel is the page's again.
    if (this.zoom(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.0015)), ...this.place(event))) event.preventDefault();
  }

  /** Brings a node into the frame if it is not. */
  reveal(node) {
    const [at, around] = [node.getBoundingClientRect(), this.canvas.getBoundingClientRect()];
    const by = (low, high, from, to) => (low < from ? from - low : high > to ? to - high : 0);
    const x = by(at.left, at.right, around.left + 12, around.right - 12);
    const y = by(at.top, at.bottom, around.top + 12, around.bottom - 12);
    if (x || y) this.move(x, y);
  }
}

const startGraph = (canvas) => {
  const svg = $("svg", canvas);
  const ways = new Ways(svg);
  const camera = new Camera(canvas, svg);
  const box = svg.viewBox.baseVal;
  const items = new Map($$("#list li[data-node]").map((item) => [item.dataset.node, item]));
  const fields = ["node", "layer", "state", "tag"].map((id) => $(`#${id}`));
  const found = $("#found");
  const all = found.textContent;
  const picked = $(".picked", svg)?.dataset.node;

  const boxOf = (nodes) => {
    const [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
    return nodes.reduce((into, node) => {
      const { e, f } = node.transform.baseVal[0].matrix;
      const { width, height } = $(".card", node).getBBox();
      return {
        left: Math.min(into.left, e - 24), top: Math.min(into.top, f - 24 - box.y),
        right: Math.max(into.right, e + width + 24), bottom: Math.max(into.bottom, f + height + 24 - box.y),
      };
    }, { left, top, right, bottom });
  };
  const whole = { left: 0, top: 0, right: box.width, bottom: box.height };
  const inside = () => ways.nodes.filter((node) => !node.classList.contains("out"));
  const fit = () => {
    const nodes = inside();
    camera.fit(nodes.length && nodes.length < ways.nodes.length ? boxOf(nodes) : whole);
  };

  // What the address picked is what the field says already: it filters nothing until somebody types.
  const filter = () => {
    const [text, layer, state, tag] = fields.map((field) => field?.value.trim().toLowerCase() ?? "");
    const words = text && text !== picked?.toLowerCase() ? text.split(/\s+/) : [];
    const kept = (node) => {
      const { node: id, layer: own, tags, words: more = "" } = node.dataset;
      const word = $("[data-live^='s/']", node).textContent.split(",")[0];
      return words.every((part) => `${id} ${more}`.toLowerCase().includes(part)) && (!layer || own.toLowerCase() === layer)
        && (!state || word === state) && (!tag || tags.toLowerCase().split(" ").includes(tag));
    };
    let count = 0;
    for (const node of ways.nodes) {
      const is = kept(node);
      count += is;
      node.classList.toggle("out", !is);
      node.tabIndex = is ? 0 : -1;
      const item = items.get(node.dataset.node);
      if (item) item.hidden = !is;
    }
    for (const path of ways.paths) {
      path.classList.toggle("out", [path.dataset.from, path.dataset.to].some((end) => ways.nodes[end].classList.contains("out")));
    }
    for (const section of $$("#list .layer")) section.hidden = !$("li:not([hidden])", section);
    found.textContent = count === ways.nodes.length ? all : count ? `${count} of ${ways.nodes.length} nodes` : "No node is like that";
    fit();
  };
  fields.forEach((field) => field?.addEventListener("input", filter));
  // Enter shows what is around the first one found, as the server does for a whole name.
  $("#filter").addEventListener("submit", (event) => {
    const nodes = inside();
    if (fields[0].value && nodes.length && nodes.length < ways.nodes.length) {
      event.preventDefault();
      location.href = `/?node=${encodeURIComponent(nodes[0].dataset.node)}`;
    }
  });

  canvas.addEventListener("pointerover", (event) => camera.touches.size || ways.show(event.target.closest(".node")));
  canvas.addEventListener("pointerleave", () => ways.show(null));
  canvas.addEventListener("focusin", ({ target }) => {
    const node = target.closest(".node");
    ways.show(node);
    if (node && node.matches(":focus-visible")) camera.reveal(node);
  });
  canvas.addEventListener("focusout", () => ways.show(null));
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
    const node = event.target.closest(".node");
    if (node && arrows[event.key]) ways.beside(node, event.key)?.focus();
    else if (arrows[event.key]) camera.move(...arrows[event.key]);
    else if (event.key === "+" || event.key === "=") camera.zoom(1.25);
    else if (event.key === "-") camera.zoom(0.8);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  $(".zoom").hidden = false;
  $("#in").addEventListener("click", () => camera.zoom(1.25));
  $("#out").addEventListener("click", () => camera.zoom(0.8));
  $("#fit").addEventListener("click", fit);

  // Whom a node of the list reads and who reads it: from the drawing's edges, when somebody asks.
  const near = (item) => {
    const at = ways.nodes.findIndex((node) => node.dataset.node === item.dataset.node);
    const row = (name, ends) => {
      const links = ends.flatMap(({ end }) => [" ", make("a", { href: `#${encodeURIComponent(ways.nodes[end].dataset.node)}`, textContent: ways.nodes[end].dataset.node })]);
      return make("p", { className: "near" }, make("span", { className: "quiet", textContent: name }), ...(links.length ? links : [" –"]));
    };
    $("dl", item).after(row("Reads", ways.up[at]), row("Read by", ways.down[at]));
  };
  for (const item of items.values()) {
    $("details", item).addEventListener("toggle", ({ target }) => target.open && !$(".near", item) && near(item));
  }
  // A neighbour in the list is opened where it stands.
  $("#list").addEventListener("click", (event) => {
    const item = event.target.matches(".near a") && items.get(decodeURIComponent(event.target.hash.slice(1)));
    if (!item) return;
    event.preventDefault();
    item.hidden = false;
    item.closest(".layer").hidden = false;
    $("details", item).open = true;
    $("summary", item).focus();
    item.scrollIntoView({ block: "center" });
  });

  // A phone shows the list alone.
  const phone = matchMedia("(max-width: 700px)");
  const arrange = () => { $("#list").open = phone.matches; };
  phone.addEventListener("change", () => { arrange(); fit(); });
  arrange();
  fit();
  new ResizeObserver(() => { if (canvas.clientWidth !== canvas.width) { canvas.width = canvas.clientWidth; fit(); } }).observe(canvas);
};

if ($("#canvas")) startGraph($("#canvas"));
