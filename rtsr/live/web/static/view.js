// The picture on the page: before and after of one moment on both sides of a line, a lens, and how old it is.

import { Recent, ageOf, geometry, readStamp } from "./stamp.js";

const LOOK_EVERY = 6; // pictures between two looks at a stamp: each costs a copy out of the decoder's memory
const SLOW_MS = 20, SLOW_DRAWS = 10;
const LENS_RADIUS = 110, LENS_POWER = 3, LONGEST_SIDE = 2560;

export class View {
  constructor(frame, canvas, line, serverTime) {
    Object.assign(this, { frame, canvas, line, serverTime });
    this.context = canvas.getContext("2d", { alpha: false });
    this.split = true;
    this.at = 0.5;
    this.lens = false;
    this.slowDraws = 0;
    this.point = [0.5, 0.5];
    this.latency = new Recent(5);
    this.shown = new Recent(3);
    this.known = new Map();
    this.onsize = () => {};
    this.listen();
    new ResizeObserver(() => this.fit()).observe(frame.parentElement);
  }

  /** Forget what was shown: the next picture comes from elsewhere. */
  reset() {
    this.latency.clear();
    this.shown.clear();
    this.known.clear();
    this.rtpOrigin = undefined;
    this.source = null;
    this.count = 0;
    this.frame.classList.remove("live");
  }

  /** A picture, shown at `at` (of performance.now()); rtp: its RTP time, if it came that way. */
  show(picture, width, height, at, rtp) {
    const layout = this.layoutOf(picture, width, height, at, rtp);
    if (!layout) return;
    [this.source, this.layout] = [picture, layout];
    this.shown.add(1);
    this.frame.classList.add("live");
    const large = layout.large.join("x");
    if (large !== this.large) {
      this.large = large;
      this.fit();
      this.onsize(layout);
    }
    this.draw();
  }

  layoutOf(picture, width, height, at, rtp) {
    const key = `${width}x${height}`;
    let layout = this.known.get(key);
    const plain = layout && !layout.packed;
    if (!layout || this.count++ % LOOK_EVERY === 0) {
      const stamp = readStamp(picture, width, height);
      if (stamp) {
        layout = geometry(stamp, width);
        this.known.set(key, layout);
        this.measure(stamp.ms, at);
        if (rtp !== undefined) this.rtpOrigin = rtp - stamp.ms * 90;
      } else if (!layout) {
        // Blocks of a first picture may still be too coarse to read; a few without a stamp are pictures without one.
        this.misses = this.missing === key ? this.misses + 1 : 1;
        this.missing = key;
        if (this.misses < 4) return null;
        layout = { packed: false, large: [width, height] };
        this.known.set(key, layout);
      } else if (plain && rtp !== undefined && this.rtpOrigin !== undefined) {
        this.measure((rtp - this.rtpOrigin) / 90, at); // RTP's clock runs on from the stamps that were read before
      }
    }
    return layout;
  }

  measure(ms, at) {
    const now = this.serverTime(at);
    if (now !== null) this.latency.add(ageOf(ms, now));
  }

  setSplit(on) {
    this.split = on;
    this.frame.classList.toggle("split", on);
    this.draw();
  }

  setLens(on) {
    this.lens = on;
    this.frame.classList.toggle("lens", on);
    this.draw();
  }

  setLine(at) {
    this.at = Math.min(Math.max(at, 0), 1);
    this.line.style.left = `${this.at * 100}%`;
    const percent = Math.round(this.at * 100);
    this.line.setAttribute("aria-valuenow", percent);
    this.line.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
    this.draw();
  }

  /** Make the canvas as large as the stage allows, a pixel of it a pixel of the screen. */
  fit() {
    const stage = this.frame.parentElement;
    const [width, height] = this.layout?.large ?? [16, 9];
    const room = stage.clientHeight > stage.clientWidth * 2 ? Infinity : this.roomIn(stage);
    const scale = Math.min(stage.clientWidth / width, room / height);
    const [across, down] = [Math.floor(width * scale), Math.floor(height * scale)];
    this.canvas.style.width = `${across}px`;
    this.canvas.style.height = `${down}px`;
    const dense = Math.min(devicePixelRatio || 1, LONGEST_SIDE / Math.max(across, down, 1));
    [this.canvas.width, this.canvas.height] = [Math.round(across * dense), Math.round(down * dense)];
    this.dense = dense;
    this.draw();
  }

  roomIn(stage) {
    // A stage without a height of its own (phones) grows with the picture, up to its max-height.
    const most = parseFloat(getComputedStyle(stage).maxHeight);
    return document.fullscreenElement === stage || Number.isNaN(most) ? stage.clientHeight : most;
  }

  draw() {
    const { source, context, canvas } = this;
    if (!source || !this.layout) return;
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = this.slowDraws > SLOW_DRAWS ? "low" : "high";
    const begun = performance.now();
    this.scene();
    // Without a GPU bicubic may take longer than a picture lasts; bilinear then, which costs a third.
    if (this.slowDraws <= SLOW_DRAWS) {
      this.slowDraws = Math.max(this.slowDraws + (performance.now() - begun > SLOW_MS ? 1 : -0.5), 0);
    }
    if (!this.lens) return;
    const [x, y] = [this.point[0] * canvas.width, this.point[1] * canvas.height];
    const radius = Math.min(LENS_RADIUS * this.dense, canvas.height * 0.3);
    const circle = () => {
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
    };
    context.save();
    circle();
    context.clip();
    context.translate(x, y);
    context.scale(LENS_POWER, LENS_POWER);
    context.translate(-x, -y);
    this.scene();
    if (this.split && this.layout.packed) {
      context.fillStyle = "#fff";
      context.fillRect(this.at * canvas.width - 1 / LENS_POWER, 0, 2 / LENS_POWER, canvas.height);
    }
    context.restore();
    circle();
    context.lineWidth = 2 * this.dense;
    context.strokeStyle = "#fff";
    context.stroke();
  }

  scene() {
    const { context, canvas, source, layout } = this;
    const [width, height] = layout.large;
    const line = this.split && layout.packed ? this.at * canvas.width : 0;
    if (line < canvas.width) {
      context.save();
      context.beginPath();
      context.rect(line, 0, canvas.width - line, canvas.height);
      context.clip();
      context.drawImage(source, 0, 0, width, height, 0, 0, canvas.width, canvas.height);
      context.restore();
    }
    if (line > 0) {
      context.save();
      context.beginPath();
      context.rect(0, 0, line, canvas.height);
      context.clip();
      context.drawImage(source, 0, layout.top, ...layout.small, 0, 0, canvas.width, canvas.height);
      context.restore();
    }
  }

  listen() {
    const { frame, canvas, line } = this;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    let dragging = false;
    frame.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const onLine = event.target === line || line.contains(event.target);
      if (this.lens && !onLine) {
        this.point = place(event);
        this.draw();
      } else if (this.split) {
        dragging = true;
        line.focus({ preventScroll: true, focusVisible: false });
        this.setLine(place(event)[0]);
      }
      frame.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    frame.addEventListener("pointermove", (event) => {
      if (dragging) this.setLine(place(event)[0]);
      else if (this.lens) {
        this.point = place(event).map((part) => Math.min(Math.max(part, 0), 1));
        this.draw();
      }
    });
    for (const end of ["pointerup", "pointercancel"]) frame.addEventListener(end, () => (dragging = false));
    line.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 0.1 : 0.02;
      const to = { ArrowLeft: this.at - step, ArrowRight: this.at + step, Home: 0, End: 1,
        PageDown: this.at - 0.1, PageUp: this.at + 0.1 }[event.key];
      if (to === undefined) return;
      this.setLine(to);
      event.preventDefault();
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] }[event.key];
      if (!step) return;
      if (this.lens) {
        this.point = this.point.map((part, i) => Math.min(Math.max(part + step[i], 0), 1));
        this.draw();
      } else if (this.split && step[0]) this.setLine(this.at + step[0]);
      event.preventDefault();
    });
  }
}
