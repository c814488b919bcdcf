// The stamp in the lowest rows of a packed picture: when it was captured and how large its "before" is.
// moment.py writes it; any picture alone tells how to take it apart and how old it is.

export const GAP = 8;
const CELL = 8, BITS = 64, TIME = 2 ** 24, SIDE = 2 ** 13, CHECK = 2 ** 14, PRIME = 16381;

const canvas = document.createElement("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });

/** {ms, width, height} of a picture (anything that can be drawn, of this size), or null if it carries no stamp. */
export function readStamp(picture, width, height) {
  const perRow = Math.floor(width / CELL);
  if (perRow < 1) return null;
  const rows = Math.ceil(BITS / perRow), columns = Math.min(perRow, BITS);
  if (rows * CELL > height) return null;
  const across = columns * CELL, down = rows * CELL;
  if (canvas.width !== across || canvas.height !== down) [canvas.width, canvas.height] = [across, down];
  context.drawImage(picture, 0, height - down, across, down, 0, 0, across, down);
  const pixels = context.getImageData(0, 0, across, down).data;
  const number = (first, count) => {
    let value = 0;
    for (let i = first; i < first + count; i++) {
      const x = (i % perRow) * CELL + CELL / 2, y = Math.floor(i / perRow) * CELL + CELL / 2;
      value = value * 2 + (pixels[4 * (y * across + x) + 1] > 127 ? 1 : 0);
    }
    return value;
  };
  const stamp = { ms: number(0, 24), width: number(24, 13), height: number(37, 13) };
  const check = (stamp.ms * 31 + stamp.width * 7 + stamp.height * 13 + 5) % PRIME;
  const fits = stamp.width > 0 && stamp.height > 0 && stamp.width < SIDE && stamp.height < SIDE;
  return fits && check === number(50, 14) % CHECK ? stamp : null;
}

/** Milliseconds from a stamp to now, both on the server's clock, of which stamps hold the lowest bits. */
export function ageOf(ms, now) {
  const age = ((now - ms) % TIME + TIME) % TIME;
  return age > TIME / 2 ? age - TIME : age;
}

/** Where before and after lie in a packed picture of this size. */
export function geometry(stamp, width) {
  const scale = Math.round(width / (stamp.width + (stamp.width % 2)));
  const large = [stamp.width * scale, stamp.height * scale];
  return { packed: true, scale, large, small: [stamp.width, stamp.height], top: large[1] + (large[1] % 2) + GAP };
}

/** The last values of a figure over some seconds: its median and its 95th percentile. */
export class Recent {
  constructor(seconds) { this.span = seconds * 1000; this.values = []; }
  add(value) {
    const now = performance.now();
    this.values.push([now, value]);
    while (this.values.length && now - this.values[0][0] > this.span) this.values.shift();
  }
  clear() { this.values = []; }
  get count() {
    const now = performance.now();
    return this.values.filter(([at]) => now - at <= this.span).length;
  }
  quantile(q) {
    const sorted = this.values.map(([, value]) => value).sort((a, b) => a - b);
    return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] : null;
  }
}
